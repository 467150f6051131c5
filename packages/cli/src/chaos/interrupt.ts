// Ctrl-C during a run of chaos, or the end of its terminal or of whoever reads it: told once, so that what is broken can be
// healed; impatience changes nothing.

import { onReaderGone } from '../terminal/system-terminal.ts'

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

export interface Interrupt {
  readonly stop: () => boolean
  /** Signals are again what they were. */
  release(): void
}

export function onInterrupt(tell: () => void): Interrupt {
  let isOver = false
  const interrupt = (): void => {
    if (isOver) return
    isOver = true
    tell()
  }
  for (const signal of SIGNALS) process.on(signal, interrupt)
  const forget = onReaderGone(interrupt)
  return {
    stop: () => isOver,
    release: () => {
      forget()
      for (const signal of SIGNALS) process.off(signal, interrupt)
    },
  }
}
