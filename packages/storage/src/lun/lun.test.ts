// A LUN on a simulated disk: what it acknowledges survives, what it calls a hole reads as zeroes, and errors are told.

import { canaries } from '@stellwerk/runtime/canary.ts'
import type { Environment } from '@stellwerk/runtime/environment.ts'
import { Simulation } from '@stellwerk/runtime/sim/simulation.ts'
import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { failure, filled } from '../testing/sim-storage.ts'
import { CHUNK_BYTES, CHUNKS_PER_REGION, type LunHeader, MAX_INTENTS } from './layout.ts'
import { createLunFiles, type Gate, Lun } from './lun.ts'

const OPEN: Gate = { check: () => undefined, applied: () => undefined }
const SECTOR = 512
const REGION = CHUNK_BYTES * CHUNKS_PER_REGION

afterEach(() => canaries.clear())

/** A machine with one process that works on one LUN, and loses its power. */
class Machine {
  readonly sim: Simulation
  readonly header: LunHeader
  constructor(seed: number, sizeBytes: number) {
    this.sim = new Simulation({ seed })
    this.header = { id: 'lun-1', sizeBytes }
  }

  get disk() {
    return this.sim.host('san').disk
  }

  /** Runs `work` in a new process; its end, or `untilMs`, ends the process (a kill). */
  async run(work: (env: Environment) => Promise<void>, untilMs = 60_000): Promise<void> {
    let outcome: { readonly error: unknown } | 'done' | null = null
    this.sim.program('san', async env => {
      await work(env).then(
        () => {
          outcome = 'done'
        },
        error => {
          outcome = { error }
        },
      )
    })
    const process = this.sim.host('san').spawn('san', 'san')
    await this.sim.runUntil(() => outcome !== null, untilMs)
    process.kill()
    const ended = outcome as { readonly error: unknown } | 'done' | null
    if (ended !== null && ended !== 'done') throw ended.error
    if (ended === null && untilMs === 60_000) throw new Error('the work did not end')
  }

  async create(): Promise<void> {
    await this.run(env => createLunFiles(env.files, this.header))
  }

  async withLun(work: (lun: Lun, env: Environment) => Promise<void>, untilMs?: number): Promise<void> {
    await this.run(async env => work(await Lun.open(env.files, this.header), env), untilMs)
  }

  powerCycle(unsynced: 'lost' | 'torn' | 'kept'): void {
    this.sim.host('san').crash({ unsynced })
    this.sim.host('san').powerOn()
  }

  data() {
    const file = this.disk.file('san', 'luns/lun-1.data')
    if (file === null) throw new Error('no data file')
    return file
  }
}

async function lunOf(sizeBytes: number, seed = 1): Promise<Machine> {
  const machine = new Machine(seed, sizeBytes)
  await machine.create()
  return machine
}

/** What is not allocated must read as zeroes. */
async function checkHoles(lun: Lun): Promise<void> {
  for (let offset = 0; offset < lun.size; ) {
    for (const extent of lun.blockStatus(offset, lun.size - offset, OPEN)) {
      if (extent.hole) {
        const [bytes] = await lun.read(offset, extent.length, OPEN)
        expect(bytes?.every(byte => byte === 0)).toBe(true)
      }
      offset += extent.length
    }
  }
}

const status = (lun: Lun): string => {
  let text = ''
  for (const { length, hole } of lun.blockStatus(0, lun.size, OPEN))
    text += (hole ? '.' : '#').repeat(length / CHUNK_BYTES)
  return text
}

