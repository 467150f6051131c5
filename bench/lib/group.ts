// What a group of the bench is given, and the rounds that all side-by-side groups share.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Servers } from './processes.ts'
import { median, type Row } from './rows.ts'

export interface BenchContext {
  readonly quick: boolean
  /** Interleaved runs of each measurement; their median is reported. */
  readonly rounds: number
  readonly fio: { readonly runtimeS: number; readonly rampS: number }
  /** A finished row: shown at once. */
  report(row: Row): void
  /** What is going on, for people who wait. */
  progress(text: string): void
}

export interface Group {
  readonly name: string
  readonly about: string
  run(context: BenchContext): Promise<void>
}

/** A scratch directory and servers that are gone when `work` is over, however it ends. */
export async function withServers<T>(work: (servers: Servers, directory: string) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), 'stellwerk-bench-'))
  const servers = new Servers()
  const stop = (): void => {
    void servers.stopAll().finally(() => {
      rmSync(directory, { recursive: true, force: true })
      process.exit(130)
    })
  }
  process.once('SIGINT', stop)
  process.once('SIGTERM', stop)
  try {
    return await work(servers, directory)
  } finally {
    process.removeListener('SIGINT', stop)
    process.removeListener('SIGTERM', stop)
    await servers.stopAll()
    rmSync(directory, { recursive: true, force: true })
  }
}

/** Each contender once a round, in turn, so that what else the machine does meets all of them; medians. */
export async function sideBySide<K>(
  contenders: readonly K[],
  rounds: number,
  measure: (contender: K) => Promise<number>,
): Promise<Map<K, number>> {
  const results = new Map<K, number[]>(contenders.map(contender => [contender, []]))
  for (let round = 0; round < rounds; round += 1) {
    for (const contender of contenders) results.get(contender)!.push(await measure(contender))
  }
  return new Map([...results].map(([contender, values]) => [contender, median(values)]))
}
