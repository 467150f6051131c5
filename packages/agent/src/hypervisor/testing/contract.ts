// What every hypervisor must do, as one suite of tests run by each implementation on its own kind of world.

import { present } from '@stellwerk/runtime/assert.ts'
import { afterEach, beforeEach, describe } from 'vitest'
import { ContractBench, type ContractSubject } from './contract-bench.ts'
import { disksContract } from './contract-disks.ts'
import { guestAgentContract } from './contract-guest-agent.ts'
import { hostileContract } from './contract-hostile.ts'
import { lifeContract } from './contract-life.ts'
import { migrationContract } from './contract-migration.ts'
import { noticesContract } from './contract-notices.ts'
import { resetContract } from './contract-reset.ts'
import { shutdownContract } from './contract-shutdown.ts'
import { terminalContract } from './contract-terminal.ts'
import { watchdogContract } from './contract-watchdog.ts'

export function hypervisorContract(subject: ContractSubject): void {
  describe(`a hypervisor: ${subject.name}`, () => {
    let bench: ContractBench | null = null
    const on = (): ContractBench => present(bench, 'the bench of this test')

    beforeEach(async () => {
      bench = new ContractBench(subject, await subject.open())
    })

    afterEach(() => on().close())

    lifeContract(on)
    shutdownContract(on)
    if (subject.isComputer === true) {
      resetContract(on)
      noticesContract(on)
      terminalContract(on)
      watchdogContract(on)
      disksContract(on)
      hostileContract(on)
    }
    migrationContract(on, subject.hopelessBytesPerEntry)
    if (subject.withAgent !== undefined) guestAgentContract(on, subject.withAgent)
  })
}
