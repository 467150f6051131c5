// The model hypervisor, in virtual time: the common contract, and that the same seed gives the same run.

import { expect, test } from 'vitest'
import { hypervisorContract } from '../testing/contract.ts'
import { MemoryDisk } from '../testing/memory-disk.ts'
import { createVirtualEnvironment } from '../testing/virtual-environment.ts'
import { ModelHypervisor } from './hypervisor.ts'

hypervisorContract({
  name: 'model',
  open: async () => ({ ...createVirtualEnvironment(42), close: async () => undefined }),
  hypervisor: options => new ModelHypervisor(options),
  spec: (vm, load) => ({
    vm,
    hypervisor: 'model',
    guest: 'model',
    memoryBytes: 64 << 20,
    parameters: {
      stepMs: 5,
      writesPerSecond: 40,
      scratchPerSecond: 5,
      ...(load === 'heavy' ? { pages: 400, dirtyPagesPerStep: 200 } : {}),
    },
    identity: { epoch: 3, instance: 'i-1' },
  }),
  hopelessBytesPerEntry: 2 * 1024,
})

async function journal(seed: number): Promise<string[]> {
  const { env, until } = createVirtualEnvironment(seed)
  const disk = new MemoryDisk(env.timers, 1 << 20)
  const hypervisor = new ModelHypervisor({
    env,
    mayExecute: () => true,
    until: () => Number.POSITIVE_INFINITY,
    evidence: () => undefined,
  })
  const spec = {
    vm: 'v',
    hypervisor: 'model',
    guest: 'model',
    memoryBytes: 1 << 20,
    parameters: { scratchPerSecond: 9 },
  } as const
  const lines: string[] = []
  const machine = await hypervisor.create(spec, [disk], [])
  machine.onEvent(event => lines.push(`${env.clock.now()} ${JSON.stringify(event)}`))
  machine.start()
  await until(() => false, 5000)
  machine.input('status')
  const incoming = await hypervisor.receive(spec, [disk], [])
  const outgoing = machine.send({ downtimeMs: 50, maxRounds: 5, whenDiverging: 'pause' })
  const loading = incoming.load(outgoing.stream)
  await until(() => false, 1000)
  const releasing = outgoing.release(async () => null)
  await until(() => false, 100)
  const released = await releasing
  lines.push(`${(await loading).stateChecksum} ${released.bytesSent} ${released.rounds}`)
  lines.push(JSON.stringify(disk.taken))
  return lines
}

test('the same seed gives the same run, another one another', async () => {
  const first = await journal(1)
  expect(await journal(1)).toEqual(first)
  expect(await journal(2)).not.toEqual(first)
  expect(first.length).toBeGreaterThan(50)
})

test('reads older entries back and uses the scratch area in every way', async () => {
  const { env, until } = createVirtualEnvironment(5)
  const disk = new MemoryDisk(env.timers, 1 << 20)
  const hypervisor = new ModelHypervisor({
    env,
    mayExecute: () => true,
    until: () => Number.POSITIVE_INFINITY,
    evidence: () => undefined,
  })
  const parameters = { scratchPerSecond: 20, readBacksPerSecond: 20 }
  const machine = await hypervisor.create(
    { vm: 'v', hypervisor: 'model', guest: 'model', memoryBytes: 1 << 20, parameters },
    [disk],
    [],
  )
  const lines: string[] = []
  machine.onEvent(event => lines.push(event.kind === 'console' ? event.line : event.kind))
  machine.start()
  await until(() => false, 10_000)
  expect(Math.min(disk.taken.zero, disk.taken.trim, disk.taken.read)).toBeGreaterThan(5)
  expect(lines.filter(line => line.includes('damaged'))).toEqual([])
  // A rotten entry is noticed when it is read back.
  disk.bytes.fill(7, 4096, disk.size)
  await until(() => false, 2000)
  expect(lines.some(line => line.startsWith('disk damaged entry'))).toBe(true)
})

test('parameters that are unknown or out of bounds are refused', async () => {
  const { env } = createVirtualEnvironment(1)
  const hypervisor = new ModelHypervisor({
    env,
    mayExecute: () => true,
    until: () => Number.POSITIVE_INFINITY,
    evidence: () => undefined,
  })
  const spec = { vm: 'v', hypervisor: 'model', guest: 'model', memoryBytes: 1 << 20 } as const
  const refused = (parameters: { [name: string]: number | string }) =>
    hypervisor.create({ ...spec, parameters }, [], [])
  await expect(refused({ pges: 64 })).rejects.toMatchObject({ code: 'bad-parameter' })
  await expect(refused({ pages: 1 })).rejects.toMatchObject({ code: 'bad-parameter' })
  await expect(refused({ stepMs: 'fast' })).rejects.toMatchObject({ code: 'bad-parameter' })
})
