// A picture on a terminal that is drawn in place: on the alternate screen, only the rows that differ from what stands there, all
// in one write. Whatever ends the process, the terminal is as it was before.

import { type Line, paint } from '../render/styled.ts'

/** A terminal that a picture can be drawn on. */
export interface Screen {
  readonly columns: number
  readonly rows: number
  readonly colours: boolean
  write(text: string): void
  /** Bytes, as they are. Resolves when they have gone out: a terminal may be stopped, or be far away. */
  show(bytes: Uint8Array): Promise<void>
  /** Gives the way to hear no more of it. */
  onResize(f: () => void): () => void
  /** What is typed is typed at this terminal, and not piped in. */
  readonly hasKeyboard: boolean
  /** What is typed comes at once, and is not shown. Gives the way back. */
  onKeys(f: (sent: string) => void): () => void
  /** As a terminal is for what stands behind it: likewise as bytes, and nothing that is shown is changed on its way. */
  onTyped(f: (sent: Uint8Array) => void): () => void
  /** Called when the process ends, however it does. */
  onExit(f: () => void): () => void
  /** Stops this process as Ctrl-Z does; resolves when it goes on. */
  suspend(): Promise<void>
}

const OPEN = '\u001b[?1049h\u001b[?25l\u001b[?7l'
const CLOSE = '\u001b[?7h\u001b[?25h\u001b[?1049l'
const CLEAR = '\u001b[2J'
/** Terminals that know these show all of an update at once. */
const BEGIN = '\u001b[?2026h'
const END = '\u001b[?2026l'

export class LiveScreen {
  readonly #screen: Screen
  #offs: (() => void)[] = []
  #isOpen = false
  /** What stands in each row; null: nobody knows, all is drawn. */
  #shown: readonly string[] | null = null

  constructor(screen: Screen) {
    this.#screen = screen
  }

  get isOpen(): boolean {
    return this.#isOpen
  }

  get size(): { readonly columns: number; readonly rows: number } {
    return { columns: this.#screen.columns, rows: this.#screen.rows }
  }

  /** `onResize`: what stands there is gone; draw. */
  open(onResize: () => void, onKeys: ((sent: string) => void) | null = null): void {
    if (this.#isOpen) return
    this.#isOpen = true
    this.#shown = null
    const screen = this.#screen
    this.#offs = [
      screen.onExit(() => this.close()),
      screen.onResize(() => {
        this.#shown = null
        onResize()
      }),
      ...(onKeys === null ? [] : [screen.onKeys(onKeys)]),
    ]
    screen.write(OPEN)
  }

  draw(lines: readonly Line[]): void {
    if (!this.#isOpen) return
    const { rows, colours } = this.#screen
    const next = lines.slice(0, rows).map(each => paint(each, colours))
    const before = this.#shown
    let text = before === null ? CLEAR : ''
    for (let row = 0; row < Math.max(next.length, before?.length ?? 0); row++) {
      const now = next[row] ?? ''
      // After a clear the row is empty.
      if (now === (before?.[row] ?? '')) continue
      text += `\u001b[${row + 1};1H${now}\u001b[K`
    }
    this.#shown = next
    if (text !== '') this.#screen.write(`${BEGIN}${text}${END}`)
  }

  /** What stands there may have been written over. */
  forget(): void {
    this.#shown = null
  }

  close(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    for (const off of this.#offs) off()
    this.#offs = []
    this.#screen.write(CLOSE)
  }
}
