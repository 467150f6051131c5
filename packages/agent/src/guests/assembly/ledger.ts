// The `ledger` guest: checks itself. Its memory carries a sequence of numbered, self-describing pages, rewritten at a set
// rate in a fixed order, each verified before it is rewritten; its disk carries the append log of ../ledger-format.ts. Says
// `boot`, `recovered <n> intact|damaged <why>`, `ack <n>` once entry n is on the disk, and complaints. Asked to shut down it
// finishes the entry under way, flushes, says `down after <n>` and halts.
//
// Parameters: dirtyMiBPerSecond (0), writesPerSecond (10), workingSetMiB (all of the memory), readBacksPerSecond (1).

import { buildCrcTables, CRC_TABLE_BYTES, crc32 } from './crc'
import {
  AGAIN,
  clockMs,
  completionDone,
  completionFailed,
  completionLabel,
  completionWaits,
  consoleRoom,
  diskBytes,
  endLine,
  FLUSH,
  HALT,
  inputDone,
  inputIs,
  inputLength,
  memoryBytes,
  parameter,
  PROGRAM,
  randomSeed,
  READ,
  say,
  sayNumber,
  shutdownAsked,
  submit,
  tag,
  unitBytes,
  WAIT,
  WRITE,
} from './machine'

/** The version of the machine this guest is made for. */
export const machineVersion: i32 = 1

// --- memory: static data of the compiler first, then these -----------------------------------------------------------------

const TABLES: usize = PROGRAM + 0x10000
const STATE: usize = TABLES + CRC_TABLE_BYTES
const WRITE_BUFFER: usize = STATE + 0x1000
const READ_BUFFER: usize = WRITE_BUFFER + 0x2000
const RECOVERY_BUFFER: usize = READ_BUFFER + 0x2000
/** What is read of the log at once: a long one is back in a fraction of a second. */
const RECOVERY_BYTES: u32 = 0x40000
const WORK: usize = RECOVERY_BUFFER + <usize>RECOVERY_BYTES
const PAGE: usize = 4096

const PHASE: usize = STATE
const ENTRIES: usize = STATE + 8
const PREVIOUS_CRC: usize = STATE + 16
const NEXT_CRC: usize = STATE + 20
const RANDOM: usize = STATE + 24
const LOG_STATE: usize = STATE + 28
const LOG_RETRY_AT: usize = STATE + 32
const READ_BACK: usize = STATE + 40
const WRITE_CREDIT: usize = STATE + 48
const LAST_CLOCK: usize = STATE + 56
const SEQUENCE: usize = STATE + 64
const WORK_PAGES: usize = STATE + 72
const STRIDE: usize = STATE + 80
const DIRTY_CREDIT: usize = STATE + 88
const READ_CREDIT: usize = STATE + 96
const LOG_FULL: usize = STATE + 104
const DAMAGES: usize = STATE + 108
const DIRTY_RATE: usize = STATE + 112
const WRITE_RATE: usize = STATE + 120
const READ_RATE: usize = STATE + 128
const BATCH_BYTES: usize = STATE + 136

const BOOT: u32 = 0
const RECOVERING: u32 = 1
const RUNNING: u32 = 2
/** Asked to shut down: all entries are acknowledged, the last flush is on its way. */
const ENDING: u32 = 3

const IDLE: u32 = 0
const IN_FLIGHT: u32 = 1
const DONE: u32 = 2
const FAILED: u32 = 3

const LABEL_LOG: u64 = 1
const LABEL_READ_BACK: u64 = 2

// --- the log's format, as in ledger-format.ts --------------------------------------------------------------------------------

const LOG_MAGIC: u32 = 0x474c5753
const LOG_START: u64 = 4096
const HEAD_BYTES: usize = 24
const SCRATCH_BYTES: u64 = 65536

/** Console bytes a step may need; with less it waits until the machine took some. */
const ROOM: u32 = 1024
const RETRY_MS: f64 = 500
/** The guest wakes this often for what has a rate. */
const TICK_MS: i32 = 4
const MAX_DAMAGES: u32 = 16

export function step(budget: i32): i32 {
  if (consoleRoom() < ROOM) return WAIT
  if (load<u32>(PHASE) == BOOT) return boot()
  takeCompletions()
  if (!obey()) return HALT
  const elapsed = clockMs() - load<f64>(LAST_CLOCK)
  store<f64>(LAST_CLOCK, clockMs())
  if (load<u32>(PHASE) == RECOVERING) return recover()
  if (load<u32>(PHASE) == ENDING) return end()
  append(elapsed)
  if (shutdownAsked()) {
    const settled = load<u32>(LOG_STATE) == IDLE && load<u64>(READ_BACK) == 0
    return settled ? beginEnd() : load<u32>(LOG_STATE) == FAILED ? TICK_MS : WAIT
  }
  readBack(elapsed)
  const behind = work(elapsed, budget)
  if (behind) return AGAIN
  return load<f64>(DIRTY_RATE) > 0 ? TICK_MS : untilNextWrite()
}

