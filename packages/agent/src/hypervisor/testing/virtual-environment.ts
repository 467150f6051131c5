// Virtual time for tests of one hypervisor: a queue of timers, a clock that jumps to the next, compression done inline.
// Not the simulation (packages/runtime/src/sim): no network, no files, no processes.

import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import type { Environment, Logger, Random, TraceSink } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'

export interface VirtualEnvironment {
  readonly env: Environment
  /** Lets virtual time pass until the predicate holds or `limitMs` are over; says which. */
  until(predicate: () => boolean, limitMs: number): Promise<boolean>
}

interface Due {
  readonly at: number
  readonly order: number
  readonly run: () => void
}

export function createVirtualEnvironment(seed: number): VirtualEnvironment {
  let now = 0
  let order = 0
  const queue: Due[] = []
  const after = (delayMs: number, run: () => void) => {
    const due = { at: now + delayMs, order: order++, run }
    let index = queue.length
    while (index > 0 && (queue[index - 1]?.at ?? 0) > due.at) index--
    queue.splice(index, 0, due)
    return {
      cancel: () => {
        const at = queue.indexOf(due)
        if (at >= 0) queue.splice(at, 1)
      },
    }
  }
  const absent = (what: string) =>
    new Proxy(
      {},
      { get: (_, name) => () => Promise.reject(new Error(`no ${what} in this test (${String(name)})`)) },
    ) as never
  const env: Environment = {
    name: 'test',
    clock: { now: () => now, wall: () => now },
    timers: { after },
    network: absent('network'),
    files: absent('files'),
    store: absent('store'),
    processes: absent('processes'),
    compute: {
      compress: async (data, level = 1) =>
        zstdCompressSync(data, { params: { [constants.ZSTD_c_compressionLevel]: level } }),
      decompress: async (data, sizeBytes) => {
        let plain: Uint8Array
        try {
          plain = zstdDecompressSync(data, { maxOutputLength: Math.max(1, sizeBytes) })
        } catch (cause) {
          throw new StellwerkError('corrupt-data', 'does not decompress', { cause })
        }
        if (plain.length !== sizeBytes) throw new StellwerkError('corrupt-data', `${plain.length} bytes`)
        return plain
      },
      startWorker: () => {
        throw new Error('no workers in virtual time')
      },
    },
    random: createRandom(seed),
    log: quietLog,
    trace: quietTrace,
  }
  return {
    env,
    async until(predicate, limitMs) {
      const end = now + limitMs
      for (;;) {
        await new Promise(resolve => setImmediate(resolve))
        if (predicate()) return true
        const next = queue[0]
        if (next === undefined || next.at > end) {
          now = end
          return false
        }
        queue.shift()
        now = next.at
        next.run()
      }
    },
  }
}

export const quietLog: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
}

export const quietTrace: TraceSink = {
  on: () => true,
  emit: () => ({ process: 'test', seq: 0 }),
  observe: () => undefined,
  stamp: () => ({ wallMs: 0, counter: 0 }),
  within: (_, f) => f(),
  input: () => undefined,
  output: () => undefined,
  snapshot: () => undefined,
}

const ID_ALPHABET = 'abcdefghijklmnopqrstuvwxyz'

export function createRandom(seed: number): Random {
  let state = seed >>> 0 || 1
  const next = (): number => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    state >>>= 0
    return state
  }
  const random: Random = {
    float: () => next() / 2 ** 32,
    int: below => Math.floor((next() / 2 ** 32) * below),
    bytes: length => Uint8Array.from({ length }, () => next() & 255),
    id: (length = 12) => Array.from({ length }, () => ID_ALPHABET[next() % ID_ALPHABET.length]).join(''),
    fork: name => createRandom([...name].reduce((sum, c) => (Math.imul(sum, 31) + c.charCodeAt(0)) >>> 0, seed)),
  }
  return random
}
