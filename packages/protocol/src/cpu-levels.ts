// The processors that virtual machines see: the levels of the x86-64 psABI (https://gitlab.com/x86-psABIs/x86-64-ABI, "Micro-Architecture
// Levels"), each with what the one below has. Every QEMU gives a level the same way, whatever the host's own processor is called.

/** A level, and what else must be alike for a machine to move while it runs: the accelerator, and under KVM the maker. */
export interface Cpu {
  readonly family: string
  /** 1 for x86-64-v1, and so on. */
  readonly level: number
}

export const HIGHEST_LEVEL = 4
const PREFIX = 'x86-64-v'

export function levelName(level: number): string {
  return `${PREFIX}${level}`
}

/** For people: `x86-64-v2 (KVM AMD)`. */
export function cpuText({ family, level }: Cpu): string {
  return `${levelName(level)} (${family})`
}

/** Null: no such level. */
export function levelNamed(name: unknown): number | null {
  const level = typeof name === 'string' && name.startsWith(PREFIX) ? Number(name.slice(PREFIX.length)) : Number.NaN
  return Number.isInteger(level) && level >= 1 && level <= HIGHEST_LEVEL ? level : null
}
