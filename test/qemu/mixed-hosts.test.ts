// Clusters whose hosts differ in processor and QEMU, by recorded answers: what each host's agent finds out goes to the
// coordinator's core, and machines get a processor that all they may move to can give. No QEMU is needed here.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { QemuHypervisor } from '@stellwerk/agent/hypervisor/qemu/hypervisor.ts'
import { playedQemu, RECORDED_PROCESSORS, RECORDINGS } from '@stellwerk/agent/hypervisor/qemu/testing/recording.ts'
import type { Command } from '@stellwerk/coordinator/core/commands.ts'
import { Bench } from '@stellwerk/coordinator/core/testing.ts'
import { present } from '@stellwerk/runtime/assert.ts'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { afterAll, describe, expect, it } from 'vitest'

const directory = mkdtempSync(join(tmpdir(), 'mixed-'))
const env = createEnvironment({ name: 'test', directory, store: memoryStore(), logLevel: 'error' })
afterAll(async () => {
  await env.close()
  rmSync(directory, { recursive: true })
})

/** The recordings' names of a QEMU and of a processor; null: KVM does not work there. */
type Host = readonly [qemu: string, processor: string | null]

async function cluster(hosts: { readonly [name: string]: Host }): Promise<Bench> {
  const bench = new Bench()
  for (const [name, [qemu, processor]] of Object.entries(hosts)) {
    const start = playedQemu(
      present(RECORDINGS.get(qemu), qemu),
      processor === null ? null : present(RECORDED_PROCESSORS.get(processor), processor),
    )
    const options = { env, mayExecute: () => true, until: () => Number.POSITIVE_INFINITY, evidence: () => undefined }
    const { available, why = '', cpu } = await new QemuHypervisor(options, { start }).probe()
    bench.join(name).qemu = { why: available ? null : why, ...(cpu === undefined ? {} : { cpu }) }
  }
  bench.round(2)
  bench.command({ kind: 'volume-create', name: 'csv1', id: 'v1', sizeBytes: 2 ** 30, storages: ['san-a'] })
  bench.round(2)
  return bench
}

function create(bench: Bench, name: string, host: string | null, parameters: { cpu?: string } = {}) {
  const result = bench.command({
    ...{ kind: 'vm-create', name, start: true, priority: 0, host },
    spec: { hypervisor: 'qemu', guest: 'tiny.boot', memoryBytes: 2 ** 26, parameters },
    disks: [{ volume: 'csv1', sizeBytes: 2 ** 20 }],
  } as Command)
  bench.round(4)
  return result
}

const cpuOf = (bench: Bench, name: string) => bench.state.vms.get(name)?.placement?.cpu
let moves = 0
function move(bench: Bench, name: string, to: string) {
  const id = `m${++moves}`
  const result = bench.command({ kind: 'vm-migrate', name, to, id })
  const { spec } = (
    bench.orders.findLast(({ message }) => message === 'migration.receive')?.body as {
      order?: { spec: object }
    }
  )?.order ?? { spec: {} }
  return { result, begun: bench.state.migrations.has(id), spec }
}

describe('a cluster of hosts that differ', () => {
  it('of one maker, of four QEMUs: the processor is what all can give, and a machine may move to each of them', async () => {
    const hosts = {
      'host-a': ['debian-12', 'Intel Xeon Gold 6148'],
      'host-b': ['ubuntu-24.04', 'Intel Core i7-2600'],
      'host-c': ['ubuntu-25.04', 'Intel Xeon E5-2650 v3'],
      'host-d': ['debian-13', 'Intel Xeon Gold 6148'],
    } as const
    for (const to of ['host-b', 'host-c', 'host-d']) {
      const bench = await cluster(hosts)
      create(bench, 'web', 'host-a')
      expect(cpuOf(bench, 'web')).toEqual({ family: 'KVM Intel', level: 2 })
      expect(move(bench, 'web', to)).toMatchObject({ begun: true, spec: { cpu: { family: 'KVM Intel', level: 2 } } })
    }
  })

  it('where a VM asks for more: placed where it is to be had, and refused in one clear line elsewhere', async () => {
    const bench = await cluster({
      'host-a': ['ubuntu-24.04', 'Intel Core i7-2600'],
      'host-b': ['debian-13', 'Intel Xeon E5-2650 v3'],
      'host-c': ['debian-12', 'Intel Xeon Gold 6148'],
    })
    create(bench, 'web', null, { cpu: 'x86-64-v3' })
    expect(bench.placement('web')).toMatchObject({ host: 'host-b', cpu: { level: 3 } })
    expect(move(bench, 'web', 'host-a').result).toMatchObject({
      refused: 'host-unfit',
      message: expect.stringMatching(
        /^[^\n]*its QEMU gives at most x86-64-v2 \(KVM Intel\), the VM wants x86-64-v3[^\n]*$/,
      ),
    })
    expect(move(bench, 'web', 'host-c').begun).toBe(true)
  })

  it('of two makers: each half has its own highest, and no machine goes from one to the other', async () => {
    const bench = await cluster({
      'host-a': ['debian-12', 'AMD EPYC 9334'],
      'host-b': ['debian-13', 'AMD EPYC 7502'],
      'host-c': ['ubuntu-25.04', 'Intel Xeon Gold 6148'],
      'host-d': ['debian-12', 'Hygon C86 7185'],
      // KVM refuses there, as it does on the machine of the recordings.
      'host-e': ['debian-13', null],
    })
    const expected = {
      'host-a': ['KVM AMD', 3],
      'host-c': ['KVM Intel', 4],
      'host-d': ['KVM Hygon', 3],
      'host-e': ['TCG', 2],
    }
    for (const [host, [family, level]] of Object.entries(expected)) {
      create(bench, `on-${host}`, host)
      expect([host, cpuOf(bench, `on-${host}`)]).toEqual([host, { family, level }])
    }
    expect(move(bench, 'on-host-a', 'host-c').result).toMatchObject({
      refused: 'host-unfit',
      message: expect.stringMatching(
        /^[^\n]*its QEMU gives x86-64-v4 \(KVM Intel\), the machine runs with x86-64-v3 \(KVM AMD\)[^\n]*$/,
      ),
    })
    expect(move(bench, 'on-host-a', 'host-b').begun).toBe(true)
  })

  it('with an old host that has nothing but the first level: the others’ machines may move there, too', async () => {
    const bench = await cluster({
      'host-a': ['debian-12', 'AMD EPYC 9334'],
      'host-b': ['debian-12', 'Quad-Core AMD Opteron 2350'],
    })
    create(bench, 'web', 'host-a')
    expect(cpuOf(bench, 'web')).toEqual({ family: 'KVM AMD', level: 1 })
    expect(move(bench, 'web', 'host-b').begun).toBe(true)
  })

  it('with a QEMU that is too old: that host takes none, lowers nobody’s processor, and says what to install', async () => {
    const bench = await cluster({
      'host-a': ['debian-12', 'AMD EPYC 9334'],
      'host-b': ['debian-11', 'Quad-Core AMD Opteron 2350'],
    })
    create(bench, 'web', 'host-a')
    expect(cpuOf(bench, 'web')).toEqual({ family: 'KVM AMD', level: 4 })
    expect(move(bench, 'web', 'host-b').result).toMatchObject({
      refused: 'host-unfit',
      message: expect.stringMatching(
        /^[^\n]*QEMU 5\.2 is here, and 7\.2 is needed[^\n]*apt install qemu-system-x86 \(Debian\), dnf install qemu-system-x86-core \(Fedora\)[^\n]*$/,
      ),
    })
  })
})
