// The qemu hypervisor with a real QEMU and a real Linux: the contract that every hypervisor keeps. Some forty
// boots: for `npm run test:long`.

import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { QemuHypervisor } from '@stellwerk/agent/hypervisor/qemu/hypervisor.ts'
import { hypervisorContract } from '@stellwerk/agent/hypervisor/testing/contract.ts'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { describe, vi } from 'vitest'
import { qemu, tinyImageFile } from './tiny-image.ts'

const TEST_MS = 600_000
/** A boot takes seconds where nothing but software runs it, and more on a busy machine. */
const LIMIT_MS = 180_000
const IMAGE = 'tiny.boot'

vi.setConfig({ testTimeout: TEST_MS, hookTimeout: TEST_MS })

/** The directory of the world that is open. */
let directory = ''

describe.skipIf(qemu.missing)(`with ${qemu.note}`, () => {
  hypervisorContract({
    name: 'qemu',
    hidesDiskErrors: true,
    isComputer: true,
    limitMs: LIMIT_MS,
    async open() {
      directory = mkdtempSync(join(tmpdir(), 'qemu-'))
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
      new QemuHypervisor(options, { start: async (_vm, spec) => options.env.processes.command(spec) }),
    spec: (vm, load) => ({
      vm,
      hypervisor: 'qemu',
      guest: IMAGE,
      memoryBytes: 96 << 20,
      parameters: { writesPerSecond: 50, dirtyMiBPerSecond: load === 'heavy' ? 40 : 1, workingSetMiB: 8 },
      identity: { epoch: 3, instance: 'i-1' },
    }),
    hopelessBytesPerEntry: 64 * 1024,
  })
})
