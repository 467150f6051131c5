// The real environment: the one object through which a process of Stellwerk touches the world. It wires, and has no logic.

import { existsSync, readdirSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { present } from '../assert.ts'
import type { Environment, Random, Store } from '../environment.ts'
import { StellwerkError } from '../errors.ts'
import { createTraceSink, type TraceWriter } from '../trace-sink.ts'
import { createClock, SYSTEM_CLOCKS } from './clock.ts'
import { createCompute } from './compute.ts'
import { type FaultSwitch, openFaults } from './faults/environment-faults.ts'
import type { Repeating } from './faults/network-faults.ts'
import { createFiles } from './files.ts'
import { createLogger, type LogLevel } from './log.ts'
import { makeDirectorySync } from './make-directory.ts'
import { createNetwork } from './network.ts'
import { createProcesses } from './processes.ts'
import { createRandom } from './random.ts'
import { openSqliteStore } from './sqlite-store.ts'
import { createTimers } from './timers.ts'

const STATE_FILE = 'state.sqlite'

export interface EnvironmentOptions {
  /** `coordinator`, `host-a/agent`, … */
  readonly name: string
  /** The process's own directory; made if it is missing. */
  readonly directory: string
  /** What children run; without it `processes.spawn` is a bug. */
  readonly entry?: URL
  /** Where children's output goes, a file each; absent: where this process's goes. */
  readonly outputDirectory?: string
  /** Default: `state.sqlite` in the directory. `memoryStore()` for a program without state. */
  readonly store?: Store
  /**
   * A directory in this one whose files mean nothing without the state: while it holds any, a state that is missing is not
   * made anew. What would take its place would have to be removed before the right one can be put back.
   */
  readonly stateNeededBy?: string
  /** Default: seeded by the system. */
  readonly random?: Random
  readonly logLevel?: LogLevel
  /** Default: stderr. */
  readonly logFile?: string
  readonly traceWriter?: TraceWriter
  /** Its network, files and wall clock go by the fault rules in a file; absent: nothing looks for any. */
  readonly faults?: FaultSwitch & { readonly repeating?: Repeating }
}

export interface NodeEnvironment extends Environment {
  /** Ends children, links and listeners, closes the store: what an orderly end and a test need. */
  close(): Promise<void>
}

/** Throws what opening the state can throw: `locked`, `foreign-state`, `corrupt-state`, `lost-state`. */
export function createEnvironment(options: EnvironmentOptions): NodeEnvironment {
  const { name } = options
  const directory = resolve(options.directory)
  if (options.stateNeededBy !== undefined) refuseLostState(directory, options.stateNeededBy)
  makeDirectorySync(directory)
  const log = createLogger(name, {
    level: options.logLevel ?? 'info',
    ...(options.logFile === undefined ? {} : { file: options.logFile }),
  })
  const random = options.random ?? createRandom()
  const faults =
    options.faults === undefined ? null : openFaults(name, options.faults, { ...options.faults, random, log })
  const clock =
    faults === null
      ? createClock()
      : createClock({ ...SYSTEM_CLOCKS, wallMs: () => SYSTEM_CLOCKS.wallMs() + faults.wallJumpMs() })
  const own = options.store === undefined ? openSqliteStore(join(directory, STATE_FILE)) : null
  const network = createNetwork(faults?.network ?? null)
  const processes = createProcesses({
    directory,
    entry: options.entry ?? null,
    log,
    ...(options.outputDirectory === undefined ? {} : { outputDirectory: options.outputDirectory }),
  })
  return {
    name,
    clock,
    timers: createTimers(clock),
    network,
    files: createFiles(directory, name, log, faults?.disk ?? null),
    store: present(options.store ?? own, 'the store'),
    processes,
    compute: createCompute(),
    random,
    log,
    trace: createTraceSink(name, clock, options.traceWriter ?? null),
    async close() {
      await processes.close()
      await network.close()
      faults?.close()
      own?.close()
    },
  }
}

function refuseLostState(directory: string, neededBy: string): void {
  const state = join(directory, STATE_FILE)
  if (existsSync(state) && statSync(state).size > 0) return
  const files = join(directory, neededBy)
  const left = existsSync(files) ? readdirSync(files).length : 0
  if (left === 0) return
  throw new StellwerkError(
    'lost-state',
    `the state is gone, but ${neededBy}/ holds ${left} files; nothing was changed`,
    {
      where: state,
      hint: `put the state back, or move ${neededBy}/ away if what it holds is not wanted`,
    },
  )
}
