// Ctrl-C during a run of chaos: told once, so that what is broken can be healed; impatience changes nothing.

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
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, interrupt)
  return {
    stop: () => isOver,
    release: () => {
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.off(signal, interrupt)
    },
  }
}
