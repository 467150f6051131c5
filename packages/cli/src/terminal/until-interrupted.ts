// Long looks that the user ends with Ctrl-C: that is their orderly end, not a failure.

import { createClock } from '@stellwerk/runtime/node/clock.ts'
import { createTimers } from '@stellwerk/runtime/node/timers.ts'

/** True: go on; false: the user has had enough. */
export type Sleep = (ms: number) => Promise<boolean>

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

export async function untilInterrupted(work: (sleep: Sleep) => Promise<void>): Promise<void> {
  const timers = createTimers(createClock())
  let isOver = false
  const wakes = new Set<() => void>()
  const interrupt = () => {
    isOver = true
    for (const wake of [...wakes]) wake()
  }
  for (const signal of SIGNALS) process.on(signal, interrupt)
  const sleep: Sleep = ms =>
    new Promise(resolve => {
      if (isOver) {
        resolve(false)
        return
      }
      const over = (): void => {
        timer.cancel()
        wakes.delete(over)
        resolve(!isOver)
      }
      const timer = timers.after(ms, over)
      wakes.add(over)
    })
  try {
    await work(sleep)
  } finally {
    for (const signal of SIGNALS) process.off(signal, interrupt)
  }
}
