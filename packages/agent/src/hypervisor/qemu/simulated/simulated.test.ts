// The simulated QEMU, driven by the hypervisor that drives the real one, keeps the contract that the real one keeps.

import { formatMac, sourceOf } from '@stellwerk/protocol/ethernet.ts'
import { present } from '@stellwerk/runtime/assert.ts'
import type { Environment } from '@stellwerk/runtime/environment.ts'
import { Simulation } from '@stellwerk/runtime/sim/simulation.ts'
import { expect, test } from 'vitest'
import type { MachineSpec, NetworkPort } from '../../hypervisor.ts'
import type { HypervisorOptions } from '../../options.ts'
import { hypervisorContract } from '../../testing/contract.ts'
import { ContractBench, type ContractWorld, consecutive } from '../../testing/contract-bench.ts'
import { encodeBootImage } from '../boot-image.ts'
import { QemuHypervisor } from '../hypervisor.ts'
import { QEMU_PROGRAM } from '../probe.ts'
import { simulatedQemu } from './program.ts'

const IMAGE = 'model.boot'
const SPEC: MachineSpec = {
  vm: 'vm-1',
  hypervisor: 'qemu',
  guest: IMAGE,
  memoryBytes: 64 << 20,
  parameters: { stepMs: 5, writesPerSecond: 40 },
  identity: { epoch: 3, instance: 'i-1' },
}

async function open(pagesPerMs: number): Promise<ContractWorld> {
  const sim = new Simulation({ seed: 'contract' })
  let env: Environment | null = null
  sim.command(QEMU_PROGRAM, simulatedQemu({ pagesPerMs: () => pagesPerMs }))
  sim.program('agent', async own => {
    const image = encodeBootImage({
      kernel: Buffer.from('kernel'),
      initrd: Buffer.from('initrd'),
      commandLine: 'quiet',
    })
    await own.files.writeAtomic(IMAGE, image)
    env = own
  })
  sim.host('host-a').spawn('agent', 'host-a/agent')
  await sim.runUntil(() => env !== null, 1_000)
  return {
    env: present(env as Environment | null, 'the environment'),
    until: (predicate, limitMs) => sim.runUntil(predicate, limitMs),
    close: async () => undefined,
  }
}

const drive = (options: HypervisorOptions) =>
  new QemuHypervisor(options, { start: async (_vm, spec) => options.env.processes.command(spec) })

hypervisorContract({
  name: 'simulated qemu',
  hidesDiskErrors: true,
  isComputer: true,
  open: () => open(0.5),
  hypervisor: drive,
  spec: (vm, load) => ({
    ...{ ...SPEC, vm },
    parameters: {
      ...{ ...SPEC.parameters, scratchPerSecond: 5 },
      ...(load === 'heavy' ? { pages: 200, dirtyPagesPerStep: 200 } : {}),
    },
  }),
  hopelessBytesPerEntry: 32 * 1024,
  withAgent: (vm, agent) => ({ ...{ ...SPEC, vm }, parameters: { ...SPEC.parameters, agent } }),
})

test('a switch that QEMU begins by itself, and that the guest’s last request holds up, is given up, and the guest runs on', async () => {
  // So fast that nothing is ever left: QEMU stops the guest before anybody has told it to.
  const subject = { name: 'fast', open: () => open(40), hypervisor: drive, spec: () => SPEC, hopelessBytesPerEntry: 0 }
  const bench = new ContractBench(subject, await subject.open())
  const source = await bench.running()
  bench.disk.hold()
  await bench.until('a request is in flight', () => bench.disk.inFlight > 0)
  const outgoing = source.machine.send({ downtimeMs: 100, maxRounds: 10, whenDiverging: 'abort' })
  outgoing.stream.onData(() => undefined)
  await bench.pass(3_000)
  // Nobody has aborted it.
  bench.disk.go()
  const acknowledged = source.acks.length
  await bench.until('it goes on', () => source.acks.length >= acknowledged + 5)
  expect(consecutive(source.acks)).toBe(true)
  expect(await bench.failure(outgoing.release(async () => null))).toBe('stream-lost')
  await bench.settle(outgoing.abort())
  await bench.close()
})

test('each of several cards has its own MAC and its own way', async () => {
  const subject = {
    name: 'cards',
    open: () => open(0.5),
    hypervisor: drive,
    spec: () => SPEC,
    hopelessBytesPerEntry: 0,
  }
  const bench = new ContractBench(subject, await subject.open())
  const macs = ['52:54:00:00:00:01', '52:54:00:00:00:02']
  const heard: string[][] = [[], []]
  const ports = macs.map(
    (mac, index): NetworkPort => ({
      ...{ mac, onFrame: () => undefined, attach: () => undefined, detach: () => undefined },
      send: frame => heard[index]?.push(formatMac(sourceOf(frame))),
    }),
  )
  const { machine } = bench.watch(await bench.settle(bench.hypervisor.create(SPEC, [bench.disk], ports)))
  machine.start()
  await bench.until('packets on both', () => heard.every(frames => frames.length >= 3))
  expect(heard.map(frames => [...new Set(frames)])).toEqual(macs.map(mac => [mac]))
  await bench.close()
})