/** Nothing is on its way any more: what was written is made sure of, then it is over. */
function beginEnd(): i32 {
  store<u32>(PHASE, ENDING)
  if (diskBytes() == 0) store<u32>(LOG_STATE, DONE)
  else submitFlush()
  return AGAIN
}

function submitFlush(): void {
  store<u32>(LOG_STATE, IN_FLIGHT)
  submit(FLUSH, 0, 0, 0, LABEL_LOG)
}

function end(): i32 {
  const state = load<u32>(LOG_STATE)
  if (state == IN_FLIGHT) return WAIT
  if (state == FAILED) {
    if (retryDue('flush')) submitFlush()
    return TICK_MS
  }
  say('down after ')
  sayNumber(load<u64>(ENTRIES))
  endLine()
  return HALT
}

/** A guest that only writes sleeps until its next entry is due. */
function untilNextWrite(): i32 {
  const rate = load<f64>(WRITE_RATE)
  const writes = rate > 0 && diskBytes() != 0 && load<u32>(LOG_FULL) == 0
  if (!writes || load<u32>(LOG_STATE) == IN_FLIGHT) return WAIT
  if (load<u32>(LOG_STATE) == FAILED) return TICK_MS
  const ms = ((1 - load<f64>(WRITE_CREDIT)) * 1000) / rate
  return ms < 1 ? 1 : ms > 1000 ? 1000 : <i32>ceil(ms)
}

function boot(): i32 {
  say('boot')
  endLine()
  buildCrcTables(TABLES)
  store<u32>(RANDOM, randomSeed() | 1)
  store<f64>(LAST_CLOCK, clockMs())
  store<f64>(DIRTY_RATE, parameter('dirtyMiBPerSecond', 0) * 256)
  store<f64>(WRITE_RATE, parameter('writesPerSecond', 10))
  store<f64>(READ_RATE, parameter('readBacksPerSecond', 1))
  let pages: u64 = (memoryBytes() - <u64>WORK) / <u64>PAGE
  const wanted = parameter('workingSetMiB', 0) * 256
  if (wanted > 0 && wanted < <f64>pages) pages = <u64>wanted
  store<u64>(WORK_PAGES, pages)
  store<u64>(STRIDE, strideFor(pages))
  store<u32>(PHASE, RECOVERING)
  if (diskBytes() == 0) recovered()
  else readLog()
  return AGAIN
}

function obey(): bool {
  const length = inputLength()
  if (length < 0) return true
  if (inputIs(length, 'halt')) return false
  if (inputIs(length, 'crash')) unreachable()
  if (inputIs(length, 'status')) {
    say('status entries ')
    sayNumber(load<u64>(ENTRIES))
    say(' sequence ')
    sayNumber(load<u64>(SEQUENCE))
    say(' damages ')
    sayNumber(load<u32>(DAMAGES))
    say(' clock ')
    sayNumber(<u64>clockMs())
  } else say('unknown command')
  endLine()
  inputDone(length)
  return true
}

function draw(below: u64): u64 {
  let x: u32 = load<u32>(RANDOM)
  x ^= x << 13
  x ^= x >>> 17
  x ^= x << 5
  store<u32>(RANDOM, x)
  return <u64>x % below
}

// --- memory: number k goes to page (k × stride) mod pages, so what a page must hold follows from k ----------------------------

function strideFor(pages: u64): u64 {
  let stride: u64 = (pages * 5) / 8
  if (stride == 0) stride = 1
  while (gcd(stride, pages) != 1) stride++
  return stride
}

function gcd(a: u64, b: u64): u64 {
  while (b != 0) {
    const rest = a % b
    a = b
    b = rest
  }
  return a
}

/** Rewrites what is due; true if there is more than the budget allowed. The first pass over all pages is made at once. */
function work(elapsed: f64, budget: i32): bool {
  const pages = load<u64>(WORK_PAGES)
  const first = load<u64>(SEQUENCE) < pages
  const rate = load<f64>(DIRTY_RATE)
  // What could not be done in time is dropped, not made up for.
  let credit = min(load<f64>(DIRTY_CREDIT) + (elapsed * rate) / 1000, rate / 10 + 1)
  if (first) credit = <f64>(pages - load<u64>(SEQUENCE))
  let left = budget
  while (credit >= 1 && left > 0) {
    next(pages)
    credit -= 1
    left--
  }
  store<f64>(DIRTY_CREDIT, credit)
  return credit >= 1
}

