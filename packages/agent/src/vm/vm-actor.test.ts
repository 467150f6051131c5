// A VM's actor with a machine that the test plays: what it does when a lease and the machine's own word of having frozen come in
// either order, and what a fence waits for.

import type { ReportedMachine, VmOrder } from '@stellwerk/protocol/messages/cluster.ts'
import { PROFILES } from '@stellwerk/protocol/settings.ts'
import { ActorSystem } from '@stellwerk/runtime/actors/actor-system.ts'
import type { TraceEvent } from '@stellwerk/runtime/environment.ts'
import { errorCode } from '@stellwerk/runtime/errors.ts'
import { describe, expect, it } from 'vitest'
import type { Machine, MachineEvent } from '../hypervisor/hypervisor.ts'
import { createVirtualEnvironment } from '../hypervisor/testing/virtual-environment.ts'
import { RightToRun } from '../lease/right-to-run.ts'
import { giveInput } from './guest-orders.ts'
import { RunGate } from './run-gate.ts'
import { VmActor } from './vm-actor.ts'
import type { VmParts } from './vm-parts.ts'
import type { Phase } from './vm-phase.ts'

const LEASE_MS = 3_000
const spec = {
  hypervisor: 'model',
  guest: 'ledger',
  memoryBytes: 1 << 20,
  parameters: {},
} as unknown as VmOrder['spec']
const ORDER: VmOrder = { vm: 'web', epoch: 3, host: 'host-a', hostEpoch: 1, incarnation: 1, spec, disks: [] }

/** Executes when it was started or thawed, and tells what it is told to. */
class Played implements Pick<Machine, 'start' | 'freeze' | 'thaw' | 'kill' | 'onEvent'> {
  executes = false
  killed = false
  tell: (event: MachineEvent) => void = () => undefined

  onEvent(f: (event: MachineEvent) => void): void {
    this.tell = f
  }

  start(): void {
    this.executes = true
  }

  async freeze(): Promise<void> {
    this.executes = false
  }

  thaw(): void {
    this.executes = true
  }

  reset?(pulled?: () => void): Promise<void>

  async kill() {
    this.executes = false
    this.killed = true
    return { vm: 'web' }
  }
}

async function running() {
  const virtual = createVirtualEnvironment(7)
  const env = { ...virtual.env, processes: { ...virtual.env.processes, parent: null } }
  const system = new ActorSystem({ env, local: ['host-a'] })
  const right = new RightToRun({ leaseMs: LEASE_MS })
  const gate = new RunGate(env, right)
  const machine = new Played()
  const reports: ReportedMachine[] = []
  const disks = {
    ...{ devices: [], critical: null, storages: () => null, onCritical: () => undefined },
    ...{ drop: () => undefined, abandon: () => undefined, detach: async () => undefined },
  }
  const parts = {
    ...{ env, host: 'host-a', incarnation: 1, settings: () => PROFILES.lab, gate },
    disks: { attach: async () => disks },
    guests: { need: () => null },
    hypervisor: () => ({ create: async () => machine }),
    report: (reported: ReportedMachine) => void reports.push(reported),
    ...{ gone: () => undefined, consoles: { line: () => undefined, prompt: () => undefined } },
  } as unknown as VmParts
  right.granted(env.clock.now(), LEASE_MS)
  system.spawn('host-a/vm/web', new VmActor(parts, ORDER, null))
  const settled = () => virtual.until(() => false, 5)
  await settled()
  expect(machine.executes).toBe(true)
  const state = () => reports.at(-1)?.state
  return { env, system, right, gate, machine, state, settled, until: virtual.until }
}

it('a guest that froze itself is thawed, also where the next lease was there before its host heard of it', async () => {
  const { env, right, gate, machine, state, settled, until } = await running()
  await until(() => false, LEASE_MS - 6)
  // The guest found its right gone, and stands still; before its word comes through, the answer to a beat does.
  machine.executes = false
  right.granted(env.clock.now(), LEASE_MS)
  gate.rightChanged()
  await settled()
  machine.tell({ kind: 'frozen', reason: 'the right to execute is gone' })
  await settled()
  expect([machine.executes, state()]).toEqual([true, 'running'])
})

it('without a lease it stays as it is, and goes on with the next one', async () => {
  const { env, right, gate, machine, state, settled, until } = await running()
  await until(() => false, LEASE_MS + 10)
  machine.tell({ kind: 'frozen', reason: 'the right to execute is gone' })
  await settled()
  expect([machine.executes, state()]).toEqual([false, 'frozen'])
  right.granted(env.clock.now(), LEASE_MS)
  gate.rightChanged()
  await settled()
  expect([machine.executes, state()]).toEqual([true, 'running'])
})

