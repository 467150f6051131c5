// The qemu hypervisor with a real QEMU and a real Linux, for the contracts of hypervisors.

import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { QemuHypervisor } from '@stellwerk/agent/hypervisor/qemu/hypervisor.ts'
import type { ContractSubject } from '@stellwerk/agent/hypervisor/testing/contract-bench.ts'
import type { CommandSpec } from '@stellwerk/runtime/environment.ts'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { tinyImageFile } from './tiny-image.ts'

/** For a test, and for what is made before it. */
export const TEST_MS = 600_000
/** A boot takes seconds where nothing but software runs it, and more on a busy machine. */
const LIMIT_MS = 180_000
const IMAGE = 'tiny.boot'

/** `programOf`: the QEMU that is started for it. */
export function qemuSubject(name: string, programOf = (spec: CommandSpec): string => spec.program): ContractSubject {
  return {
    name,
    hidesDiskErrors: true,
    isComputer: true,
    limitMs: LIMIT_MS,
    async open() {
      const directory = mkdtempSync(join(tmpdir(), 'qemu-'))
      const env = createEnvironment({ name: 'test', directory, store: memoryStore(), logLevel: 'error' })
      copyFileSync(await tinyImageFile(env.processes), join(directory, IMAGE))
      return {
        env: { ...env, trace: { ...env.trace, on: () => true } },
        async until(predicate, limitMs) {
          const end = env.clock.now() + limitMs
          while (!predicate()) {
            if (env.clock.now() > end) return false
            await new Promise<void>(resolve => env.timers.after(2, resolve))
          }
          return true
        },
        async close() {
          await env.close()
          rmSync(directory, { recursive: true })
        },
      }
    },
    hypervisor: options =>
      new QemuHypervisor(options, {
        start: async (_vm, spec) => options.env.processes.command({ ...spec, program: programOf(spec) }),
      }),
    spec: (vm, load) => ({
      vm,
      hypervisor: 'qemu',
      guest: IMAGE,
      memoryBytes: 96 << 20,
      parameters: { writesPerSecond: 50, dirtyMiBPerSecond: load === 'heavy' ? 40 : 1, workingSetMiB: 8 },
      identity: { epoch: 3, instance: 'i-1' },
    }),
    hopelessBytesPerEntry: 64 * 1024,
  }
}