describe('IO2: acknowledged writes', () => {
  const SECTORS = 1024
  const seeds = Array.from({ length: 40 }, (_, seed) => seed)

  /** Each sector's acceptable values after a crash at a random moment of random durable and plain work. */
  async function crashRun(seed: number): Promise<{ acknowledged: number; lost: string[] }> {
    const machine = await lunOf(SECTORS * SECTOR, seed)
    const random = machine.sim.random.fork('work')
    /** By sector: the last acknowledged value, and those written at the same time or since. */
    const acked = new Map<number, number>()
    const open = new Map<number, Set<number>>()
    let value = 0
    let acknowledged = 0
    for (let round = 0; round < 3; round++) {
      const work = async (lun: Lun, env: Environment): Promise<void> => {
        const worker = async (): Promise<void> => {
          for (;;) {
            value += 1
            const mine = (value % 255) + 1
            const at = random.int(SECTORS - 8)
            const count = 1 + random.int(8)
            const sectors = Array.from({ length: count }, (_, index) => at + index)
            if (sectors.some(sector => busy.has(sector))) {
              await new Promise<void>(resolve => void env.timers.after(0.1, resolve))
              continue
            }
            for (const sector of sectors) {
              busy.add(sector)
              open.set(sector, (open.get(sector) ?? new Set()).add(mine))
            }
            const kind = random.int(10)
            const payload = [filled(count * SECTOR, kind === 0 ? 0 : mine)]
            if (kind === 0) for (const sector of sectors) open.get(sector)?.add(0)
            if (kind === 0) await lun.zero(at * SECTOR, count * SECTOR, { fua: true }, OPEN)
            else await lun.write(at * SECTOR, payload, count * SECTOR, kind < 8, OPEN)
            if (kind >= 8) await lun.flush(OPEN)
            acknowledged += 1
            for (const sector of sectors) {
              acked.set(sector, kind === 0 ? 0 : mine)
              open.set(sector, new Set())
              busy.delete(sector)
            }
          }
        }
        const busy = new Set<number>()
        await Promise.all([worker(), worker(), worker(), worker()])
      }
      await machine.withLun(work, 5 + random.float() * 40)
      machine.powerCycle((['lost', 'torn', 'kept'] as const)[random.int(3)] ?? 'lost')
    }
    const lost: string[] = []
    await machine.withLun(async lun => {
      const [bytes] = await lun.read(0, SECTORS * SECTOR, OPEN)
      for (let sector = 0; sector < SECTORS; sector++) {
        const found = bytes?.[sector * SECTOR] ?? -1
        if (found === (acked.get(sector) ?? 0) || open.get(sector)?.has(found)) continue
        lost.push(`sector ${sector}: ${found}, not ${acked.get(sector)}`)
      }
      await checkHoles(lun)
    })
    return { acknowledged, lost }
  }

  it('survive a power loss at any moment', async () => {
    let total = 0
    for (const seed of seeds) {
      const { acknowledged, lost } = await crashRun(seed)
      expect(lost, `seed ${seed}`).toEqual([])
      total += acknowledged
    }
    expect(total).toBeGreaterThan(500)
  })

  it('IO1: what a killed storage left in the cache and its successor has shown is not lost with the power', async () => {
    const machine = new Machine(7, 4 * CHUNK_BYTES)
    await machine.create()
    // The chunk is marked, and the last end was a clean one: nothing of the map is in doubt.
    await machine.withLun(async lun => {
      await lun.write(0, [filled(SECTOR, 1)], SECTOR, true, OPEN)
      await lun.close()
    })
    // Killed between the write and its sync.
    await machine.withLun(async (lun, env) => {
      machine.disk.fault({ operation: ['sync'], verdict: { delayMs: 60_000, jitterMs: 0 } })
      void lun.write(0, [filled(SECTOR, 2)], SECTOR, true, OPEN)
      await new Promise<void>(resolve => env.timers.after(1_000, resolve))
    }, 500)
    machine.disk.healAll()
    let shown = 0
    await machine.withLun(async lun => {
      shown = Buffer.concat(await lun.read(0, SECTOR, OPEN))[0]!
    })
    machine.powerCycle('lost')
    await machine.withLun(async lun => {
      expect(Buffer.concat(await lun.read(0, SECTOR, OPEN))[0]).toBe(shown)
    })
    expect(shown).toBe(2)
  })

  it('would not, were they acknowledged before the sync (canary ack-before-sync)', async () => {
    canaries.add('ack-before-sync')
    let losses = 0
    for (const seed of seeds) {
      losses += (await crashRun(seed)).lost.length
      if (losses > 0) break
    }
    expect(losses).toBeGreaterThan(0)
  })

  it('that come together share a sync', async () => {
    const machine = await lunOf(1024 * 1024)
    await machine.withLun(async (lun, env) => {
      await lun.write(0, [filled(SECTOR, 1)], SECTOR, true, OPEN)
      const syncs = machine.disk.fault({ operation: 'sync', path: 'luns/lun-1.data', verdict: { delayMs: 5 } })
      const before = env.clock.now()
      await Promise.all(
        Array.from({ length: 64 }, (_, at) => lun.write(at * SECTOR, [filled(SECTOR, 2)], SECTOR, true, OPEN)),
      )
      expect(syncs.hits).toBeLessThanOrEqual(4)
      expect(env.clock.now() - before).toBeLessThan(40)
    })
  })
})

