// Ctrl-C during a run of chaos, or the end of its terminal: told once, so that what is broken can be healed; impatience changes nothing.

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

export interface Interrupt {
  readonly stop: () => boolean
  /** Signals are again what they were. */
  release(): void
}

export function onInterrupt(tell: () => void): Interrupt {
  let isOver = false
  const interrupt = (): void => {
    if (!isOver) tell()
    isOver = true
  }
  for (const signal of SIGNALS) process.on(signal, interrupt)
  return {
    stop: () => isOver,
    release: () => {
      for (const signal of SIGNALS) process.off(signal, interrupt)
    },
  }
}
