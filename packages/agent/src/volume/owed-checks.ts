// Checks of a volume that its owner was asked for while it cannot open it: made the next time that it has the legs, before it
// tries the rest, and answered with what is found; or failed when the legs cannot be had.

import type { CheckReport } from '@stellwerk/csv/check.ts'
import { type CheckAnswer, MAX_FINDINGS } from '@stellwerk/protocol/messages/volume-check.ts'
import type { ActorSystem } from '@stellwerk/runtime/actors/actor-system.ts'
import type { Message } from '@stellwerk/runtime/actors/message.ts'
import { describeError, StellwerkError } from '@stellwerk/runtime/errors.ts'

/** Requests that wait; one more is refused. */
export const MAX_OWED = 8

export class OwedChecks {
  readonly #system: Pick<ActorSystem, 'reply' | 'fail'>
  readonly #volume: string
  /** In the order in which they came; `missed`: an attempt to have the legs has begun since. */
  #owed: { readonly message: Message; missed: boolean }[] = []

  constructor(system: Pick<ActorSystem, 'reply' | 'fail'>, volume: string) {
    this.#system = system
    this.#volume = volume
  }

  get pending(): boolean {
    return this.#owed.length > 0
  }

  add(message: Message): void {
    if (this.#owed.length < MAX_OWED) this.#owed.push({ message, missed: false })
    else this.#system.fail(message, this.#away(`${MAX_OWED} checks of volume "${this.#volume}" wait already`))
  }

  /** The legs are about to be opened. */
  begin(): void {
    for (const each of this.#owed) each.missed = true
  }

  /** Answers all that wait, those that come meanwhile included. Rejects as the check does: they wait on, then. */
  async make(check: () => Promise<CheckReport>): Promise<void> {
    if (!this.pending) return
    const report = await check()
    for (const { message } of this.#owed.splice(0)) this.#system.reply(message, checkAnswer(report))
  }

  /** An attempt is over: those that it should have answered are failed; who came in its midst waits for the next. */
  missed(error: unknown): void {
    const missed = this.#owed.filter(each => each.missed)
    this.#owed = this.#owed.filter(each => !each.missed)
    const why = `volume "${this.#volume}" could not be read for a check: ${describeError(error)}`
    for (const { message } of missed) this.#system.fail(message, this.#away(why))
  }

  /** Nothing is opened here any more. */
  fail(why: string): void {
    for (const { message } of this.#owed.splice(0)) this.#system.fail(message, this.#away(why))
  }

  #away(why: string): StellwerkError {
    const hint = `see: stellwerk why volume ${this.#volume}`
    return new StellwerkError('owner-away', why, { retryable: true, where: this.#volume, hint })
  }
}

/** What has room in a message; the worst first. */
export function checkAnswer({ clean, findings, summary }: CheckReport): CheckAnswer {
  const order = ['damage', 'leak', 'degraded']
  const sorted = [...findings].sort((a, b) => order.indexOf(a.severity) - order.indexOf(b.severity))
  const told = sorted.slice(0, MAX_FINDINGS).map(each => ({
    leg: each.leg,
    code: each.code,
    severity: each.severity,
    where: each.where.slice(0, 2000),
    message: each.message.slice(0, 2000),
  }))
  return { clean, findings: told, more: sorted.length - told.length, summary }
}
