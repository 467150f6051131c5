// What a terminal showed earlier, to be shown again: without what asks the terminal something. It would answer again, and the answers
// would be typed. Sequences as in ECMA-48 (5th edition, 5.4 and 5.6) and xterm's "Control Sequences".

const ENQ = '\u0005'
const BEL = '\u0007'
const ESC = '\u001b'
/** Operating system commands, device control strings and their like, which may ask (colours, settings) and show nothing. */
const STRINGS = new RegExp(`${ESC}[\\]PX^_][^${BEL}${ESC}]*(?:${BEL}|${ESC}\\\\)`, 'g')
/** Reports of a device (n), its kind (c), modes ($p), settings (x), windows (t), and its version (>q). */
const CONTROLS = new RegExp(`${ESC}\\[[0-?]*(?:[!-/]*[cntx]|\\$p|q)`, 'g')
const IDENTIFY = `${ESC}Z`

export function withoutQuestions(bytes: Uint8Array): Uint8Array {
  const text = Buffer.from(bytes).toString('latin1')
  const rest = text.replace(STRINGS, '').replace(CONTROLS, '').replaceAll(IDENTIFY, '').replaceAll(ENQ, '')
  return Buffer.from(rest, 'latin1')
}
