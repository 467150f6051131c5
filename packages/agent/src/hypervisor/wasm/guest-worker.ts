// The thread a guest runs in: step after step, asleep when the guest has nothing to do, at rest between two steps when told.
// It serves no device; it only rings when the guest has asked for one.

import { assert } from '@stellwerk/runtime/assert.ts'
import { errorMessage } from '@stellwerk/runtime/errors.ts'
import { createClock } from '@stellwerk/runtime/node/clock.ts'
import { thisWorkerThread } from '@stellwerk/runtime/node/worker-thread.ts'
import {
  BLOCK,
  CONSOLE_OUT,
  CONTROL,
  CONTROL_CLOCK_AT,
  CONTROL_GLOBALS_AT,
  CONTROL_TIMES,
  controlTime,
  HEADER,
  NETWORK_OUT,
  type StateGlobal,
  type WorkerData,
  type WorkerMessage,
} from './layout.ts'

/** Units of work in one step: about a millisecond at most, so that coming to rest is quick. */
const STEP_BUDGET = 256
/** Counters that a guest raises when it wants something. */
const WANTS = [BLOCK.submitted, CONSOLE_OUT.produced, NETWORK_OUT.produced]

/** A guest without the right to execute is looked at again so soon, should nobody wake it. */
const LAPSED_MS = 20

const SLEEP = -1
const HALT = -2

type Step = (budget: number) => number

function run(data: WorkerData, post: (message: WorkerMessage) => void): void {
  const clock = createClock()
  const memory = new DataView(data.memory.buffer)
  const words = new Int32Array(data.memory.buffer)
  const control = new Int32Array(data.control)
  const times = new BigInt64Array(data.control)
  const saved = new DataView(data.control)
  const instance = new WebAssembly.Instance(data.module, { env: { memory: data.memory } })
  const step = instance.exports['step'] as Step
  const wanted = WANTS.map(() => 0)
  /** What the guest's clock says when ours says 0. */
  let clockOffset = 0

  const guestClock = (): number => clock.now() + clockOffset

  const ring = (): void => {
    if (Atomics.exchange(control, CONTROL.bell, 1) === 0) post({ kind: 'bell' })
  }

  /** Between two steps, until a command to run comes; the guest's clock stands still meanwhile. */
  const rest = (): void => {
    const stopped = guestClock()
    saved.setFloat64(CONTROL_CLOCK_AT, stopped, true)
    eachGlobal(data, (global, at) => saveGlobal(instance, global, saved, at))
    let told = -1
    for (;;) {
      const command = Atomics.load(control, CONTROL.command)
      if (command % 2 === 0) break
      if (command !== told) post({ kind: 'rest', command })
      told = command
      Atomics.wait(control, CONTROL.command, command)
    }
    if (Atomics.exchange(control, CONTROL.restore, 0) === 1) {
      eachGlobal(data, (global, at) => restoreGlobal(instance, global, saved, at))
    }
    clockOffset = saved.getFloat64(CONTROL_CLOCK_AT, true) - clock.now()
  }

  const ringIfWanted = (): void => {
    let wants = false
    for (let n = 0; n < WANTS.length; n++) {
      const count = Atomics.load(words, WANTS[n]! / 4)
      if (count !== wanted[n]) wants = true
      wanted[n] = count
    }
    if (wants) ring()
  }

  const sleep = (ms: number): void => {
    Atomics.wait(control, CONTROL.wake, 0, ms)
  }

  // A machine begins at rest: the first command to run is its start.
  clockOffset = -clock.now()
  for (;;) {
    if (Atomics.load(control, CONTROL.command) % 2 === 1) rest()
    Atomics.store(control, CONTROL.wake, 0)
    const now = controlTime(clock.now())
    // Here, right before guest code: the agent's thread may be late, or stand still, while this one goes on.
    if (now >= Atomics.load(times, CONTROL_TIMES.until)) {
      ring()
      Atomics.wait(control, CONTROL.wake, 0, LAPSED_MS)
      continue
    }
    Atomics.store(times, CONTROL_TIMES.steppedAt, now)
    const before = guestClock()
    memory.setFloat64(HEADER.clockMs, before, true)
    memory.setFloat64(HEADER.wallMs, clock.wall(), true)
    const result = step(STEP_BUDGET)
    Atomics.add(control, CONTROL.steps, 1)
    ringIfWanted()
    if (result === HALT) {
      post({ kind: 'halted' })
      return
    }
    const throttle = Atomics.load(control, CONTROL.throttle) / 1000
    if (throttle > 0 && throttle < 1) throttledSleep(((guestClock() - before) * throttle) / (1 - throttle))
    if (result > 0) sleep(result)
    else if (result === SLEEP) {
      Atomics.store(control, CONTROL.asleep, 1)
      Atomics.wait(control, CONTROL.wake, 0)
      Atomics.store(control, CONTROL.asleep, 0)
    } else assert(result === 0, `step() returned ${result}: 0, -1, -2 or a time in ms is known`)
  }

  /** Only a change of command cuts it short: a device that is done must not give the guest its time back. */
  function throttledSleep(ms: number): void {
    const command = Atomics.load(control, CONTROL.command)
    if (command % 2 === 0) Atomics.wait(control, CONTROL.command, command, ms)
  }
}

/** Each of the guest's globals with its place in the control block. */
function eachGlobal(data: WorkerData, f: (global: StateGlobal, at: number) => void): void {
  let at = CONTROL_GLOBALS_AT
  for (const global of data.globals) {
    f(global, at)
    at += 8
  }
}

function globalOf(instance: WebAssembly.Instance, global: StateGlobal): WebAssembly.Global {
  const value = instance.exports[global.name]
  assert(value instanceof WebAssembly.Global, `the module exports a global ${global.name}`)
  return value
}

function saveGlobal(instance: WebAssembly.Instance, global: StateGlobal, into: DataView, at: number): void {
  const { value } = globalOf(instance, global)
  into.setBigUint64(at, 0n, true)
  if (global.type === 'i32') into.setInt32(at, value, true)
  else if (global.type === 'i64') into.setBigInt64(at, value, true)
  else if (global.type === 'f32') into.setFloat32(at, value, true)
  else into.setFloat64(at, value, true)
}

function restoreGlobal(instance: WebAssembly.Instance, global: StateGlobal, from: DataView, at: number): void {
  const target = globalOf(instance, global)
  if (global.type === 'i32') target.value = from.getInt32(at, true)
  else if (global.type === 'i64') target.value = from.getBigInt64(at, true)
  else if (global.type === 'f32') target.value = from.getFloat32(at, true)
  else target.value = from.getFloat64(at, true)
}

const thread = thisWorkerThread()
const post = (message: WorkerMessage): void => thread.post(message)
try {
  run(thread.data as WorkerData, post)
} catch (error) {
  // A trap: the guest broke a rule of its machine. The thread ends; the agent reaps it.
  post({ kind: 'crashed', reason: errorMessage(error) })
}
