// A process of a cluster, whatever it runs: its environment on its own directory, with log and trace files there, and the
// same for the children it starts.

import { join } from 'node:path'
import { TraceFileWriter } from '@stellwerk/protocol/trace/file-writer.ts'
import type { Environment, Json, Processes, TraceLevel } from '@stellwerk/runtime/environment.ts'
import { createEnvironment, type NodeEnvironment } from '@stellwerk/runtime/node/environment.ts'
import type { FaultSwitch } from '@stellwerk/runtime/node/faults/environment-faults.ts'
import type { Repeating } from '@stellwerk/runtime/node/faults/network-faults.ts'
import type { LogLevel } from '@stellwerk/runtime/node/log.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { LATER_MAX_MS, repeating } from '../faults/repeating-link.ts'

/** What children of a cluster's processes run. */
export const PROCESS_ENTRY = new URL('../process-main.ts', import.meta.url)

/**
 * A process's trace on disk is at most so many full segments; older records go. The coordinator hears all hosts, and each of its
 * segments begins with a snapshot of all it knows: with 100 hosts it records some 0.3 MiB a second, and a snapshot is 1 MiB.
 */
const TRACE_SEGMENT_BYTES = 8 * MIB
const COORDINATOR_SEGMENT_BYTES = 32 * MIB
const TRACE_SEGMENTS = 8

/** How a child is started: `config` is the program's own. */
export interface Launch {
  /** All processes' directories lie here, each under its name. */
  readonly root: string
  /** Which cluster it is, as its traces say. */
  readonly cluster: string
  readonly logLevel: LogLevel
  /** Default `message`. */
  readonly traceLevel?: TraceLevel
  /** It goes by fault rules; absent: it can't be told any. */
  readonly faults?: FaultSwitch
  readonly config: Json
}

export interface OpenedProcess {
  readonly env: Environment
  /** Called when a trace segment begins: what a core needs to be replayed from there is to be written now. */
  onSegment: () => void
  /** Orderly: traces are on disk when it resolves. */
  close(): Promise<void>
}

/** Throws what opening the state throws: `locked`, `foreign-state`, `corrupt-state`, `lost-state`. */
export function openProcess(name: string, launch: Launch, stateNeededBy?: string): OpenedProcess {
  const directory = join(launch.root, name)
  const segmentBytes = name === 'coordinator' ? COORDINATOR_SEGMENT_BYTES : TRACE_SEGMENT_BYTES
  const writer = new TraceFileWriter({
    process: name,
    cluster: launch.cluster,
    ...(launch.traceLevel === undefined ? {} : { level: launch.traceLevel }),
    segmentBytes,
    keepBytes: TRACE_SEGMENTS * segmentBytes,
    onSegment: () => opened.onSegment(),
  })
  const node: NodeEnvironment = createEnvironment({
    name,
    directory,
    entry: PROCESS_ENTRY,
    outputDirectory: join(launch.root, 'output'),
    logLevel: launch.logLevel,
    logFile: join(directory, 'log'),
    traceWriter: writer,
    ...(stateNeededBy === undefined ? {} : { stateNeededBy }),
    ...(launch.faults === undefined ? {} : { faults: { ...launch.faults, repeating: repeatingOf(() => node) } }),
  })
  writer.attach(node)
  const close = async () => {
    await writer.close()
    await node.close()
  }
  const opened: OpenedProcess = {
    env: { ...node, processes: processesOf(node, launch, writer) },
    onSegment: () => undefined,
    close,
  }
  return opened
}

/** Requests on a link come twice, by the rules of the moment. */
function repeatingOf(env: () => NodeEnvironment): Repeating {
  return (link, chance) => {
    const { timers, random } = env()
    return repeating(link, timers, () => (random.float() < chance() ? random.float() * LATER_MAX_MS : null))
  }
}

/** Children get the same root; an orderly exit waits for the trace. */
function processesOf(node: NodeEnvironment, launch: Launch, writer: TraceFileWriter): Processes {
  const { processes } = node
  return {
    ...processes,
    spawn: spec =>
      processes.spawn({ ...spec, config: { ...launch, config: spec.config } satisfies Launch as unknown as Json }),
    exit: code => {
      if (code !== 0) processes.exit(code)
      else writer.close().finally(() => processes.exit(0))
    },
  }
}

/** Where a process's traces lie, from the root. */
export function traceDirectory(root: string, name: string): string {
  return join(root, name, 'trace')
}
