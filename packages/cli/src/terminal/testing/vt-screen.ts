// What a terminal shows of what was written to it: enough of a VT220 to judge a picture that is drawn in place, and to be a shell's. What
// it does not know it refuses, so that nothing is judged by half.

export class VtScreen {
  columns: number
  rows: number
  /** A picture's own screen; the other one is not kept here. */
  isAlternate = false
  isCursorShown = true
  wraps = true
  /** Rows written to since `forget`. */
  readonly touched = new Set<number>()
  #cells: string[][]
  #row = 0
  #column = 0
  /** Where the cursor was when the other screen was left. */
  #saved: readonly [row: number, column: number] = [0, 0]
  #rest = ''

  readonly #answers: ((text: string) => void) | null

  /** `answers`: it is asked, as a shell does; and what does not fit in a row goes on in the next. Otherwise no row may be too long. */
  constructor(columns: number, rows: number, answers: ((text: string) => void) | null = null) {
    this.columns = columns
    this.rows = rows
    this.#answers = answers
    this.#cells = blank(columns, rows)
  }

  /** As terminals do on a resize: what stands there is anybody's guess. */
  resize(columns: number, rows: number): void {
    this.columns = columns
    this.rows = rows
    this.#cells = Array.from({ length: rows }, () => Array.from({ length: columns }, () => '?'))
  }

  get lines(): string[] {
    return this.#cells.map(cells => cells.join('').trimEnd())
  }

  /** Without the empty ones at the end. */
  get text(): string {
    return this.lines.join('\n').trimEnd()
  }

  write(text: string): void {
    let rest = this.#rest + text
    for (;;) {
      const at = rest.indexOf('\u001b')
      if (at < 0) break
      this.#print(rest.slice(0, at))
      // biome-ignore lint/suspicious/noControlCharactersInRegex: that is how a terminal is told
      const match = /^\u001b\[([?0-9;]*)([A-Za-z])/.exec(rest.slice(at))
      if (match === null) {
        this.#rest = rest.slice(at)
        return
      }
      this.#obey(match[1] ?? '', match[2] ?? '')
      rest = rest.slice(at + match[0].length)
    }
    this.#print(rest)
    this.#rest = ''
  }

  #print(text: string): void {
    for (const character of text) {
      if (character === '\r') this.#column = 0
      else if (character === '\n') this.#feed()
      else if (character === '\b') this.#column = Math.max(0, this.#column - 1)
      else if (character === '\u0007') continue
      else this.#put(character)
    }
  }

  #feed(): void {
    if (this.#row < this.rows - 1) {
      this.#row += 1
      return
    }
    this.#cells.shift()
    this.#cells.push(...blank(this.columns, 1))
  }

  #put(character: string): void {
    if (this.#column >= this.columns && this.wraps) {
      if (this.#answers === null) throw new Error(`row ${this.#row + 1} is longer than the terminal`)
      this.#column = 0
      this.#feed()
    }
    this.touched.add(this.#row)
    this.#cells[this.#row]![Math.min(this.#column, this.columns - 1)] = character
    this.#column += 1
  }

  #obey(numbers: string, letter: string): void {
    switch (`${numbers.startsWith('?') ? '?' : ''}${letter}`) {
      case 'H': {
        const [row = 1, column = 1] = numbers.split(';').map(number => Number(number || 1))
        this.#row = Math.min(row, this.rows) - 1
        this.#column = Math.min(column, this.columns) - 1
        return
      }
      case 'J':
        if (numbers === '2') this.#cells = blank(this.columns, this.rows)
        else {
          this.#clearRow()
          this.#cells.splice(this.#row + 1, this.rows, ...blank(this.columns, this.rows - this.#row - 1))
        }
        return
      case 'K':
        this.#clearRow()
        return
      case 'C':
        this.#column = Math.min(this.#column + Number(numbers || 1), this.columns - 1)
        return
      case 'D':
        this.#column = Math.max(this.#column - Number(numbers || 1), 0)
        return
      case 'n':
        this.#answers?.(`\u001b[${this.#row + 1};${this.#column + 1}R`)
        return
      case 'm':
        return
      case '?h':
      case '?l':
        this.#mode(numbers.slice(1), letter === 'h')
        return
      default:
        throw new Error(`the terminal was told ESC [ ${numbers}${letter}`)
    }
  }

  /** From the cursor on. */
  #clearRow(): void {
    this.touched.add(this.#row)
    for (let at = this.#column; at < this.columns; at++) this.#cells[this.#row]![at] = ' '
  }

  #mode(number: string, on: boolean): void {
    if (number === '1049') {
      const now = [this.#row, this.#column] as const
      this.isAlternate = on
      if (!on) [this.#row, this.#column] = this.#saved
      this.#saved = now
      this.#cells = blank(this.columns, this.rows)
    } else if (number === '25') this.isCursorShown = on
    else if (number === '7') this.wraps = on
    else if (number !== '2026') throw new Error(`the terminal was told of mode ${number}`)
  }
}

function blank(columns: number, rows: number): string[][] {
  return Array.from({ length: rows }, () => Array.from({ length: columns }, () => ' '))
}
