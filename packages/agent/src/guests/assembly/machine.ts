// What a guest sees of its machine: the first 64 KiB of its memory, byte by byte. The other side is
// hypervisor/wasm/layout.ts. All of a guest's state is in its memory and its exported globals, so nothing here may be a
// mutable global that is not exported, and nothing may be allocated.

const MEMORY_BYTES: usize = 8
const DISK_BYTES: usize = 16
const UNIT_BYTES: usize = 24
const TAG: usize = 28
const CLOCK_MS: usize = 32
const RANDOM_SEED: usize = 48
const PARAMETERS_LENGTH: usize = 60
const SHUTDOWN: usize = 64
const PARAMETERS: usize = 0x800

const BLOCK_SUBMITTED: usize = 0x1000
const BLOCK_COMPLETED: usize = 0x1008
const BLOCK_SEEN: usize = 0x100c
const BLOCK_REQUESTS: usize = 0x1040
const BLOCK_COMPLETIONS: usize = 0x1440
export const BLOCK_RING: u32 = 32

const OUT_PRODUCED: usize = 0x2000
const OUT_CONSUMED: usize = 0x2004
const OUT_DATA: usize = 0x3000
const OUT_BYTES: u32 = 8192
const IN_PRODUCED: usize = 0x2010
const IN_CONSUMED: usize = 0x2014
const IN_DATA: usize = 0x5000
const IN_BYTES: u32 = 4096

const FRAMES_OUT_PRODUCED: usize = 0x2020
const FRAMES_OUT_CONSUMED: usize = 0x2024
const FRAMES_OUT_DATA: usize = 0x6000
const FRAMES_IN_PRODUCED: usize = 0x2030
const FRAMES_IN_CONSUMED: usize = 0x2034
const FRAMES_IN_DATA: usize = 0xa000
const FRAMES_BYTES: u32 = 16_384

/** Where a program's own memory begins. */
export const PROGRAM: usize = 0x10000

/** What `step` returns beside a time to sleep in ms: call again at once, wait for a device, or it is over. */
export const AGAIN: i32 = 0
export const WAIT: i32 = -1
export const HALT: i32 = -2

export const READ: u32 = 0
export const WRITE: u32 = 1
export const FLUSH: u32 = 4

// --- the machine itself --------------------------------------------------------------------------------------------------

export function memoryBytes(): u64 {
  return load<u64>(MEMORY_BYTES)
}

export function diskBytes(): u64 {
  return load<u64>(DISK_BYTES)
}

export function unitBytes(): u32 {
  return load<u32>(UNIT_BYTES)
}

export function tag(): u32 {
  return load<u32>(TAG)
}

/** Monotonic; stands still while the guest is frozen or on its way. */
export function clockMs(): f64 {
  return load<f64>(CLOCK_MS)
}

export function randomSeed(): u32 {
  return load<u32>(RANDOM_SEED)
}

/** The machine asks the guest to bring its work to an end and halt. It stays asked, wherever the guest goes. */
export function shutdownAsked(): bool {
  return atomic.load<u32>(SHUTDOWN) != 0
}

/** A number from the parameter text (`name=value` lines), or the preset. */
export function parameter(name: string, preset: f64): f64 {
  const end: usize = PARAMETERS + load<u32>(PARAMETERS_LENGTH)
  let at: usize = PARAMETERS
  while (at < end) {
    let n: i32 = 0
    while (n < name.length && at + n < end && load<u8>(at + n) == <u8>name.charCodeAt(n)) n++
    const found = n == name.length && at + n < end && load<u8>(at + n) == 61
    if (found) return parseNumber(at + n + 1, end)
    while (at < end && load<u8>(at) != 10) at++
    at++
  }
  return preset
}

function parseNumber(from: usize, end: usize): f64 {
  let value: f64 = 0
  let scale: f64 = 0
  for (let at = from; at < end; at++) {
    const c: u32 = load<u8>(at)
    if (c == 46) scale = 1
    else if (c < 48 || c > 57) break
    else {
      value = value * 10 + <f64>(c - 48)
      scale *= 10
    }
  }
  return scale > 0 ? value / scale : value
}

// --- disk: a ring of requests, a ring of completions ------------------------------------------------------------------------

/** The caller never has more than BLOCK_RING requests in flight. The place in memory is the device's until it completes. */
export function submit(operation: u32, offset: u64, address: usize, length: u32, label: u64): void {
  const n: u32 = load<u32>(BLOCK_SUBMITTED)
  const at: usize = BLOCK_REQUESTS + <usize>(n % BLOCK_RING) * 32
  store<u32>(at, operation)
  store<u32>(at + 4, length)
  store<u64>(at + 8, offset)
  store<u64>(at + 16, <u64>address)
  store<u64>(at + 24, label)
  atomic.store<u32>(BLOCK_SUBMITTED, n + 1)
}

