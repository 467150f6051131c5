// Planted bugs that tests, and runs in the simulator, switch on to prove that monitors and checkers find them. Nothing else ever
// fills the set, and an empty set costs one lookup: no canary stands on a path that a lookup would slow down.

export const canaries = new Set<string>()

/** True while a test has planted the bug of this name. */
export function canary(name: string): boolean {
  return canaries.size > 0 && canaries.has(name)
}
