// Opens a trace by what the user names: the cluster's directory, or with --from any directories and files of segments (copied
// from other machines, or recorded by a simulation). Looking changes nothing. All commands of `stellwerk trace` begin here:
//
//   const source = await openTrace(context.directory(input), input.texts('from'))
//   source.processes                     who has traces: { name, streams }
//   source.cluster                       which cluster, as the segments (or cluster.json) say; null: nobody says
//   for await (const record of source.records({ filter, onDamaged, onGap })) …     all, merged by hybrid logical clock
//   source.records({ … }, ['coordinator'])                                          of these processes only
//
// A stream is one directory's segments of one process, oldest first; `streamsOf` and `batchesOf` give them one by one, for
// those who don't want them merged. What a crash cut off is tolerated. Errors, each one line: `no-trace` (nothing there),
// `not-a-trace`, `newer-trace`, `mixed-clusters`.

import { basename, dirname } from 'node:path'
import { segmentNumber } from '@stellwerk/protocol/trace/file-writer.ts'
import { compareRecords, mergeTraces, readSegments, type TraceReadOptions } from '@stellwerk/protocol/trace/reader.ts'
import { MAX_SEGMENT_HEADER_BYTES, readSegmentStart, TRACE_FORMAT } from '@stellwerk/protocol/trace/segment-format.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { createReadingFiles, type ReadingFiles } from '@stellwerk/runtime/node/reading-files.ts'
import type { ClusterFile } from '../cluster/cluster-file.ts'
import { clusterIn } from '../cluster/directory.ts'
import type { OptionSpec } from '../command-line/command.ts'
import { OBSERVER } from '../observer/observer-name.ts'
import { traceDirectory } from '../programs/process.ts'

export const FROM: OptionSpec = {
  type: 'string',
  multiple: true,
  value: 'PATH',
  help: 'instead of the cluster’s: traces in this directory (or this segment file), copied or simulated',
}

export interface TraceStream {
  readonly process: string
  readonly directory: string
  /** Absolute paths, oldest first. */
  readonly segments: readonly string[]
}

export interface TraceProcess {
  readonly name: string
  readonly streams: readonly TraceStream[]
}

/** Segments looked at, and how deep below a named directory they are looked for. */
const SEGMENTS_MAX = 10_000
const DEPTH_MAX = 8

interface Segment {
  readonly path: string
  /** Null: damaged or cut before it said so. */
  readonly process: string | null
  readonly cluster: string | null
}

export class TraceSource {
  readonly files: ReadingFiles
  /** As the user said it. */
  readonly where: string
  readonly cluster: string | null
  /** In the order of their names. */
  readonly processes: readonly TraceProcess[]
  /** Where the trace is that of a cluster's own directory. */
  readonly file: ClusterFile | null

  constructor(
    files: ReadingFiles,
    where: string,
    cluster: string | null,
    processes: readonly TraceProcess[],
    file: ClusterFile | null,
  ) {
    this.files = files
    this.where = where
    this.cluster = cluster
    this.processes = processes
    this.file = file
  }

  get names(): string[] {
    return this.processes.map(({ name }) => name)
  }

  /** Of these processes, or of all. */
  streamsOf(names?: readonly string[]): TraceStream[] {
    const wanted = this.processes.filter(({ name }) => names === undefined || names.includes(name))
    return wanted.flatMap(({ streams }) => streams)
  }

  batchesOf(stream: TraceStream, options: TraceReadOptions = {}): AsyncGenerator<TraceRecord[]> {
    return readSegments(this.files, stream.segments, options)
  }

  /** Merged by hybrid logical clock; what lies there twice comes once. */
  async *records(options: TraceReadOptions = {}, names?: readonly string[]): AsyncGenerator<TraceRecord> {
    const streams = this.streamsOf(names)
    const several = this.processes.some(process => process.streams.length > 1)
    let last: TraceRecord | null = null
    for await (const record of mergeTraces(streams.map(stream => this.batchesOf(stream, options)))) {
      if (several && last !== null && record.seq !== 0 && compareRecords(last, record) === 0) continue
      last = record
      yield record
    }
  }
}

/** `directory`: of the cluster; `from`: where to look instead, if given. */
export async function openTrace(directory: string, from: readonly string[] = []): Promise<TraceSource> {
  return from.length === 0 ? openOfCluster(directory) : openFrom(from)
}

async function openOfCluster(directory: string): Promise<TraceSource> {
  const file = await clusterIn(directory)
  const files = createReadingFiles(directory)
  const paths: string[] = []
  for (const process of [...processesOf(file), OBSERVER]) {
    const inside = traceDirectory(directory, process)
    for (const name of await files.list(inside)) if (segmentNumber(name) !== null) paths.push(`${inside}/${name}`)
  }
  const segments = await lookAt(files, paths)
  const own = { path: `${directory}/cluster.json`, process: null, cluster: file.cluster }
  return new TraceSource(files, directory, clusterOf([own, ...segments]), await byProcess(files, segments), file)
}

/** All that the cluster's file names, whether it has a trace yet or not. */
export function processesOf(file: ClusterFile): string[] {
  const hosts = file.hosts.flatMap(({ name }) => [`${name}/agent`, `${name}/guardian`])
  return ['coordinator', ...hosts, ...file.storages.map(({ name }) => name)]
}

