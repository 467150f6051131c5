// What the agent needs of something that runs machines. Implementations: wasm/ (embedded), model/ (simulation),
// export/ (a disk served to tools: its guest is whoever connects).

import type { BlockDevice } from '@stellwerk/block/device.ts'
import type { Cpu } from '@stellwerk/protocol/cpu-levels.ts'
import type { FreezeAnswer, GuestFacts } from '@stellwerk/protocol/messages/guest-agent.ts'
import type { ByteStream, Hlc, Json } from '@stellwerk/runtime/environment.ts'

/** What a hypervisor can do on this host; found by trying, not by believing. */
export interface Capabilities {
  readonly kind: 'wasm' | 'model' | 'qemu' | 'export'
  readonly available: boolean
  readonly why?: string
  /** Of QEMU: the highest processor that its machines can have. */
  readonly cpu?: Cpu
}

/** A virtual machine as its owner defined it. */
export interface MachineSpec {
  readonly vm: string
  readonly hypervisor: 'wasm' | 'model' | 'qemu' | 'export'
  /** For wasm: the guest module's name (`ledger`, `echo`), `sha256:DIGEST`, or the path of one; for an export: what is exported. */
  readonly guest: string
  readonly memoryBytes: number
  /** Given to the guest at boot. */
  readonly parameters: { readonly [key: string]: Json }
  /**
   * Which creation of the VM this is, for evidence (`guest.step`): the placement epoch and the id of this creation.
   * Without it the epoch counts as 0 and an id is drawn. A received machine takes its epoch from the commit.
   */
  readonly identity?: { readonly epoch: number; readonly instance: string }
  /** The processor that a QEMU machine sees; absent: the least. */
  readonly cpu?: Cpu
}

/** A port of the host's virtual switch (../network/). Whose it is attaches it while the machine runs here. */
export interface NetworkPort {
  /** Null: whatever stands behind it may have any. */
  readonly mac: string | null
  /** Dropped while it is not attached. The frame must not change after. */
  send(ethernetFrame: Uint8Array): void
  onFrame(f: (ethernetFrame: Uint8Array) => void): void
  /** From now on it hears and is heard, and the network is told where its address is. Idempotent. */
  attach(): void
  detach(): void
}

/** `paused`: created or loaded, has not run yet here; `frozen`: executes nothing until thawed; `dead`: for good. */
export type MachineState = 'paused' | 'running' | 'frozen' | 'dead'

export type MachineEvent =
  /**
   * The guest said something: a line on its console. `said` was stamped before it was asked whether the guest may run: a process
   * that was put to sleep in between tells of it late, but does not call it new.
   */
  | { readonly kind: 'console'; readonly line: string; readonly said: Hlc }
  /** The beginning of a line stands on its console, as a question does; the line follows when it has an end. */
  | { readonly kind: 'prompt'; readonly text: string }
  /**
   * What its serial port has sent, byte for byte, before the lines of it, and how that stands since. Of machines that have one; of one
   * that has moved here first without a byte.
   */
  | { readonly kind: 'output'; readonly bytes: Uint8Array; readonly port: PortState }
  /** The machine froze by itself, because its right to execute was gone when it asked; it waits for a thaw. */
  | { readonly kind: 'frozen'; readonly reason: string }
  /** The guest ended by itself. */
  | { readonly kind: 'halted'; readonly reason: string }
  /** The guest broke its own or the machine's rules (trap, bad ring); it executes nothing any more. */
  | { readonly kind: 'crashed'; readonly reason: string }
  /** What an agent in the guest tells of it has changed; null: none answers. */
  | { readonly kind: 'guest'; readonly facts: GuestFacts | null }
  | MachineNotice

/** `at`: how many bytes a serial port has sent before, since its `life` began: the machine's, from its making on, wherever it moves. */
export interface PortPlace {
  readonly life: string
  readonly at: number
}

/** `recent`: the end of what it has sent. */
export interface PortState extends PortPlace {
  readonly recent: Uint8Array
}

export interface SerialPort {
  readonly life: string
  /** What is typed on the terminal there. Throws as `Machine.input`. */
  type(keys: Uint8Array): void
}

/** What the machine's hypervisor reports of it in its own words: for the record, nothing follows from it. */
export interface MachineNotice {
  readonly kind: 'notice'
  readonly event: string
  readonly data: { readonly [key: string]: Json }
  /** How many of these were not told since the last one: there were too many within a second. */
  readonly missed: number
}

/** Which freeze of a guest's file systems it is, drawn by whoever wants it; they are let go after so long, whatever happens. */
export interface FreezeOrder {
  readonly freeze: string
  readonly holdMs: number
}

/** A guest's file systems, for a snapshot of its disks. */
export interface GuestFiles {
  /** Asked again it tells how far that is. */
  freeze(order: FreezeOrder): FreezeAnswer
  /** They are let go. True: they have stood still without a break until now. */
  thaw(freeze: string): Promise<boolean>
}

/** Proof, from the hypervisor that reaped it, that a machine executes nothing any more. */
export interface Dead {
  readonly vm: string
}

export interface Hypervisor {
  probe(): Promise<Capabilities>
  /** A machine that has not run yet. */
  create(spec: MachineSpec, disks: readonly BlockDevice[], ports: readonly NetworkPort[]): Promise<Machine>
  /** The place a migration stream is loaded into. */
  receive(spec: MachineSpec, disks: readonly BlockDevice[], ports: readonly NetworkPort[]): Promise<Incoming>
  /** Machines that earlier agents have left here, and that nobody has taken over. Absent: its machines end with their agent. */
  readonly left?: LeftBehind
  /**
   * One of them, on disks that hold what its own held. It is started when it may run, wherever it stood; until then nothing leaves
   * it. Rejects with `machine-gone`, and then nothing of it is left. `epoch`: the one that it was given before.
   */
  adopt?(
    spec: MachineSpec,
    epoch: number,
    disks: readonly BlockDevice[],
    ports: readonly NetworkPort[],
  ): Promise<Machine>
  /** A connection to the screen of the VM's machine here (RFB, RFC 6143). Absent: its machines have none. Rejects with `screen-away`. */
  dialScreen?(vm: string): Promise<ByteStream>
}