describe('errors', () => {
  it('a failed sync fails the LUN for good: no later success hides it', async () => {
    const machine = await lunOf(1024 * 1024)
    await machine.withLun(async lun => {
      await lun.write(0, [filled(SECTOR, 1)], SECTOR, true, OPEN)
      const reasons: string[] = []
      lun.onFailed(reason => reasons.push(reason))
      const plain = lun.write(SECTOR, [filled(SECTOR, 2)], SECTOR, false, OPEN)
      machine.disk.fault({ operation: 'sync', path: 'luns/lun-1.data', times: 1, verdict: 'EIO' })
      const together = await Promise.all([
        failure(lun.flush(OPEN)),
        failure(lun.write(0, [filled(SECTOR, 3)], SECTOR, true, OPEN)),
      ])
      await plain
      expect(together.map(({ code }) => code).every(code => code === 'EIO' || code === 'ESHUTDOWN')).toBe(true)
      expect(together.some(({ code }) => code === 'EIO')).toBe(true)
      for (const attempt of [
        lun.flush(OPEN),
        lun.write(0, [filled(SECTOR, 4)], SECTOR, false, OPEN),
        lun.read(0, SECTOR, OPEN),
        lun.zero(0, SECTOR, {}, OPEN),
        lun.trim(0, CHUNK_BYTES, false, OPEN),
      ]) {
        expect((await failure(attempt)).code).toBe('ESHUTDOWN')
      }
      expect(reasons).toHaveLength(1)
      expect(lun.failure).toContain('sync failed')
    })
    await machine.withLun(async lun => {
      expect(lun.failure).toBe(null)
      await lun.write(0, [filled(SECTOR, 5)], SECTOR, true, OPEN)
    })
  })

  it('a full disk is ENOSPC to its writer, and no more than that', async () => {
    const machine = await lunOf(1024 * 1024)
    await machine.withLun(async lun => {
      await lun.write(0, [filled(CHUNK_BYTES, 1)], CHUNK_BYTES, true, OPEN)
      machine.disk.setQuota(machine.disk.allocatedBytes)
      expect(await failure(lun.write(2 * CHUNK_BYTES, [filled(SECTOR, 2)], SECTOR, true, OPEN))).toMatchObject({
        code: 'ENOSPC',
      })
      await lun.write(SECTOR, [filled(SECTOR, 3)], SECTOR, true, OPEN)
      machine.disk.setQuota(Number.POSITIVE_INFINITY)
      await lun.write(2 * CHUNK_BYTES, [filled(SECTOR, 4)], SECTOR, true, OPEN)
      expect((await lun.read(2 * CHUNK_BYTES, 1, OPEN))[0]?.[0]).toBe(4)
    })
  })

  it('bad sectors are EIO to who touches them, and to nobody else', async () => {
    const machine = await lunOf(1024 * 1024)
    await machine.withLun(async lun => {
      await lun.write(0, [filled(CHUNK_BYTES, 1)], CHUNK_BYTES, true, OPEN)
      machine.disk.fault({
        operation: ['read', 'write'],
        path: 'luns/lun-1.data',
        range: { offset: SECTOR, length: SECTOR },
        verdict: 'EIO',
      })
      expect((await failure(lun.read(0, 2 * SECTOR, OPEN))).code).toBe('EIO')
      expect(await failure(lun.write(SECTOR, [filled(SECTOR, 2)], SECTOR, false, OPEN))).toMatchObject({
        code: 'EIO',
        outcome: 'unknown',
      })
      expect((await lun.read(2 * SECTOR, 1, OPEN))[0]?.[0]).toBe(1)
      await lun.write(2 * SECTOR, [filled(SECTOR, 2)], SECTOR, true, OPEN)
      expect(lun.failure).toBe(null)
    })
  })

  it('a map that cannot be synced fails the LUN', async () => {
    const machine = await lunOf(1024 * 1024)
    await machine.withLun(async lun => {
      machine.disk.fault({ operation: 'sync', path: 'luns/lun-1.map', times: 1, verdict: 'EIO' })
      expect((await failure(lun.write(0, [filled(SECTOR, 1)], SECTOR, false, OPEN))).code).toBe('EIO')
      expect(lun.failure).toContain('allocation map')
    })
  })

  it.each([
    ['no map', (machine: Machine) => machine.run(env => env.files.remove('luns/lun-1.map')), 'corrupt-lun'],
    [
      'a map of something else',
      (machine: Machine) => machine.run(env => env.files.writeAtomic('luns/lun-1.map', filled(20_000, 7))),
      'corrupt-lun',
    ],
    [
      'a map cut short',
      (machine: Machine) => machine.run(async env => (await env.files.open('luns/lun-1.map')).truncate(100)),
      'corrupt-lun',
    ],
    [
      'a header with a flipped bit',
      async (machine: Machine) => machine.disk.file('san', 'luns/lun-1.map')?.write(30, [filled(1, 0x55)]),
      'corrupt-lun',
    ],
    [
      'smaller data',
      (machine: Machine) => machine.run(async env => (await env.files.open('luns/lun-1.data')).truncate(4096)),
      'corrupt-lun',
    ],
    ['no data', (machine: Machine) => machine.run(env => env.files.remove('luns/lun-1.data')), 'missing-file'],
    [
      'the files of another LUN',
      async (machine: Machine) => {
        await machine.run(async env => {
          await createLunFiles(env.files, { id: 'lun-2', sizeBytes: machine.header.sizeBytes })
          await env.files.writeAtomic('luns/lun-1.map', (await env.files.read('luns/lun-2.map')) ?? filled(1, 0))
        })
      },
      'foreign-lun',
    ],
  ])('refuses %s', async (_, damage, code) => {
    const machine = await lunOf(1024 * 1024)
    await damage(machine)
    expect((await failure(machine.withLun(async () => undefined))).code).toBe(code)
  })
})

