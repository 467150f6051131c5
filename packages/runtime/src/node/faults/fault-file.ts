// The rules of a chaos driver as one process reads them: looked at many times a second, read when the file is another one.
// No file, or an empty one: nothing is broken.

import { readFileSync, statSync } from 'node:fs'
import type { Logger } from '../../environment.ts'
import { errorCode, errorMessage } from '../../errors.ts'
import { type FaultRules, NO_FAULTS } from './fault-rules.ts'

/** A driver that has written waits a little longer than this, and then every process goes by it. */
export const FAULTS_LOOK_MS = 20

export class FaultFile {
  rules: FaultRules = NO_FAULTS
  readonly #path: string
  readonly #log: Logger
  readonly #listeners = new Set<() => void>()
  readonly #timer: NodeJS.Timeout
  #seen = ''

  constructor(path: string, log: Logger) {
    this.#path = path
    this.#log = log
    this.look()
    this.#timer = setInterval(() => this.look(), FAULTS_LOOK_MS).unref()
  }

  onChange(f: () => void): void {
    this.#listeners.add(f)
  }

  look(): void {
    const stats = statSync(this.#path, { throwIfNoEntry: false })
    const seen = stats === undefined ? '' : `${stats.ino} ${stats.mtimeMs} ${stats.size}`
    if (seen === this.#seen) return
    const rules = seen === '' ? NO_FAULTS : this.#read()
    // One that can't be read is looked at again: it may have been replaced in between.
    if (rules === null) return
    this.#seen = seen
    this.rules = rules
    for (const listener of this.#listeners) listener()
  }

  #read(): FaultRules | null {
    try {
      const text = readFileSync(this.#path, 'utf8')
      return text.trim() === '' ? NO_FAULTS : { ...NO_FAULTS, ...(JSON.parse(text) as Partial<FaultRules>) }
    } catch (error) {
      if (errorCode(error) !== 'ENOENT') {
        this.#log.error({ code: errorCode(error) }, `the fault rules can't be read: ${errorMessage(error)}`)
      }
      return null
    }
  }

  close(): void {
    clearInterval(this.#timer)
  }
}
