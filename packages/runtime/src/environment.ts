// The one seam between the code and the world. Everything above it runs unchanged on the real environment (node/) and on
// the simulated one (sim/). This file holds shapes only.

/** A value that survives JSON: what stores, pipes and traces carry. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json }

export interface Environment {
  /** The process's name in logs and traces: `coordinator`, `host-a/agent`, `host-a/guardian`, `san-a`. */
  readonly name: string
  readonly clock: Clock
  readonly timers: Timers
  readonly network: Network
  readonly files: Files
  readonly store: Store
  readonly processes: Processes
  readonly compute: Compute
  readonly random: Random
  readonly log: Logger
  readonly trace: TraceSink
}

// --- time ------------------------------------------------------------------------------------------------------------

export interface Clock {
  /** Milliseconds (fractional) since a point that all processes of a machine share; never goes back, counts suspends. */
  now(): number
  /** Milliseconds since 1970, for display and trace stamps only; may jump. */
  wall(): number
}

export interface Timers {
  /** Runs `f` once, `delayMs` (≥ 0) from now. An exception in `f` ends the process. */
  after(delayMs: number, f: () => void): Timer
}

export interface Timer {
  /** Idempotent; after it returns `f` will not run. */
  cancel(): void
}

// --- network ---------------------------------------------------------------------------------------------------------

/** A network of the cluster: each has its own addresses, and so its own faults. `local` is this machine (unix sockets). */
export type NetworkName = 'cluster' | 'fabric-0' | 'fabric-1' | 'guest' | 'local'

/** Where something listens. On `local`, `host` is the socket's path and `port` is 0. Port 0 in `listen`: any free one. */
export interface Address {
  readonly network: NetworkName
  readonly host: string
  readonly port: number
}

/** `control`: heartbeats and decisions; `io`: redirected blocks; `bulk`: migration streams. Each its own socket. */
export type LinkClass = 'control' | 'io' | 'bulk'

export interface Network {
  /**
   * Opens a framed link (a WebSocket). Rejects with `unreachable` (retryable) when nobody answers within `timeoutMs`
   * (default 5,000) or the dial is refused (`refused`).
   */
  dial(address: Address, linkClass: LinkClass, options?: DialOptions): Promise<Link>
  /** Rejects with `address-in-use` when the port is taken. `accept` must subscribe to the link before it returns. */
  listen(address: Address, accept: (link: Link) => void): Promise<Listener>
  /** A plain byte stream (TCP or unix socket): the wire of NBD. Errors as `dial`. */
  dialStream(address: Address, options?: DialOptions): Promise<ByteStream>
  listenStream(address: Address, accept: (stream: ByteStream) => void): Promise<Listener>
}

export interface DialOptions {
  readonly timeoutMs?: number
  /** Within this the other machine must have taken the connection, whatever its program does then; absent: `timeoutMs`. */
  readonly connectMs?: number
}

export interface Listener {
  /** With the port that was really taken. */
  readonly address: Address
  /** Stops accepting and closes what was accepted. */
  close(): Promise<void>
}

/**
 * A bidirectional link of whole frames with credit: a sender holds at most its window of unconsumed bytes, a receiver
 * gives credit back when its `onFrame` has returned (or the promise it returned has resolved). Frames arrive in order,
 * each once, or the link closes.
 */
export interface Link {
  readonly class: LinkClass
  /** The other side's address, for logs. */
  readonly peer: string
  /** Sends all frames or, when the credit does not suffice for all of them, none (false): try again on `onCredit`. */
  trySend(frames: readonly Uint8Array[]): boolean
  /** Called whenever credit came back after a refused `trySend`. */
  onCredit(f: () => void): void
  onFrame(f: (frame: Uint8Array) => void | Promise<void>): void
  /** Called once, with a code (`closed`, `lost`, `protocol-error`, …) and a reason for humans; never after `close()`. */
  onClose(f: (code: string, reason: string) => void): void
  /** Idempotent. Frames already sent are still delivered if the peer is there. */
  close(code: string, reason?: string): void
}

/** Bytes in order, no frames. All callbacks are single: setting one replaces the former. */
export interface ByteStream {
  readonly peer: string
  /** Takes the parts without copying: the caller must not change them until they are sent. False: above high water. */
  write(parts: readonly Uint8Array[]): boolean
  /** Bytes taken by `write` and not yet handed to the network. */
  readonly bufferedBytes: number
  onDrain(f: () => void): void
  onData(f: (chunk: Uint8Array) => void): void
  /** Stops `onData` (back-pressure) until `resume`. */
  pause(): void
  resume(): void
  /** The other side ended its half in order; nothing more will come. */
  onEnd(f: () => void): void
  /** Called once when the stream is gone, with the error if it broke; never after `destroy()`. */
  onClose(f: (error: Error | null) => void): void
  /** Ends our half in order after what was written. */
  end(): void
  /** Drops the stream at once. Idempotent. */
  destroy(): void
}