describe('holes', () => {
  it('are where nothing was written, and where whole chunks were trimmed or zeroed', async () => {
    const machine = await lunOf(8 * CHUNK_BYTES)
    await machine.withLun(async lun => {
      expect(status(lun)).toBe('........')
      await lun.write(CHUNK_BYTES, [filled(4 * CHUNK_BYTES, 1)], 4 * CHUNK_BYTES, false, OPEN)
      expect(status(lun)).toBe('.####...')
      const inDataBefore = machine.data().allocatedBytes
      // Parts of chunks stay: only chunk 2 is covered whole.
      await lun.trim(2 * CHUNK_BYTES - 100, CHUNK_BYTES + 200, false, OPEN)
      expect(status(lun)).toBe('.#.##...')
      expect(machine.data().allocatedBytes).toBe(inDataBefore - CHUNK_BYTES)
      expect((await lun.read(2 * CHUNK_BYTES - 1, 1, OPEN))[0]?.[0]).toBe(1)
      // Zeroing does what trim may leave undone.
      await lun.zero(3 * CHUNK_BYTES - 100, CHUNK_BYTES + 200, {}, OPEN)
      expect(status(lun)).toBe('.#..#...')
      expect((await lun.read(4 * CHUNK_BYTES, 200, OPEN))[0]?.slice(98, 102)).toEqual(new Uint8Array([0, 0, 1, 1]))
      await lun.zero(6 * CHUNK_BYTES, CHUNK_BYTES, { noHole: true }, OPEN)
      expect(status(lun)).toBe('.#..#.#.')
      expect((await failure(lun.zero(CHUNK_BYTES, 100, { fast: true }, OPEN))).code).toBe('ENOTSUP')
      await lun.zero(CHUNK_BYTES, CHUNK_BYTES, { fast: true }, OPEN)
      expect(status(lun)).toBe('....#.#.')
      await checkHoles(lun)
    })
  })

  it('survive a clean close exactly, and a crash without calling data a hole', async () => {
    const machine = await lunOf(8 * CHUNK_BYTES)
    await machine.withLun(async lun => {
      await lun.write(CHUNK_BYTES, [filled(SECTOR, 1)], SECTOR, true, OPEN)
      await lun.zero(5 * CHUNK_BYTES, CHUNK_BYTES, { noHole: true, fua: true }, OPEN)
      await lun.close()
    })
    await machine.withLun(async lun => {
      expect(lun.rebuiltRegions).toBe(0)
      expect(status(lun)).toBe('.#...#..')
      await lun.write(3 * CHUNK_BYTES, [filled(SECTOR, 1)], SECTOR, true, OPEN)
      await lun.trim(5 * CHUNK_BYTES, CHUNK_BYTES, false, OPEN)
    })
    machine.powerCycle('lost')
    await machine.withLun(async lun => {
      expect(lun.rebuiltRegions).toBe(1)
      // What was trimmed may be allocated still.
      expect(status(lun)).toBe('.#.#.#..')
      await checkHoles(lun)
    })
  })

  it('damaged pages and intents of the map are made anew from the data', async () => {
    const machine = await lunOf(4 * REGION)
    await machine.withLun(async lun => {
      for (const region of [0, 2]) await lun.write(region * REGION, [filled(SECTOR, 1)], SECTOR, true, OPEN)
      await lun.close()
    })
    const map = machine.disk.file('san', 'luns/lun-1.map')
    const whole = map?.read(0, map.size) ?? new Uint8Array()
    for (const [damaged, rebuilt] of [
      [[12 * 1024 + 100], 1],
      [[4 * 1024 + 9, 8 * 1024 + 9], 4],
    ] as const) {
      map?.write(0, [whole])
      for (const offset of damaged) map?.write(offset, [filled(1, 0x77)])
      await machine.withLun(async lun => {
        expect(lun.rebuiltRegions).toBe(rebuilt)
        expect(status(lun).replace(/\.+/g, '.')).toBe('#.#.')
      })
      await machine.withLun(async lun => expect(lun.rebuiltRegions).toBe(0))
    }
  })

  it('are found after a crash though a sector cannot be read, which costs that chunk its hole and nothing else', async () => {
    const machine = await lunOf(REGION)
    await machine.withLun(lun => lun.write(3 * CHUNK_BYTES, [filled(SECTOR, 1)], SECTOR, true, OPEN))
    machine.powerCycle('lost')
    const range = { offset: 5 * CHUNK_BYTES + SECTOR, length: SECTOR }
    machine.disk.fault({ operation: 'read', path: 'luns/lun-1.data', range, verdict: 'EIO' })
    await machine.withLun(async lun => {
      expect(lun.rebuiltRegions).toBe(1)
      expect(status(lun).slice(0, 8)).toBe('...#.#..')
      expect((await lun.read(3 * CHUNK_BYTES, 1, OPEN))[0]?.[0]).toBe(1)
      expect((await failure(lun.read(5 * CHUNK_BYTES, CHUNK_BYTES, OPEN))).code).toBe('EIO')
    })
  })

  it('need a bounded search after a crash, however much was written', async () => {
    const regions = 3 * MAX_INTENTS
    const machine = await lunOf(regions * REGION)
    await machine.withLun(async lun => {
      for (let region = 0; region < regions; region++)
        await lun.write(region * REGION, [filled(SECTOR, 1)], SECTOR, false, OPEN)
      await lun.flush(OPEN)
    })
    machine.powerCycle('lost')
    await machine.withLun(async lun => {
      expect(lun.rebuiltRegions).toBeLessThanOrEqual(MAX_INTENTS)
      expect(lun.allocatedBytes).toBe(regions * CHUNK_BYTES)
    })
  })

  it('never hide data, whatever overlaps and whenever it crashes', async () => {
    const operation = fc.record({
      kind: fc.constantFrom('write', 'write', 'trim', 'zero', 'flush'),
      chunk: fc.nat(11),
      part: fc.nat(127),
      chunks: fc.integer({ min: 1, max: 4 }),
      fua: fc.boolean(),
    })
    await fc.assert(
      fc.asyncProperty(
        fc.array(operation, { minLength: 10, maxLength: 40 }),
        fc.nat(10_000),
        fc.constantFrom('lost', 'torn', 'kept'),
        async (operations, seed, mode) => {
          const machine = await lunOf(16 * CHUNK_BYTES, seed)
          await machine.withLun(async lun => {
            // All at once: they overlap in time and place.
            await Promise.all(
              operations.map(({ kind, chunk, part, chunks, fua }) => {
                const offset = chunk * CHUNK_BYTES + part * SECTOR
                const length = chunks * CHUNK_BYTES
                const end = Math.min(lun.size, offset + length)
                if (kind === 'write') return lun.write(offset, [filled(SECTOR, 1)], SECTOR, fua, OPEN)
                if (kind === 'trim') return lun.trim(offset, end - offset, fua, OPEN)
                if (kind === 'zero') return lun.zero(offset, end - offset, fua ? { fua } : {}, OPEN)
                return lun.flush(OPEN)
              }),
            )
            await checkHoles(lun)
            if (seed % 3 === 0) await lun.close()
          })
          machine.powerCycle(mode as 'lost')
          await machine.withLun(checkHoles)
        },
      ),
      { numRuns: 20 },
    )
  })
})
