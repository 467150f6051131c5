import { expect, it } from 'vitest'
import { withoutQuestions } from './without-questions.ts'

const left = (text: string) => Buffer.from(withoutQuestions(Buffer.from(text))).toString()

it.each([
  ['where the cursor is', '\u001b[6n'],
  ['where it is, DEC’s way', '\u001b[?6n'],
  ['what it is', '\u001b[c'],
  ['what it is, in detail', '\u001b[>0c'],
  ['a mode', '\u001b[?2026$p'],
  ['its version', '\u001b[>0q'],
  ['its size', '\u001b[18t'],
  ['its settings', '\u001b[1x'],
  ['a colour', '\u001b]11;?\u0007'],
  ['a colour, ended otherwise', '\u001b]4;1;?\u001b\\'],
  ['a setting', '\u001bP$qm\u001b\\'],
  ['its kind, the old way', '\u001bZ'],
  ['its keys', '\u001b[?u'],
  ['how it presents', '\u001b[1$w'],
  ['where it is, with another question within', '\u001b[6\u0005n'],
  ['who it is', '\u0005'],
])('leaves out what asks a terminal for %s', (_, question) => {
  expect(left(`/ # ${question}login: `)).toBe('/ # login: ')
})

it('leaves everything else as it was, also what is no text', () => {
  const text = '\u001b[2J\u001b[1;31mréd\u001b[0m\u001b[10;5Hx\u001b[K\u001b[?25l\t\r\n日本 cntx'
  expect(left(text)).toBe(text)
  const bytes = Uint8Array.from([0xff, 0xfe, 0x41])
  expect(Uint8Array.from(withoutQuestions(bytes))).toEqual(bytes)
})

it.each(['\u001b', '\u001b[', '\u001b[6', '\u001b[?2026$', '\u001b]11;?', '\u001bP$qm\u001b'])(
  'leaves out what is cut off: %j',
  tail => {
    expect(left(`/ # ${tail}`)).toBe('/ # ')
  },
)
