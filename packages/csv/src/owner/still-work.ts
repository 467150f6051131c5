// Work for which an owner stands still: between two journal writes, with nothing of the metadata under way.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { CheckReport } from '../check.ts'
import { refuse } from './refusal.ts'

/** Pieces of work that wait for the owner to stand still. */
export const MAX_STILL = 8

export class StillWork {
  #asked: { readonly run: () => Promise<void>; readonly reject: (error: unknown) => void }[] = []
  #check: Promise<CheckReport> | null = null

  get pending(): boolean {
    return this.#asked.length > 0
  }

  ask<T>(volume: string, work: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#asked.length >= MAX_STILL) {
        reject(refuse('owner-busy', 'the volume is being checked already', { where: volume }))
        return
      }
      this.#asked.push({ run: async () => resolve(await work()), reject })
    })
  }

  /** One reading answers all who asked before it began. */
  check(volume: string, work: () => Promise<CheckReport>): Promise<CheckReport> {
    if (this.#check !== null) return this.#check
    const forget = (): void => {
      this.#check = null
    }
    const asked = this.ask(volume, () => {
      forget()
      return work()
    })
    this.#check = asked
    // One that was not even taken on is nobody else's answer.
    asked.catch(() => this.#check === asked && forget())
    return asked
  }

  /** All that has been asked for. Rejects only with a bug: what fails is told to who asked. */
  async run(): Promise<void> {
    const asked = this.#asked
    this.#asked = []
    for (const { run, reject } of asked) {
      try {
        await run()
      } catch (error) {
        reject(error)
        if (!(error instanceof StellwerkError)) throw error
      }
    }
  }

  rejectAll(error: unknown): void {
    for (const { reject } of this.#asked.splice(0)) reject(error)
    this.#check = null
  }
}
