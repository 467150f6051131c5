// What the guardian is told of the machines here, and when.

import type { Environment, Json } from '@stellwerk/runtime/environment.ts'
import { expect, test } from 'vitest'
import type { ToGuardian } from '../guardian/pipe.ts'
import { createVirtualEnvironment } from '../hypervisor/testing/virtual-environment.ts'
import { RightToRun } from '../lease/right-to-run.ts'
import { RunGate } from './run-gate.ts'

const LEASE_MS = 100

/** Two machines that run, of whom the guardian has heard. */
async function twoThatRun() {
  const virtual = createVirtualEnvironment(1)
  const told: ToGuardian[] = []
  const parent = { send: (said: Json) => told.push(said as unknown as ToGuardian), onMessage: () => undefined }
  const env = { ...virtual.env, processes: { ...virtual.env.processes, parent } } as unknown as Environment
  const right = new RightToRun({ leaseMs: LEASE_MS })
  const gate = new RunGate(env, right)
  right.granted(env.clock.now(), LEASE_MS)
  for (const vm of ['db', 'web']) {
    gate.register(vm, 1, () => [], { changed: () => undefined, restsOn: () => undefined })
    gate.begins(vm)
  }
  const pass = (ms: number) => virtual.until(() => false, ms)
  await pass(0)
  told.length = 0
  const known = () => told.map(said => (said.kind === 'deadlines' ? said.machines.map(({ vm }) => vm) : said.kind))
  return { right, gate, pass, told, known }
}

test('of a machine that ended past its deadline the guardian hears at once, and need not kill the agent for it', async () => {
  const { right, gate, pass, told, known } = await twoThatRun()
  await pass(2 * LEASE_MS)
  told.length = 0
  // As after a pause: the right is void, which is told in a while, and the machine is killed meanwhile.
  right.fence()
  gate.rightChanged()
  gate.unregister('web')
  expect(known()).toEqual([['db']])
  gate.unregister('db')
  expect(known()).toEqual([['db'], []])
})

test('of ends within their deadlines it hears in one word', async () => {
  const { gate, pass, known } = await twoThatRun()
  gate.unregister('web')
  gate.unregister('db')
  expect(known()).toEqual([])
  await pass(LEASE_MS / 2)
  expect(known()).toEqual([[]])
})
