// What machine and guest share: the first 64 KiB of the guest's memory (the other side is guests/assembly/machine.ts), and
// the control block between the agent and the worker that runs the guest, which is no part of the guest.

export const MACHINE_VERSION = 1
export const WASM_PAGE_BYTES = 65_536
export const MACHINE_MAGIC = 0x4d575453

// --- guest memory: header ----------------------------------------------------------------------------------------------

export const HEADER = {
  magic: 0,
  version: 4,
  memoryBytes: 8,
  diskBytes: 16,
  unitBytes: 24,
  tag: 28,
  clockMs: 32,
  wallMs: 40,
  randomSeed: 48,
  parametersLength: 60,
  /** Not 0: the guest is asked to bring its work to an end and halt. */
  shutdown: 64,
  parameters: 0x800,
} as const
export const MAX_PARAMETER_BYTES = 0x800

// --- guest memory: the block ring; counters count up and wrap at 2^32 ----------------------------------------------------

export const BLOCK = { submitted: 0x1000, taken: 0x1004, completed: 0x1008, seen: 0x100c } as const
export const BLOCK_RING = 32
export const BLOCK_REQUESTS = 0x1040
export const BLOCK_REQUEST_BYTES = 32
export const BLOCK_COMPLETIONS = 0x1440
export const BLOCK_COMPLETION_BYTES = 16

/** As numbered in a request: place 0 is operation 0. */
export const BLOCK_OPERATIONS = ['read', 'write', 'zero', 'trim', 'flush'] as const
export type BlockOperation = (typeof BLOCK_OPERATIONS)[number]

export const STATUS_OK = 0
export const STATUS_FAILED = 1
export const STATUS_INVALID = 2

// --- guest memory: rings of bytes ----------------------------------------------------------------------------------------

export interface RingPlace {
  readonly produced: number
  readonly consumed: number
  readonly data: number
  readonly bytes: number
}

export const CONSOLE_OUT: RingPlace = { produced: 0x2000, consumed: 0x2004, data: 0x3000, bytes: 8192 }
export const CONSOLE_IN: RingPlace = { produced: 0x2010, consumed: 0x2014, data: 0x5000, bytes: 4096 }
/** Frames, each behind its length as u16. */
export const NETWORK_OUT: RingPlace = { produced: 0x2020, consumed: 0x2024, data: 0x6000, bytes: 16_384 }
export const NETWORK_IN: RingPlace = { produced: 0x2030, consumed: 0x2034, data: 0xa000, bytes: 16_384 }
export const MAX_FRAME_BYTES = 1514

/** Where a program's own memory begins; a module that needs less than this is refused. */
export const PROGRAM_START = 0x10000

// --- the control block ---------------------------------------------------------------------------------------------------

/** Places in its Int32Array. */
export const CONTROL = {
  /** Even: run. Odd: come to rest between two steps. Each change of mind is a new number. */
  command: 0,
  /** Set and notified when the guest has reason to look again; cleared by the worker before it looks. */
  wake: 1,
  /** Set by the worker when it has rung and the agent has not answered yet. */
  bell: 2,
  /** Steps executed here, wrapping. */
  steps: 3,
  /** Share of its time the guest loses, in thousandths. */
  throttle: 4,
  /** Set when globals and clock are to be taken from the block before the next step. */
  restore: 5,
  /** While set, the worker sleeps until woken: nothing to watch over. */
  asleep: 6,
} as const

/** Places in its BigInt64Array: microseconds of the machine's monotonic clock, which both threads read alike. */
export const CONTROL_TIMES = {
  /** The right to execute ends then: no step begins at or after it. */
  until: 4,
  /** When the last step began. */
  steppedAt: 5,
} as const

/** The control block's time for milliseconds; what is beyond all times is the end of them. */
export function controlTime(ms: number): bigint {
  const us = Math.round(ms * 1000)
  return BigInt(Math.min(Number.MAX_SAFE_INTEGER, Math.max(Number.MIN_SAFE_INTEGER, us)))
}

export const MAX_GLOBALS = 64
/** The guest's clock, then its globals in eight bytes each. */
export const CONTROL_CLOCK_AT = 64
export const CONTROL_GLOBALS_AT = 72
export const CONTROL_BYTES = CONTROL_GLOBALS_AT + MAX_GLOBALS * 8

export type GlobalType = 'i32' | 'i64' | 'f32' | 'f64'

export interface StateGlobal {
  readonly name: string
  readonly type: GlobalType
}

/** What a worker is given. */
export interface WorkerData {
  readonly module: WebAssembly.Module
  readonly memory: WebAssembly.Memory
  readonly control: SharedArrayBuffer
  readonly globals: readonly StateGlobal[]
}

/** What a worker says. `rest` names the command it obeyed. */
export type WorkerMessage =
  | { readonly kind: 'rest'; readonly command: number }
  | { readonly kind: 'bell' }
  | { readonly kind: 'halted' }
  | { readonly kind: 'crashed'; readonly reason: string }
