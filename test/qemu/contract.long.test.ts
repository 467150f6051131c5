// The qemu hypervisor with a real QEMU and a real Linux: the contract that every hypervisor keeps. Some forty
// boots: for `npm run test:long`.

import { hypervisorContract } from '@stellwerk/agent/hypervisor/testing/contract.ts'
import { describe, vi } from 'vitest'
import { qemuSubject, TEST_MS } from './contract-subject.ts'
import { qemu } from './tiny-image.ts'

vi.setConfig({ testTimeout: TEST_MS, hookTimeout: TEST_MS })

describe.skipIf(qemu.missing)(`with ${qemu.note}`, () => {
  hypervisorContract(qemuSubject('qemu'))
})
