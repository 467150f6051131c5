// Terms: a process never obeys a coordinator older than one it has heard of. One guard serves all of a process's sessions;
// who must remember the term over a restart gives the stored one and stores each raise.
import { assert } from '@stellwerk/runtime/assert.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'

export class TermGuard {
  #highest: number
  readonly #onRaise: ((term: number) => void) | undefined

  /** `onRaise` runs before the message that raised the term is delivered: persist it there. */
  constructor(highest = 0, onRaise?: (term: number) => void) {
    assert(Number.isSafeInteger(highest) && highest >= 0, `not a term: ${highest}`)
    this.#highest = highest
    this.#onRaise = onRaise
  }

  get highest(): number {
    return this.#highest
  }

  /** Null, or why a message of this term is refused. */
  check(term: number): StellwerkError | null {
    if (term < this.#highest) {
      const message = `term ${term} is older than ${this.#highest}, which has been seen here`
      return new StellwerkError('stale-term', message, { hint: 'another coordinator has taken over' })
    }
    if (term > this.#highest) {
      this.#highest = term
      this.#onRaise?.(term)
    }
    return null
  }
}