// --- files and state -------------------------------------------------------------------------------------------------

/**
 * Files below one process's own directory; paths are relative to it, with `/`. What `write` put is visible to reads at
 * once, but durable only after `sync` (or with `durable`): a crash of the machine may lose or tear it.
 */
export interface Files {
  /**
   * `missing-file` if it is not there and `create` is not set. `worker` says that heavy traffic is to be expected: an
   * environment may then serve it from a thread of its own.
   */
  open(path: string, options?: { readonly create?: boolean; readonly worker?: boolean }): Promise<File>
  /** The whole file, or null if there is none. */
  read(path: string): Promise<Uint8Array | null>
  /** Replaces the whole file: written aside, synced, renamed, directory synced. Atomic and durable. */
  writeAtomic(path: string, data: Uint8Array): Promise<void>
  /** The absolute path by which programs of the machine find it. */
  locate(path: string): string
  /** Names in a directory, sorted; empty if there is no such directory. */
  list(path: string): Promise<string[]>
  makeDirectory(path: string): Promise<void>
  /** The file is for the user to whom its directory was given, if it was given to one (`CommandSpec.ownUser`). */
  handOver(path: string): Promise<void>
  /** From now on that user uses what is in the directory, but makes, renames and removes nothing there. */
  seal(directory: string): Promise<void>
  /** A file, or an empty directory. Nothing there is well, too. */
  remove(path: string): Promise<void>
  /** An exclusive lock that ends with the process; `locked` if another process has it. */
  lock(path: string): Promise<FileLock>
}

export interface FileLock {
  release(): void
}

/** Errors carry system codes: `EIO`, `ENOSPC`, … */
export interface File {
  size(): Promise<number>
  /** Bytes `[offset, offset + length)`; what lies past the end reads as zeroes. */
  read(offset: number, length: number): Promise<Uint8Array>
  /** Writes the parts one after the other. `durable`: on stable storage when the promise resolves. */
  write(offset: number, data: readonly Uint8Array[], options?: { readonly durable?: boolean }): Promise<void>
  /** After it resolves, everything written before it was called is on stable storage. A failed sync is final. */
  sync(): Promise<void>
  /** Makes the range read as zeroes and gives its blocks back where the file system can. Durable as a write is. */
  punch(offset: number, length: number): Promise<void>
  truncate(size: number): Promise<void>
  close(): Promise<void>
}

/**
 * A process's own durable state: keys with JSON values. Synchronous, so that no decision waits between check and use:
 * when `commit` returns, all of the changes are on stable storage, or it threw and none is.
 */
export interface Store {
  get(key: string): Json | undefined
  /** All entries whose key starts with `prefix`, sorted by key. */
  entries(prefix: string): readonly (readonly [string, Json])[]
  commit(changes: readonly StoreChange[]): void
}

export type StoreChange = { readonly put: string; readonly value: Json } | { readonly delete: string }

// --- processes and computing -----------------------------------------------------------------------------------------

export interface Processes {
  /** Starts a child of this machine; it ends when this process does. */
  spawn(spec: ProcessSpec): Child
  /**
   * Starts a program of the machine (QEMU, qemu-img). It ends when this process does, however that ends. Throws
   * `no-program` when there is none of that name, `spawn-failed` when the system refuses.
   */
  command(spec: CommandSpec): Command
  /** The pipe to the process that spawned this one, or null. */
  readonly parent: Parent | null
  /** Kills what a dead predecessor of this process left running (by the pids it had recorded). */
  killLeftovers(): Promise<readonly number[]>
  /** Ends this process at once; nothing runs after it. */
  exit(code: number): void
  /** The operator asked this process to end in order (SIGTERM, SIGINT); called once. */
  onStop(f: () => void): void
}

export interface ProcessSpec {
  /** What to run: `agent` in the guardian, any program of the `stellwerk` command in `up`. */
  readonly program: string
  readonly name: string
  /** Given to the program's main function. */
  readonly config: Json
}

export interface Child {
  readonly pid: number
  send(message: Json): void
  onMessage(f: (message: Json) => void): void
  /** Called once, after the process was reaped: it and all of its threads are gone. */
  onExit(f: (exit: { readonly code: number | null; readonly signal: string | null }) => void): void
  /** Sends SIGKILL. */
  kill(): void
}