it('its reset line is pulled at its own placement, while it runs or is frozen, and the reset is on record', async () => {
  const { env, system, machine, settled, until } = await running()
  let resets = 0
  const ask = (epoch: number) => {
    const answer = system
      .ask('host-a/agent', 'host-a/vm/web', 'vm.reset', { ...ORDER, epoch }, 1_000)
      .then(() => 'done', errorCode)
    return settled().then(() => answer)
  }
  const emitted = () => traced.filter(({ kind }) => kind === 'vm.reset').map(({ body }) => body)
  const traced: TraceEvent[] = []
  env.trace.emit = event => {
    traced.push(event)
    return { process: 'test', seq: 0 }
  }
  expect(await ask(3)).toBe('no-reset')
  machine.reset = async pulled => {
    pulled?.()
    resets++
  }
  expect([await ask(2), resets, emitted()]).toEqual(['stale-order', 0, []])
  expect([await ask(3), resets]).toEqual(['done', 1])
  expect(emitted()).toEqual([{ epoch: 3, instance: expect.any(String) }])
  await until(() => false, LEASE_MS + 10)
  machine.tell({ kind: 'frozen', reason: 'no lease' })
  await settled()
  expect([await ask(3), resets]).toEqual(['done', 2])
  machine.tell({ kind: 'halted', reason: 'the guest has powered off' })
  await settled()
  expect([await ask(3), resets]).toEqual(['no-such-actor', 2])
})

it('what its hypervisor reports is on record, in order with what follows from it', async () => {
  const { env, machine, settled } = await running()
  const traced: TraceEvent[] = []
  env.trace.emit = event => {
    traced.push(event)
    return { process: 'test', seq: 0 }
  }
  machine.tell({ kind: 'notice', event: 'WATCHDOG', data: { action: 'pause' }, missed: 0 })
  machine.tell({ kind: 'notice', event: 'STOP', data: {}, missed: 3 })
  // As a message of the VM's: not before it is taken.
  expect(traced).toEqual([])
  await settled()
  const of = { epoch: 3, instance: expect.any(String) }
  const ids = { level: 'message', kind: 'qemu.event', vm: 'web', host: 'host-a' }
  expect(traced).toEqual([
    { ...ids, body: { ...of, event: 'WATCHDOG', data: { action: 'pause' } } },
    { ...ids, body: { ...of, event: 'STOP', data: {}, missed: 3 } },
  ])
})

describe('what is typed', () => {
  const refused = (order: Parameters<typeof giveInput>[0], ...rest: [Machine | null, Phase]) => {
    try {
      giveInput(order, ...rest)
    } catch (error) {
      return error
    }
    return null
  }
  const machine = (given: unknown[], type?: (keys: Uint8Array) => void) =>
    ({
      input: (line: string) => given.push(line),
      ...(type && { port: { life: 'second', type } }),
    }) as unknown as Machine
  const line = { vm: 'web', line: 'status' }
  const keys = { vm: 'web', bytes: Buffer.from('s') }

  it('is refused where nobody can read it yet', () => {
    const error = { code: 'not-running', message: 'VM "web" is opening here' }
    for (const order of [line, keys]) expect(refused(order, null, 'opening')).toMatchObject(error)
  })

  it('is refused where it would be read by a machine that may go on elsewhere', () => {
    const given: unknown[] = []
    const here = machine(given, bytes => given.push(bytes))
    for (const order of [line, keys]) expect(refused(order, here, 'released')).toMatchObject({ code: 'migrating' })
    const ended = { code: 'not-running', message: 'VM "web" is stopping here' }
    for (const order of [line, keys]) expect(refused(order, here, 'stopping')).toMatchObject(ended)
    expect(given).toEqual([])
    for (const order of [line, keys]) expect(refused(order, null, 'incoming')).toMatchObject({ code: 'migrating' })
    for (const order of [line, keys]) expect(refused(order, here, 'running')).toBe(null)
    expect(given).toEqual(['status', keys.bytes])
  })

  it('is kept for a guest that stands still, if it is a line: whoever types hears that it does', () => {
    const given: unknown[] = []
    const here = machine(given, bytes => given.push(bytes))
    expect(refused(keys, here, 'frozen')).toMatchObject({ code: 'standing-still' })
    expect(refused(line, here, 'frozen')).toBe(null)
    expect(given).toEqual(['status'])
  })

  it('is for the life of the guest that it was typed for, and tells which one read it', () => {
    const given: unknown[] = []
    const here = machine(given, bytes => given.push(bytes))
    expect(refused({ ...keys, life: 'first' }, here, 'running')).toMatchObject({ code: 'other-life' })
    expect(given).toEqual([])
    expect(giveInput({ ...keys, life: 'second' }, here, 'running')).toEqual({ life: 'second' })
    expect(giveInput(keys, here, 'running')).toEqual({ life: 'second' })
  })

  it('is lines for a guest without a serial port', () => {
    const given: unknown[] = []
    expect(refused(keys, machine(given), 'running')).toMatchObject({ code: 'no-terminal' })
    expect(refused(line, machine(given), 'running')).toBe(null)
    expect(given).toEqual(['status'])
  })
})

it('a fence kills it', async () => {
  const { system, machine, settled } = await running()
  system.send('host-a/vm/web', 'vm.fenced', null, { from: 'host-a/agent' })
  await settled()
  expect([machine.killed, machine.executes]).toEqual([true, false])
})