export function completionWaits(): bool {
  return atomic.load<u32>(BLOCK_COMPLETED) != load<u32>(BLOCK_SEEN)
}

export function completionLabel(): u64 {
  return load<u64>(BLOCK_COMPLETIONS + <usize>(load<u32>(BLOCK_SEEN) % BLOCK_RING) * 16)
}

export function completionFailed(): bool {
  return load<u32>(BLOCK_COMPLETIONS + <usize>(load<u32>(BLOCK_SEEN) % BLOCK_RING) * 16 + 8) != 0
}

export function completionDone(): void {
  store<u32>(BLOCK_SEEN, load<u32>(BLOCK_SEEN) + 1)
}

// --- console: bytes, lines end with a newline -------------------------------------------------------------------------------

/** Bytes that the console takes now: a line is said whole or not begun. */
export function consoleRoom(): u32 {
  return OUT_BYTES - (load<u32>(OUT_PRODUCED) - atomic.load<u32>(OUT_CONSUMED))
}

function put(byte: u8): void {
  const n: u32 = load<u32>(OUT_PRODUCED)
  store<u8>(OUT_DATA + <usize>(n % OUT_BYTES), byte)
  atomic.store<u32>(OUT_PRODUCED, n + 1)
}

export function say(text: string): void {
  for (let n: i32 = 0; n < text.length; n++) put(<u8>text.charCodeAt(n))
}

export function sayNumber(value: u64): void {
  let divisor: u64 = 1
  while (value / divisor >= 10) divisor *= 10
  while (divisor > 0) {
    put(<u8>(48 + (value / divisor) % 10))
    divisor /= 10
  }
}

export function sayByte(byte: u8): void {
  put(byte)
}

export function endLine(): void {
  put(10)
}

/** The length of the next whole line, without its end, or -1. */
export function inputLength(): i32 {
  const produced: u32 = atomic.load<u32>(IN_PRODUCED)
  let length: i32 = 0
  for (let n: u32 = load<u32>(IN_CONSUMED); n != produced; n++) {
    if (inputByteAt(n) == 10) return length
    length++
  }
  return -1
}

function inputByteAt(n: u32): u8 {
  return load<u8>(IN_DATA + <usize>(n % IN_BYTES))
}

export function inputByte(index: i32): u8 {
  return inputByteAt(load<u32>(IN_CONSUMED) + <u32>index)
}

export function inputIs(length: i32, text: string): bool {
  if (length != text.length) return false
  for (let n: i32 = 0; n < length; n++) if (inputByte(n) != <u8>text.charCodeAt(n)) return false
  return true
}

export function inputDone(length: i32): void {
  atomic.store<u32>(IN_CONSUMED, load<u32>(IN_CONSUMED) + <u32>length + 1)
}

// --- network: Ethernet frames, each behind its length as u16 -----------------------------------------------------------------

/** The length of the next frame, or -1. */
export function frameLength(): i32 {
  if (atomic.load<u32>(FRAMES_IN_PRODUCED) == load<u32>(FRAMES_IN_CONSUMED)) return -1
  return <i32>frameInByte(0) | (<i32>frameInByte(1) << 8)
}

function frameInByte(index: i32): u8 {
  return load<u8>(FRAMES_IN_DATA + <usize>((load<u32>(FRAMES_IN_CONSUMED) + <u32>index) % FRAMES_BYTES))
}

export function frameByte(index: i32): u8 {
  return frameInByte(2 + index)
}

export function frameDone(length: i32): void {
  atomic.store<u32>(FRAMES_IN_CONSUMED, load<u32>(FRAMES_IN_CONSUMED) + <u32>length + 2)
}

/** Whether a frame of this length can be sent now. */
export function frameRoom(length: i32): bool {
  const used = load<u32>(FRAMES_OUT_PRODUCED) - atomic.load<u32>(FRAMES_OUT_CONSUMED)
  return FRAMES_BYTES - used >= <u32>length + 2
}

/** Of the frame that is to be sent next; it goes with `sendFrame`. */
export function setFrameByte(index: i32, byte: u8): void {
  putFrameByte(2 + index, byte)
}

export function sendFrame(length: i32): void {
  putFrameByte(0, <u8>length)
  putFrameByte(1, <u8>(length >> 8))
  atomic.store<u32>(FRAMES_OUT_PRODUCED, load<u32>(FRAMES_OUT_PRODUCED) + <u32>length + 2)
}

function putFrameByte(index: i32, byte: u8): void {
  store<u8>(FRAMES_OUT_DATA + <usize>((load<u32>(FRAMES_OUT_PRODUCED) + <u32>index) % FRAMES_BYTES), byte)
}