export interface CommandSpec {
  /** An absolute path, or a name that is looked up where the system's programs are. */
  readonly program: string
  readonly name: string
  readonly args: readonly string[]
  /** The working directory, absolute; absent: this process's. */
  readonly directory?: string
  /**
   * Where this process is root and may, the program runs as a user of its own, to whom `directory` and what is in it then belong:
   * with these capabilities (capabilities(7)) and no others, and also in the group of that file. Elsewhere as this process does.
   */
  readonly ownUser?: { readonly capabilities: readonly 'net_bind_service'[]; readonly groupOf?: string }
}

export interface CommandExit {
  readonly code: number | null
  readonly signal: string | null
  /** The last of what it said, at most COMMAND_OUTPUT_MAX bytes of each. */
  readonly output: string
  readonly errors: string
}

export const COMMAND_OUTPUT_MAX = 64 * 1024

export interface Command {
  readonly pid: number
  /** Called once, after the process was reaped: it and all of its threads are gone. */
  onExit(f: (exit: CommandExit) => void): void
  /** Called with what it says on its standard output, as it comes. */
  onOutput(f: (text: string) => void): void
  /** Sends SIGKILL. */
  kill(): void
}

export interface Parent {
  send(message: Json): void
  onMessage(f: (message: Json) => void): void
  /** The parent is gone: this process must end what it runs and exit. */
  onGone(f: () => void): void
}

/** CPU-heavy work off the event loop; inline in the simulation. */
export interface Compute {
  /** zstd, level 1 unless told. */
  compress(data: Uint8Array, level?: number): Promise<Uint8Array>
  /** Rejects with `corrupt-data` unless the result is exactly `sizeBytes` long. */
  decompress(data: Uint8Array, sizeBytes: number): Promise<Uint8Array>
  /** A thread running the module at `entry`, which exchanges messages by `parentPort`. */
  startWorker(entry: URL, data: unknown): Worker
}

export interface Worker {
  post(message: unknown, transfer?: readonly ArrayBuffer[]): void
  onMessage(f: (message: unknown) => void): void
  onExit(f: (error: Error | null) => void): void
  /** Resolves when the thread is gone and executes nothing any more. */
  terminate(): Promise<void>
}

// --- randomness, log, trace ------------------------------------------------------------------------------------------

export interface Random {
  /** Uniform in [0, 1). */
  float(): number
  /** Uniform integer in [0, below). */
  int(below: number): number
  bytes(length: number): Uint8Array
  /** An id in nanoid's alphabet, 12 characters unless told. */
  id(length?: number): string
  /** An independent stream: the same name gives the same stream for the same seed. */
  fork(name: string): Random
}

export interface Logger {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

export type TraceLevel = 'decision' | 'message' | 'io'

/** Hybrid logical clock: wall milliseconds, then a counter; totally ordered together with the process's name. */
export interface Hlc {
  readonly wallMs: number
  readonly counter: number
}

/** The message or decision that led to this one: a trace is a graph. */
export interface Cause {
  readonly process: string
  readonly seq: number
}

export interface TraceRecord {
  readonly hlc: Hlc
  /** The recording process's monotonic clock, ms. */
  readonly at: number
  readonly process: string
  /** Counts a process's records from 1. */
  readonly seq: number
  readonly level: TraceLevel
  /** What happened, dotted: `vm.run`, `lease.granted`, `storage.fenced`. */
  readonly kind: string
  readonly cause?: Cause
  readonly host?: string
  readonly vm?: string
  readonly volume?: string
  readonly disk?: string
  readonly migration?: string
  readonly body?: Json
  /** Of a simulated run: its place among the records of all processes, which no clock tells. */
  readonly order?: number
}

/** What a caller says; the sink adds the stamps. */
export type TraceEvent = Omit<TraceRecord, 'hlc' | 'at' | 'process' | 'seq' | 'order'>

export interface TraceSink {
  /** Ask before building an expensive record. */
  on(level: TraceLevel): boolean
  /** Records and gives the id to use as `cause`. */
  emit(event: TraceEvent): Cause
  /** Advances the clock past a stamp that came with a message. */
  observe(hlc: Hlc): void
  /** The stamp for a message that leaves now. */
  stamp(): Hlc
  /** What `f` records without a cause of its own has this one. */
  within<T>(cause: Cause | undefined, f: () => T): T
  /**
   * What a pure core was fed, what it answered (null: nothing; asked for only where it is recorded), and its whole state
   * at the opening of each segment, so that it can be replayed.
   */
  input(core: string, value: Json): void
  output(core: string, value: () => Json): void
  snapshot(core: string, state: Json): void
}
