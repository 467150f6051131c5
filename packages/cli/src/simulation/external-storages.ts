// Storages that are plain NBD servers: each one export for every LUN, which takes what anybody sends, of whatever epoch. What it has
// taken is stable. `file` is what the witnesses look at.

import type { BlockDevice } from '@stellwerk/block/device.ts'
import { FULL_CAPS } from '@stellwerk/block/device.ts'
import { serveNbd } from '@stellwerk/block/nbd/server.ts'
import { present } from '@stellwerk/runtime/assert.ts'
import type { Address, Environment } from '@stellwerk/runtime/environment.ts'
import type { Simulation } from '@stellwerk/runtime/sim/simulation.ts'
import { SparseFile } from '@stellwerk/runtime/sim/sparse-file.ts'
import { MIB } from '@stellwerk/runtime/units.ts'

const PROGRAM = 'nbd-server'

interface ExternalStorage {
  readonly file: SparseFile
  /** How long a request takes, ms, between two of each: of these the last. */
  readonly slowed: (readonly [number, number])[]
}

export class ExternalStorages {
  /** A write has come to one, which takes it, from this peer. */
  onWrite: (peer: string) => void = () => undefined
  readonly #sim: Simulation
  readonly #portals: (name: string) => readonly Address[]
  readonly #all = new Map<string, ExternalStorage>()

  constructor(
    sim: Simulation,
    names: readonly string[],
    sizeBytes: number,
    portals: (name: string) => readonly Address[],
  ) {
    this.#sim = sim
    this.#portals = portals
    for (const name of names) {
      const file = new SparseFile()
      file.truncate(sizeBytes)
      file.makeDurable(0, 0)
      this.#all.set(name, { file, slowed: [] })
    }
    sim.program(PROGRAM, (env, config) => this.#serve(env, (config as { name: string }).name))
  }

  get names(): readonly string[] {
    return [...this.#all.keys()]
  }

  /** What it holds; null: it is none of these. */
  file(name: string): SparseFile | null {
    return this.#all.get(name)?.file ?? null
  }

  start(name: string): void {
    const host = this.#sim.host(name)
    host.powerOn()
    if (!host.process(name)?.alive) host.spawn(PROGRAM, name, { name })
  }

  /** Requests that come from now on take so long. Gives the way to end that. */
  slow(name: string, takes: readonly [number, number]): () => void {
    const storage = present(this.#all.get(name), name)
    storage.slowed.push(takes)
    return () => {
      storage.slowed.splice(storage.slowed.indexOf(takes), 1)
    }
  }

  async #serve(env: Environment, name: string): Promise<void> {
    const storage = present(this.#all.get(name), name)
    const random = this.#sim.random.fork(`nbd-server/${name}`)
    const wait = (): Promise<void> => {
      const [least, most] = storage.slowed.at(-1) ?? [0, 0]
      if (most === 0) return Promise.resolve()
      return new Promise(resolve => env.timers.after(least + random.float() * (most - least), resolve))
    }
    for (const address of this.#portals(name)) {
      await env.network.listenStream(address, stream => {
        const device = deviceOn(storage.file, wait, () => this.onWrite(stream.peer))
        const open = async () => ({ device, description: name, released: () => undefined })
        serveNbd(stream, { list: async () => [], open }, { timers: env.timers })
      })
    }
  }
}

/** All it answers is durable. */
function deviceOn(file: SparseFile, wait: () => Promise<void>, onWrite: () => void): BlockDevice {
  const clear = async (offset: number, length: number): Promise<void> => {
    await wait()
    onWrite()
    file.punch(offset, length)
    file.makeDurable(offset, length)
  }
  return {
    size: file.size,
    limits: { minimum: 1, preferred: 4096, maximum: 32 * MIB },
    caps: FULL_CAPS,
    read: async (offset, length) => {
      await wait()
      return [file.read(offset, length)]
    },
    write: async (offset, parts) => {
      await wait()
      onWrite()
      file.writeDurable(offset, parts)
    },
    flush: wait,
    zero: clear,
    trim: clear,
    blockStatus: async (_offset, length) => [{ length, hole: false, zero: false }],
    onState: () => undefined,
    close: async () => undefined,
  }
}
