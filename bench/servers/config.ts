// How a bench's server processes are started: a configuration as JSON, a scratch directory, and an end with their parent.

import { join } from 'node:path'
import type { Identity } from '@stellwerk/protocol/session.ts'
import { TraceFileWriter } from '@stellwerk/protocol/trace/file-writer.ts'
import type { TraceLevel } from '@stellwerk/runtime/environment.ts'
import { createEnvironment, type NodeEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'

export const BENCH_CLUSTER = 'bench'
export const BENCH_TOKEN = 'bench'
export const BENCH_HOST = 'a'

export function benchIdentity(node: string): Identity {
  return { cluster: BENCH_CLUSTER, node, role: 'agent', incarnation: 1, credential: BENCH_TOKEN }
}

/** The one argument of a server. */
export function config<T>(): T {
  return JSON.parse(process.argv[2] ?? '{}') as T
}

export interface ServerOptions {
  /** Its state is on disk, not in memory. */
  readonly durable?: boolean
  /** It records its trace as an agent does; absent: nothing is recorded. */
  readonly trace?: TraceLevel
}

export function serverEnvironment(name: string, directory: string, options: ServerOptions = {}): NodeEnvironment {
  const { durable = false, trace } = options
  const writer = trace === undefined ? null : new TraceFileWriter({ process: name, level: trace })
  const env = createEnvironment({
    name,
    directory: join(directory, name),
    logLevel: 'warn',
    ...(writer === null ? {} : { traceWriter: writer }),
    ...(durable ? {} : { store: memoryStore() }),
  })
  writer?.attach(env)
  return env
}

/** In order when asked, at once when the parent is gone. */
export function endWithParent(): void {
  process.stdin.on('end', () => process.exit(0)).resume()
  process.on('SIGTERM', () => process.exit(0))
}
