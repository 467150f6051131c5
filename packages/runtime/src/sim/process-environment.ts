// The Environment of a simulated process, put together from the parts of the simulation.

import * as zlib from 'node:zlib'
import { assert } from '../assert.ts'
import type { Compute, Environment, Logger, Timers } from '../environment.ts'
import { StellwerkError } from '../errors.ts'
import { MIB } from '../units.ts'
import { createFiles } from './files.ts'
import type { SimProcess } from './process.ts'
import type { LogLevel, Simulation } from './simulation.ts'
import { SimStore } from './store.ts'
import { SimTraceSink } from './trace.ts'

/** What a core compresses and decompresses in a millisecond. */
const COMPRESS_BYTES_A_MS = 0.4 * MIB
const DECOMPRESS_BYTES_A_MS = MIB

export function createEnvironment(sim: Simulation, process: SimProcess): Environment {
  const { host, name } = process
  return {
    name,
    clock: { now: () => host.now(), wall: () => host.wall() },
    timers: createTimers(sim, process),
    network: sim.network.environment(process),
    files: createFiles(process),
    store: new SimStore(sim, process),
    processes: process.tree.processes(),
    compute: createCompute(process),
    // A restarted process must not draw the ids of its predecessor again.
    random: sim.random.fork(`process/${host.name}/${name}/${process.incarnation}`),
    log: createLogger(sim, process),
    trace: new SimTraceSink(sim, process, name),
  }
}

function createTimers(sim: Simulation, process: SimProcess): Timers {
  return {
    after(delayMs, f) {
      assert(delayMs >= 0, `a timer of ${delayMs} ms`)
      // A paused process's timer rings when it wakes; cancelled before that, it must not.
      let cancelled = false
      const event = process.later(process.host.virtualDelay(delayMs), () => {
        if (!cancelled) f()
      })
      return {
        cancel() {
          cancelled = true
          sim.cancel(event)
        },
      }
    },
  }
}

function createLogger(sim: Simulation, process: SimProcess): Logger {
  const at = (level: LogLevel) => (fields: object, message: string) => {
    if (process.alive) sim.log(process.name, level, fields, message)
  }
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
}

function createCompute(process: SimProcess): Compute {
  const run = <T>(costMs: number, f: () => T): Promise<T> =>
    new Promise((resolve, reject) => {
      process.later(costMs, () => {
        try {
          resolve(f())
        } catch (error) {
          reject(error)
        }
      })
    })
  return {
    compress: (data, level = 1) =>
      run(data.byteLength / COMPRESS_BYTES_A_MS, () => {
        const params = { [zlib.constants.ZSTD_c_compressionLevel]: level }
        return new Uint8Array(zlib.zstdCompressSync(data, { params }))
      }),
    decompress: (data, sizeBytes) => run(sizeBytes / DECOMPRESS_BYTES_A_MS, () => decompressExactly(data, sizeBytes)),
    startWorker(entry) {
      throw new StellwerkError('not-in-simulation', `a simulation has no threads to run ${entry.href}`, {
        where: process.name,
        hint: 'use the model hypervisor in simulations',
      })
    },
  }
}

function decompressExactly(data: Uint8Array, sizeBytes: number): Uint8Array {
  let result: Uint8Array
  try {
    result = new Uint8Array(zlib.zstdDecompressSync(data, { maxOutputLength: Math.max(1, sizeBytes) }))
  } catch (error) {
    throw new StellwerkError('corrupt-data', 'compressed data does not decompress', { cause: error })
  }
  if (result.byteLength !== sizeBytes) {
    throw new StellwerkError('corrupt-data', `decompressed to ${result.byteLength} bytes, not ${sizeBytes}`)
  }
  return result
}
