// The contract suites over the simulated environment.

import type { Address, Environment, NetworkName } from '../environment.ts'
import { Simulation } from '../sim/simulation.ts'
import { childProgram } from './child-program.ts'
import { filesContract } from './files-contract.ts'
import { linkContract } from './link-contract.ts'
import { processesContract } from './processes-contract.ts'
import { storeContract } from './store-contract.ts'
import { streamContract } from './stream-contract.ts'
import { timeContract } from './time-contract.ts'
import type { RunInWorld, World } from './world.ts'

/** Virtual time a test may take. */
const LIMIT_MS = 120_000

const run: RunInWorld = async body => {
  const sim = new Simulation({ seed: 'contract' })
  const host = sim.host('host-a')
  const environments: Environment[] = []
  sim.program('contract-child', childProgram)
  sim.program('contract', env => {
    environments.push(env)
    if (environments.length === 2) start()
  })
  let ports = 0
  const address = (network: NetworkName): Address =>
    network === 'local' ? { network, host: `/run/${++ports}.sock`, port: 0 } : { network, host: 'host-a', port: 0 }
  let outcome: { readonly error: unknown } | 'passed' | null = null
  function start(): void {
    const [left, right] = environments as [Environment, Environment]
    const world: World = { left, right, address }
    body(world).then(
      () => {
        outcome = 'passed'
      },
      (error: unknown) => {
        outcome = { error }
      },
    )
  }
  host.spawn('contract', 'left')
  host.spawn('contract', 'right')
  if (!(await sim.runUntil(() => outcome !== null, LIMIT_MS))) throw new Error(`not done after ${LIMIT_MS} virtual ms`)
  const ended = outcome as { readonly error: unknown } | 'passed' | null
  if (ended !== null && ended !== 'passed') throw ended.error
}

timeContract('simulation', run)
filesContract('simulation', run)
linkContract('simulation', run)
streamContract('simulation', run)
processesContract('simulation', run)
storeContract('simulation', body => run(async ({ left }) => body(left.store)))
