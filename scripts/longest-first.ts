// The order of test files: those that take minutes first, so that no worker is left with one of them at the end.

import type { TestSpecification } from 'vitest/node'
import { BaseSequencer } from 'vitest/node'

/** Parts of paths, longest first. */
const LONG = [
  ...['test/simulation/seeds', 'test/simulation/canaries-', 'test/processes/', 'test/simulation/determinism'],
  ...['hypervisor/wasm/wasm.test', 'test/simulation/', 'protocol/src/codec.test'],
]

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files)
    const rank = ({ moduleId }: TestSpecification): number => {
      const found = LONG.findIndex(part => moduleId.includes(part))
      return found < 0 ? LONG.length : found
    }
    return [...sorted].sort((a, b) => rank(a) - rank(b))
  }
}