export interface LeftMachineFacts {
  readonly vm: string
  /** The placement epoch that it was given. */
  readonly epoch: number
  /** The id of this creation of the VM, in evidence. */
  readonly instance: string
  /** Until when its guardian lets it run. */
  readonly until: number
}

export interface LeftBehind {
  /** Until each has ended, or whoever had it taken over says that he has it. */
  all(): readonly LeftMachineFacts[]
  find(vm: string): LeftMachineFacts | null
  taken(vm: string): void
  /** Resolves when nothing of it is left. */
  end(vm: string): Promise<void>
}

export interface Machine {
  readonly state: MachineState
  onEvent(f: (event: MachineEvent) => void): void
  start(): void
  /** When it resolves the guest executes nothing. Requests in flight go on; their completions wait for the thaw. */
  freeze(why: string): Promise<void>
  thaw(): void
  /** A line for the guest's console. Throws `migrating` on the way to a switch, `console-busy`: it has not read what came before. */
  input(line: string): void
  /** Absent: it has none, and takes lines only. */
  readonly port?: SerialPort
  /**
   * Its guest begins anew, with what its disks have, as by the reset button of a computer; one that is frozen does when it is thawed.
   * Resolves when that is so. Absent: it has none. Rejects with `migrating` on the way to a switch.
   */
  reset?(pulled?: () => void): Promise<void>
  /**
   * Asks the guest to bring its work to an end; it then ends by itself (`halted`), sooner or later or never. A frozen or
   * migrated guest remains asked. False: there is nobody to ask.
   */
  shutdown(): boolean
  /** When it resolves the guest executes nothing and none of its requests is in flight. */
  kill(): Promise<Dead>
  /** Absent: nobody in its guest could ever do it. */
  readonly files?: GuestFiles | undefined
  /** Begins a live migration; the machine runs on. */
  send(policy: MigrationPolicy): Outgoing
}

export interface MigrationPolicy {
  /** The longest pause aimed at, ms. */
  readonly downtimeMs: number
  /** Rounds after which a guest that does not converge is throttled, then the migration is given up. */
  readonly maxRounds: number
  /** What to do when it does not converge: accept a longer pause or give up. */
  readonly whenDiverging: 'pause' | 'abort'
}

/** One round of pre-copy. */
export interface RoundProgress {
  readonly round: number
  readonly pagesSent: number
  readonly bytesSent: number
  /** Pages found dirty when the round ended. */
  readonly dirtyPages: number
  readonly dirtyBytesPerSecond: number
  /** Memory moved, before compression. */
  readonly bytesPerSecond: number
  /** The pause to expect if switched now, ms. */
  readonly forecastMs: number
  readonly throttle: number
}

/** How far the copying is at this moment. Bytes are the guest's memory; `sentBytes` what went out for it, all rounds together. */
export interface CopyProgress {
  readonly round: number
  readonly totalBytes: number
  /** What the target is known to lack: of the round under way, or found dirty when the last one ended. */
  readonly leftBytes: number
  readonly pagesSent: number
  readonly sentBytes: number
  /** Memory moved, before compression; 0: not measured yet. */
  readonly bytesPerSecond: number
  /** As the last round found it; 0 before the first one has ended. */
  readonly dirtyBytesPerSecond: number
}

/** What the source hands over with the last page. It never runs again unless `abort` is told. */
export interface Released {
  readonly rounds: number
  readonly pagesSent: number
  readonly bytesSent: number
  /** CRC-32 of the guest's whole state at its last instruction (rule MIG3). */
  readonly stateChecksum: number
}

export interface Outgoing {
  /** Opaque, credited bytes for `Incoming.load`. */
  readonly stream: ByteStream
  onProgress(f: (progress: RoundProgress) => void): void
  /** At any time, also within a round; null: nothing is known yet. */
  progress(): CopyProgress | null
  /** Resolves when another round would not make the pause shorter than the policy's; rejects with `not-converging`. */
  readonly converged: Promise<void>
  /**
   * Pauses the guest for good, waits for its requests in flight, sends the last pages and, in-band behind them, what
   * `trailer` gives (called after the drain, before anything of it is sent; made durable by the caller).
   */
  release(trailer: () => Promise<Json>): Promise<Released>
  /**
   * The machine runs on as if nothing had been (also after `release`, given a durable abort). Where the release had
   * paused it, `beforeResume` is called with the checksum of the state it resumes with, just before it runs.
   */
  abort(beforeResume?: (stateChecksum: number) => void): Promise<void>
}

/** What arrived: the caller checks the trailer before it says so. */
export interface Loaded {
  readonly stateChecksum: number
  readonly trailer: Json
}

/** Proof of the coordinator's durable commit: without one nothing that was received runs (rule MIG1). */
export interface Commit {
  readonly migration: string
  readonly vm: string
  readonly placementEpoch: number
}

export interface Incoming {
  /** Resolves when the whole state is here and its checksum is right; rejects with `corrupt-data` or `stream-lost`. */
  load(stream: ByteStream): Promise<Loaded>
  /** The machine, running from the source's last instruction on. Only after `load`. */
  run(commit: Commit): Promise<Machine>
  discard(): Promise<void>
}
