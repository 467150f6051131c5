// The simulated QEMU, driven by the hypervisor that drives the real one, keeps the contract that the real one keeps.

import { present } from '@stellwerk/runtime/assert.ts'
import type { Environment } from '@stellwerk/runtime/environment.ts'
import { Simulation } from '@stellwerk/runtime/sim/simulation.ts'
import { hypervisorContract } from '../../testing/contract.ts'
import { encodeBootImage } from '../boot-image.ts'
import { QemuHypervisor } from '../hypervisor.ts'
import { QEMU_PROGRAM } from '../probe.ts'
import { simulatedQemu } from './program.ts'

const IMAGE = 'model.boot'

hypervisorContract({
  name: 'simulated qemu',
  hidesDiskErrors: true,
  async open() {
    const sim = new Simulation({ seed: 'contract' })
    let env: Environment | null = null
    sim.command(QEMU_PROGRAM, simulatedQemu({ pagesPerMs: () => 0.5 }))
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
  },
  hypervisor: options =>
    new QemuHypervisor(options, { start: async (_vm, spec) => options.env.processes.command(spec) }),
  spec: (vm, load) => ({
    vm,
    hypervisor: 'qemu',
    guest: IMAGE,
    memoryBytes: 64 << 20,
    parameters: {
      stepMs: 5,
      writesPerSecond: 40,
      scratchPerSecond: 5,
      ...(load === 'heavy' ? { pages: 200, dirtyPagesPerStep: 200 } : {}),
    },
    identity: { epoch: 3, instance: 'i-1' },
  }),
  hopelessBytesPerEntry: 32 * 1024,
})
