// Numbers for people.

const STEPS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const

export function bytes(count: number): string {
  let value = count
  let step = 0
  while (value >= 1024 && step < STEPS.length - 1) {
    value /= 1024
    step += 1
  }
  const digits = step === 0 || Number.isInteger(value) ? 0 : value < 10 ? 1 : 0
  return `${value.toFixed(digits)} ${STEPS[step]}`
}

export function age(ms: number | null): string {
  if (ms === null) return 'never'
  if (ms < 1_000) return `${Math.round(ms)} ms`
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min`
  return `${Math.floor(ms / 3_600_000)} h`
}

/** Of requests, where fractions of a millisecond count. */
export function latency(ms: number): string {
  return `${ms < 10 ? ms.toFixed(2) : Math.round(ms)} ms`
}
