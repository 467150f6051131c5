// A console's line of which the beginning may stand in the terminal already, as a question does that waits for its answer.

export class StandingLine {
  #stands = ''

  /** What is to be written for the beginning of a line. */
  begin(text: string): string {
    const more = this.#rest(text)
    this.#stands = text
    return more
  }

  /** What is to be written for a whole line, its end included. */
  whole(line: string): string {
    const more = this.#rest(line)
    this.#stands = ''
    return `${more}\n`
  }

  /** Another line than the one that stands there begins on one of its own. */
  #rest(text: string): string {
    if (text.startsWith(this.#stands)) return text.slice(this.#stands.length)
    return `\n${text}`
  }
}