function next(pages: u64): void {
  const number: u64 = load<u64>(SEQUENCE) + 1
  const page: u64 = (number * load<u64>(STRIDE)) % pages
  const at: usize = WORK + <usize>page * PAGE
  const expected: u64 = number > pages ? number - pages : 0
  if (!holds(at, expected)) {
    if (load<u32>(DAMAGES) < MAX_DAMAGES) {
      say('memory damaged page ')
      sayNumber(page)
      say(' number ')
      sayNumber(load<u64>(at))
      say(' expected ')
      sayNumber(expected)
      endLine()
    }
    store<u32>(DAMAGES, load<u32>(DAMAGES) + 1)
  }
  fill(at, number)
  store<u64>(SEQUENCE, number)
}

/** The page's words follow from its number; the last one checks that they are all there. */
function fill(at: usize, number: u64): void {
  let x: u64 = number * 0x9e3779b97f4a7c15 + 1
  let sum: u64 = 0
  store<u64>(at, number)
  for (let word: usize = 8; word < PAGE - 8; word += 8) {
    x ^= x << 13
    x ^= x >>> 7
    x ^= x << 17
    store<u64>(at + word, x)
    sum += x
  }
  store<u64>(at + PAGE - 8, sum ^ number)
}

function holds(at: usize, number: u64): bool {
  if (load<u64>(at) != number) return false
  let sum: u64 = 0
  for (let word: usize = 8; word < PAGE - 8; word += 8) sum += load<u64>(at + word)
  return load<u64>(at + PAGE - 8) == (sum ^ number)
}

// --- disk --------------------------------------------------------------------------------------------------------------------

function unitsOf(entry: u64): u64 {
  return entry % 3 == 0 ? 2 : 1
}

function offsetOf(entry: u64): u64 {
  return LOG_START + (entry - 1 + (entry - 1) / 3) * <u64>unitBytes()
}

function sizeOf(entry: u64): u32 {
  return <u32>(unitsOf(entry) * <u64>unitBytes())
}

function logEnd(): u64 {
  return diskBytes() > LOG_START + SCRATCH_BYTES ? diskBytes() - SCRATCH_BYTES : LOG_START
}

function takeCompletions(): void {
  while (completionWaits()) {
    const state = completionFailed() ? FAILED : DONE
    if (completionLabel() == LABEL_LOG) store<u32>(LOG_STATE, state)
    else readBackDone(state == DONE)
    completionDone()
  }
}

function readLog(): void {
  const offset = offsetOf(load<u64>(ENTRIES) + 1)
  const end = logEnd()
  let length: u64 = offset < end ? min(<u64>RECOVERY_BYTES, end - offset) : 0
  length -= length % <u64>unitBytes()
  store<u32>(BATCH_BYTES, <u32>length)
  if (length == 0) {
    recovered()
    return
  }
  store<u32>(LOG_STATE, IN_FLIGHT)
  submit(READ, offset, RECOVERY_BUFFER, <u32>length, LABEL_LOG)
}

function recover(): i32 {
  const state = load<u32>(LOG_STATE)
  if (state == IN_FLIGHT) return WAIT
  // It has written nothing yet.
  if (shutdownAsked()) return HALT
  if (state == FAILED) {
    if (retryDue('read log')) readLog()
    return TICK_MS
  }
  const bytes = load<u32>(BATCH_BYTES)
  let at: u32 = 0
  for (;;) {
    const entry = load<u64>(ENTRIES) + 1
    const size = sizeOf(entry)
    if (at + size > bytes || !entryIs(RECOVERY_BUFFER + at, entry, size, load<u32>(PREVIOUS_CRC), true)) break
    store<u32>(PREVIOUS_CRC, load<u32>(RECOVERY_BUFFER + at + size - 4))
    store<u64>(ENTRIES, entry)
    at += size
  }
  store<u32>(LOG_STATE, IDLE)
  // Something was found: the next batch begins where this one stopped. Nothing: here the log ends.
  if (at > 0) readLog()
  else recovered()
  return AGAIN
}

function entryIs(at: usize, entry: u64, size: u32, previous: u32, checkPrevious: bool): bool {
  if (load<u32>(at) != LOG_MAGIC || load<u64>(at + 8) != entry || load<u32>(at + 16) != tag()) return false
  if (checkPrevious && load<u32>(at + 20) != previous) return false
  return crc32(TABLES, at, size - 4) == load<u32>(at + size - 4)
}

