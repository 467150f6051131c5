// Fault rules at the seam of the real files: of a file that was opened, each operation may come late, or fail with the system's
// code. Nothing below hears of what fails here.

import type { File, Random } from '../../environment.ts'
import type { FaultFile } from './fault-file.ts'
import type { DiskFaultRule, DiskOperation } from './fault-rules.ts'

export class DiskFaults {
  readonly #node: string
  readonly #file: FaultFile
  readonly #random: Random

  constructor(options: { readonly node: string; readonly file: FaultFile; readonly random: Random }) {
    this.#node = options.node
    this.#file = options.file
    this.#random = options.random
  }

  around(file: File, path: string): File {
    const under = <T>(operation: DiskOperation, f: () => Promise<T>): Promise<T> => {
      const rules = this.#matching(path, operation)
      return rules.length === 0 ? f() : this.#suffer(rules, path, operation, f)
    }
    return {
      size: () => file.size(),
      read: (offset, length) => under('read', () => file.read(offset, length)),
      write: (offset, data, options) => under('write', () => file.write(offset, data, options)),
      sync: () => under('sync', () => file.sync()),
      punch: (offset, length) => under('punch', () => file.punch(offset, length)),
      truncate: size => under('truncate', () => file.truncate(size)),
      close: () => file.close(),
    }
  }

  #matching(path: string, operation: DiskOperation): readonly DiskFaultRule[] {
    const { disk } = this.#file.rules
    if (disk.length === 0) return disk
    return disk.filter(
      rule =>
        rule.node === this.#node &&
        path.startsWith(rule.path) &&
        path.endsWith(rule.suffix ?? '') &&
        rule.operation.includes(operation),
    )
  }

  async #suffer<T>(
    rules: readonly DiskFaultRule[],
    path: string,
    operation: DiskOperation,
    f: () => Promise<T>,
  ): Promise<T> {
    for (const { chance, verdict } of rules) {
      if (chance !== undefined && this.#random.float() >= chance) continue
      if (typeof verdict === 'string') {
        throw Object.assign(new Error(`${verdict}: ${operation} of ${path}, by a fault rule`), { code: verdict })
      }
      const delayMs = verdict.delayMs + (verdict.jitterMs ?? 0) * this.#random.float()
      await new Promise(resolve => setTimeout(resolve, delayMs))
    }
    return f()
  }
}
