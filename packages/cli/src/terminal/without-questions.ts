// What a terminal showed earlier, to be shown again: without what asks the terminal something. It would answer again, and the answers
// would be typed. Sequences as in ECMA-48 (5th edition, 5.4 and 5.6) and xterm's "Control Sequences".

const ENQ = '\u0005'
const BEL = '\u0007'
const ESC = '\u001b'
/** Operating system commands, device control strings and their like, which may ask (colours, settings) and show nothing. */
const STRINGS = new RegExp(`${ESC}[\\]PX^_][^${BEL}${ESC}]*(?:${BEL}|${ESC}\\\\)`, 'g')
/** Reports of a device (n), its kind (c), modes ($p), its presentation ($w), settings (x), windows (t), keys (?u), and its version (>q). */
const CONTROLS = new RegExp(`${ESC}\\[(?:[0-?]*(?:[!-/]*[cntx]|\\$[pw]|q)|\\?[0-?]*u)`, 'g')
const IDENTIFY = `${ESC}Z`
/** Cut off by the end: nobody knows what it would become. */
const UNFINISHED = new RegExp(`${ESC}(?:\\[[0-?]*[ -/]*|[\\]PX^_][^${BEL}${ESC}]*${ESC}?)?$`)

export function withoutQuestions(bytes: Uint8Array): Uint8Array {
  const text = Buffer.from(bytes).toString('latin1')
  const rest = [STRINGS, CONTROLS, UNFINISHED].reduce(
    (left, each) => left.replace(each, ''),
    text.replaceAll(ENQ, '').replaceAll(IDENTIFY, ''),
  )
  return Buffer.from(rest, 'latin1')
}
