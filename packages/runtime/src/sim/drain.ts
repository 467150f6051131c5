// How simulated events take turns with the JavaScript engine: a batch of events runs inside one macrotask, and after each
// event every microtask is drained, rejections nobody handled included. The only file of the simulation that touches the
// real event loop; nothing simulated depends on when a batch runs.

import { assert } from '../assert.ts'

/**
 * Node's own way to run all ticks and microtasks between two callbacks. Called from outside a microtask it drains them
 * synchronously (0.1 µs, a third of `queueMicrotask(() => process.nextTick(next))`) and then reports the rejections that
 * nobody handled, so that each is blamed on the event that caused it.
 */
const runTicks: unknown = Reflect.get(process, '_tickCallback')

export function drain(): void {
  ;(runTicks as () => void).call(process)
}

/** Runs `f` from the event loop, outside any microtask. */
export function inMacrotask<T>(f: () => T): Promise<T> {
  return new Promise((resolve, reject) => {
    setImmediate(() => {
      try {
        resolve(f())
      } catch (error) {
        reject(error)
      }
    })
  })
}

const EVENTS = ['unhandledRejection', 'uncaughtException'] as const

/** While `f` runs, errors that nobody caught go to `onError` and to no other listener. */
export function withErrorsTo<T>(onError: (error: unknown) => void, f: () => T): T {
  const before = EVENTS.map(name => process.rawListeners(name))
  for (const name of EVENTS) {
    process.removeAllListeners(name)
    process.on(name as 'uncaughtException', onError)
  }
  try {
    return f()
  } finally {
    EVENTS.forEach((name, index) => {
      process.removeAllListeners(name)
      for (const listener of before[index] ?? []) process.on(name, listener as () => void)
    })
  }
}

/** Call from a macrotask, before the first event: the drain must drain and must report. */
export function checkDrain(): void {
  assert(typeof runTicks === 'function', 'this Node.js has no process._tickCallback, which the simulation drains with')
  const seen: unknown[] = []
  withErrorsTo(
    error => seen.push(error),
    () => {
      queueMicrotask(() => queueMicrotask(() => seen.push('drained')))
      void Promise.reject('reported')
      drain()
    },
  )
  assert(
    seen.length === 2 && seen.includes('drained') && seen.includes('reported'),
    'the simulation drains microtasks synchronously and hears of rejections',
  )
}
