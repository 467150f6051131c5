// A guest at work, VM `book`: it appends entries to a ledger on its disk and says on its console which of them the disk has
// acknowledged. What it was told must be there, whatever was lost meanwhile. Not a test itself.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { logEnd } from '@stellwerk/agent/guests/ledger-format.ts'
import { readLedger } from 'stellwerk/demo/disk-ledger.ts'
import { expect } from 'vitest'
import type { Running, Stellwerk } from './stellwerk.ts'

const NAME = 'book'
/** More than what may have been under way. */
const MORE = 5

export class Book {
  /** Its disk. */
  static readonly disk = `${NAME}-0`
  readonly #stellwerk: Stellwerk
  #console: Running | null = null

  constructor(stellwerk: Stellwerk) {
    this.#stellwerk = stellwerk
  }

  /** On a disk of the volume. */
  async begin(volume: string, host: string): Promise<void> {
    const guest = ['--guest', 'ledger', '--memory', '8MiB', '--disk', `${volume}:16MiB`, '--host', host]
    expect((await this.#stellwerk.run('vm', 'create', NAME, ...guest)).code).toBe(0)
    this.#console = this.#stellwerk.console(NAME)
    await this.#console.said(/ack \d/)
  }

  /** The last entry that the guest was told is on its disk. */
  acknowledged(): number {
    return Number(/ack (\d+)/.exec(this.#said.findLast(line => /ack \d/.test(line)) ?? '')?.[1])
  }

  async goesOn(): Promise<void> {
    const before = this.acknowledged()
    await expect.poll(() => this.acknowledged(), { timeout: 90_000 }).toBeGreaterThan(before + MORE)
  }

  /** It has found nothing on its disk that it had not written, or not so. */
  sawNoDamage(): void {
    expect(this.#said.filter(line => line.includes('damaged'))).toEqual([])
  }

  /** Every entry up to this one is on its disk, which is served at `uri` and to which it writes no more. */
  async has(entry: number, uri: string): Promise<void> {
    expect(await this.#stellwerk.tool('nbdcopy', uri, `${NAME}.img`)).toEqual({ code: 0, lines: [] })
    const image = readFileSync(join(this.#stellwerk.directory, `${NAME}.img`))
    const { entries, misplaced } = readLedger(image.subarray(0, logEnd(image.length)), NAME)
    expect(misplaced).toEqual([])
    expect(entries).toBeGreaterThanOrEqual(entry)
    this.sawNoDamage()
  }

  get #said(): readonly string[] {
    return this.#console?.lines ?? []
  }
}