/** Behind the end there may be the next entry, torn, but nothing later: that would be an entry lost. */
function recovered(): void {
  store<u32>(PHASE, RUNNING)
  store<u32>(LOG_STATE, IDLE)
  const entries = load<u64>(ENTRIES)
  say('recovered ')
  sayNumber(entries)
  const bytes = load<u32>(BATCH_BYTES)
  for (let at: u32 = 0; at < bytes; at += unitBytes()) {
    const unit: usize = RECOVERY_BUFFER + at
    if (load<u32>(unit) != LOG_MAGIC || load<u32>(unit + 16) != tag()) continue
    const found = load<u64>(unit + 8)
    if (at == 0 && found == entries + 1) continue
    say(' damaged entry ')
    sayNumber(entries + 1)
    say(' is missing, ')
    sayNumber(found)
    say(' is there')
    endLine()
    return
  }
  say(' intact')
  endLine()
}

function append(elapsed: f64): void {
  const rate = load<f64>(WRITE_RATE)
  if (diskBytes() == 0 || load<u32>(LOG_FULL) == 1) return
  const credit = min(load<f64>(WRITE_CREDIT) + (elapsed * rate) / 1000, rate / 50 + 2)
  store<f64>(WRITE_CREDIT, credit)
  const state = load<u32>(LOG_STATE)
  if (state == IN_FLIGHT) return
  if (state == FAILED) {
    if (retryDue('write entry')) submitEntry()
    return
  }
  if (state == DONE) {
    store<u32>(LOG_STATE, IDLE)
    store<u64>(ENTRIES, load<u64>(ENTRIES) + 1)
    store<u32>(PREVIOUS_CRC, load<u32>(NEXT_CRC))
    say('ack ')
    sayNumber(load<u64>(ENTRIES))
    endLine()
  }
  if (credit < 1 || shutdownAsked()) return
  const entry = load<u64>(ENTRIES) + 1
  if (offsetOf(entry) + <u64>sizeOf(entry) > logEnd()) {
    store<u32>(LOG_FULL, 1)
    say('log full after ')
    sayNumber(entry - 1)
    endLine()
    return
  }
  store<f64>(WRITE_CREDIT, credit - 1)
  encodeEntry(entry)
  submitEntry()
}

function encodeEntry(entry: u64): void {
  const size = sizeOf(entry)
  store<u32>(WRITE_BUFFER, LOG_MAGIC)
  store<u32>(WRITE_BUFFER + 4, <u32>unitsOf(entry))
  store<u64>(WRITE_BUFFER + 8, entry)
  store<u32>(WRITE_BUFFER + 16, tag())
  store<u32>(WRITE_BUFFER + 20, load<u32>(PREVIOUS_CRC))
  let x: u32 = ((<u32>entry * 0x9e3779b1) ^ tag()) | 1
  for (let at: usize = HEAD_BYTES; at < size - 4; at += 4) {
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    store<u32>(WRITE_BUFFER + at, x)
  }
  const crc = crc32(TABLES, WRITE_BUFFER, size - 4)
  store<u32>(WRITE_BUFFER + size - 4, crc)
  store<u32>(NEXT_CRC, crc)
}

function submitEntry(): void {
  const entry = load<u64>(ENTRIES) + 1
  store<u32>(LOG_STATE, IN_FLIGHT)
  submit(WRITE, offsetOf(entry), WRITE_BUFFER, sizeOf(entry), LABEL_LOG)
}

/** A failed request waits a while, complains once, and is tried again: the disk may come back. */
function retryDue(what: string): bool {
  const at = load<f64>(LOG_RETRY_AT)
  if (at == 0) {
    say('disk error ')
    say(what)
    endLine()
    store<f64>(LOG_RETRY_AT, clockMs() + RETRY_MS)
    return false
  }
  if (clockMs() < at) return false
  store<f64>(LOG_RETRY_AT, 0)
  return true
}

/** READ_BACK holds the entry that is being read, 0 if none. */
function readBack(elapsed: f64): void {
  const credit = min(load<f64>(READ_CREDIT) + (elapsed * load<f64>(READ_RATE)) / 1000, 1)
  store<f64>(READ_CREDIT, credit)
  if (credit < 1 || load<u64>(READ_BACK) != 0 || load<u64>(ENTRIES) == 0 || diskBytes() == 0) return
  store<f64>(READ_CREDIT, 0)
  const entry = 1 + draw(load<u64>(ENTRIES))
  store<u64>(READ_BACK, entry)
  submit(READ, offsetOf(entry), READ_BUFFER, sizeOf(entry), LABEL_READ_BACK)
}

function readBackDone(good: bool): void {
  const entry = load<u64>(READ_BACK)
  store<u64>(READ_BACK, 0)
  if (!good || entryIs(READ_BUFFER, entry, sizeOf(entry), 0, false)) return
  say('disk damaged entry ')
  sayNumber(entry)
  endLine()
}