async function openFrom(from: readonly string[]): Promise<TraceSource> {
  const files = createReadingFiles('.')
  const where = from.join(', ')
  const paths = new Set<string>()
  for (const path of from) {
    const found = await files.look(path)
    if (found === 'nothing') throw noTrace(path, 'there is no such file or directory')
    if (found === 'other') throw notATrace(path)
    const inside = found === 'file' ? [path] : await walk(files, path, 0)
    if (inside.length === 0) throw noTrace(path, 'no trace segments are in it')
    for (const each of inside) paths.add(await files.real(each))
    if (paths.size > SEGMENTS_MAX) {
      throw new StellwerkError('too-many-segments', `more than ${SEGMENTS_MAX} trace segments are there`, {
        where: path,
        hint: 'name one of the directories in it',
      })
    }
  }
  const segments = await lookAt(files, [...paths])
  return new TraceSource(files, where, clusterOf(segments), await byProcess(files, segments), null)
}

async function walk(files: ReadingFiles, directory: string, depth: number): Promise<string[]> {
  const found: string[] = []
  for (const name of await listed(files, directory)) {
    const path = `${directory}/${name}`
    const kind = await files.look(path)
    if (kind === 'file' && name.endsWith('.trace')) found.push(path)
    else if (kind === 'directory' && depth < DEPTH_MAX && name !== 'node_modules') {
      found.push(...(await walk(files, path, depth + 1)))
    }
    if (found.length > SEGMENTS_MAX) break
  }
  return found
}

async function listed(files: ReadingFiles, directory: string): Promise<string[]> {
  try {
    return await files.list(directory)
  } catch (error) {
    throw new StellwerkError(errorCode(error), `the directory can't be looked into: ${errorCode(error)}`, {
      where: directory,
      hint: 'see who may read it',
      cause: error,
    })
  }
}

// --- what a file is --------------------------------------------------------------------------------------------------------

async function lookAt(files: ReadingFiles, paths: readonly string[]): Promise<Segment[]> {
  const segments: Segment[] = []
  for (const path of paths) {
    const start = readSegmentStart(await startOf(files, path))
    if (start.kind === 'foreign') throw notATrace(path)
    if (start.kind === 'newer') {
      throw new StellwerkError(
        'newer-trace',
        `a later version of stellwerk wrote this trace (format ${start.format})`,
        {
          where: path,
          hint: `this one reads up to format ${TRACE_FORMAT}: use that version`,
        },
      )
    }
    const { process, cluster } = start.kind === 'segment' ? start : { process: null, cluster: null }
    segments.push({ path, process, cluster })
  }
  return segments
}

async function startOf(files: ReadingFiles, path: string): Promise<Buffer> {
  try {
    const file = await files.open(path)
    try {
      const bytes = await file.read(0, Math.min(await file.size(), MAX_SEGMENT_HEADER_BYTES))
      return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    } finally {
      await file.close()
    }
  } catch (error) {
    // Rotated away between the look and the opening: no trace of it is left to be read.
    if (errorCode(error) === 'missing-file') return Buffer.alloc(0)
    throw new StellwerkError(errorCode(error), `the trace can't be read: ${errorCode(error)}`, {
      where: path,
      hint: 'see who may read it',
      cause: error,
    })
  }
}

function clusterOf(segments: readonly Segment[]): string | null {
  const [first, ...others] = segments.filter(({ cluster }) => cluster !== null)
  if (first === undefined) return null
  const other = others.find(({ cluster }) => cluster !== first.cluster)
  if (other === undefined) return first.cluster
  throw new StellwerkError('mixed-clusters', `the traces are of two clusters: ${first.cluster} and ${other.cluster}`, {
    where: `${first.path}, ${other.path}`,
    hint: 'name the traces of one of them with --from',
  })
}

/** One that does not say whose it is belongs to the others of its directory. */
async function byProcess(files: ReadingFiles, segments: readonly Segment[]): Promise<TraceProcess[]> {
  const streams = new Map<string, { process: string; directory: string; paths: string[] }>()
  const owners = new Map(segments.filter(s => s.process !== null).map(s => [dirname(s.path), s.process!]))
  for (const { path, process } of segments) {
    const directory = dirname(path)
    const name = process ?? owners.get(directory) ?? directory
    const key = `${directory}\0${name}`
    const stream = streams.get(key)
    if (stream === undefined) streams.set(key, { process: name, directory, paths: [path] })
    else stream.paths.push(path)
  }
  const processes = new Map<string, TraceStream[]>()
  for (const { process, directory, paths } of streams.values()) {
    const stream = { process, directory, segments: await inOrder(files, paths) }
    processes.set(process, [...(processes.get(process) ?? []), stream])
  }
  return [...processes.keys()].sort().map(name => ({ name, streams: processes.get(name)! }))
}

/** By their numbers; where copying has given them other names, by the time of their first record. */
async function inOrder(files: ReadingFiles, paths: readonly string[]): Promise<string[]> {
  if (paths.every(path => segmentNumber(basename(path)) !== null)) return [...paths].sort()
  const firsts = new Map<string, TraceRecord | null>()
  for (const path of paths) firsts.set(path, await firstRecord(files, path))
  return [...paths].sort((a, b) => {
    const [x, y] = [firsts.get(a) ?? null, firsts.get(b) ?? null]
    return x === null || y === null ? (x === null ? -1 : 1) : compareRecords(x, y)
  })
}

async function firstRecord(files: ReadingFiles, path: string): Promise<TraceRecord | null> {
  for await (const [first] of readSegments(files, [path], { onDamaged: () => undefined })) return first ?? null
  return null
}

function noTrace(path: string, what: string): StellwerkError {
  return new StellwerkError('no-trace', what, {
    where: path,
    hint: 'name a directory with *.trace files below it, or such a file, with --from',
  })
}

function notATrace(path: string): StellwerkError {
  return new StellwerkError('not-a-trace', 'the file is no trace of stellwerk', {
    where: path,
    hint: 'name a directory with trace segments, or one of them, with --from',
  })
}
