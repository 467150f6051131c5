// Lines of text with tones, which a terminal may show as colours: measured, cut and joined as plain text, painted last.

export type Tone = 'plain' | 'good' | 'warn' | 'bad' | 'dim' | 'bold' | 'title'

export interface Span {
  readonly text: string
  readonly tone: Tone
}

export type Line = readonly Span[]

const CODES: { readonly [tone in Tone]: string } = {
  plain: '',
  good: '32',
  warn: '33',
  bad: '1;31',
  dim: '2',
  bold: '1',
  title: '1',
}

export function span(text: string, tone: Tone = 'plain'): Span {
  return { text: clean(text), tone }
}

export function line(...parts: readonly (string | Span)[]): Line {
  return parts.map(part => (typeof part === 'string' ? span(part) : part))
}

export function textOf(spans: Line): string {
  return spans.map(({ text }) => text).join('')
}

/** What came from elsewhere never moves the cursor, or rings a bell. */
function clean(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is to go
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, '?')
}

/** At most that many columns; what is missing is marked by `…`. */
export function clip(spans: Line, columns: number): Line {
  if (textOf(spans).length <= columns) return spans
  const cut: Span[] = []
  let left = columns - 1
  for (const { text, tone } of spans) {
    if (text.length > left) {
      cut.push({ text: `${text.slice(0, Math.max(0, left))}…`, tone })
      break
    }
    cut.push({ text, tone })
    left -= text.length
  }
  return columns < 1 ? [] : cut
}

/** As it is written to a terminal. */
export function paint(spans: Line, colours: boolean): string {
  if (!colours) return textOf(spans)
  return spans.map(({ text, tone }) => (CODES[tone] === '' ? text : `\u001b[${CODES[tone]}m${text}\u001b[0m`)).join('')
}

const GOOD = new Set(['up', 'running', 'serving', 'in-sync', 'direct', 'drained', 'stopped', 'standby', 'done'])
const BAD = new Set([
  ...['failed', 'down', 'gone', 'fenced', 'fencing', 'isolated', 'lost', 'damaged', 'unreachable', 'stale', 'frozen'],
  ...['paused-critical', 'without-owner', 'aborted'],
])

/** What is neither well nor bad is on its way, or not known. */
export function toneOf(state: string): Tone {
  if (GOOD.has(state)) return 'good'
  if (BAD.has(state)) return 'bad'
  return state === 'unknown' ? 'dim' : 'warn'
}

export function stateSpan(state: string): Span {
  return span(state, toneOf(state))
}
