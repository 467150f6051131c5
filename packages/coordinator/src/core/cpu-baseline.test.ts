// Processors of QEMU machines on hosts that differ.

import { describe, expect, it } from 'vitest'
import type { Command } from './commands.ts'
import { Bench } from './testing.ts'

const NAMES = ['host-a', 'host-b', 'host-c'] as const

/** Three hosts that give these levels; a host of another family is named with it. */
function cluster(...cpus: readonly (number | [string, number])[]): Bench {
  const bench = new Bench()
  for (const [i, name] of NAMES.entries()) {
    const cpu = cpus[i]!
    const [family, level] = typeof cpu === 'number' ? ['KVM AMD', cpu] : cpu
    bench.join(name).qemu = { why: null, cpu: { family, level } }
  }
  bench.round(2)
  bench.command({ kind: 'volume-create', name: 'csv1', id: 'v1', sizeBytes: 2 ** 30, storages: ['san-a'] })
  bench.round(2)
  return bench
}

function create(bench: Bench, parameters: { cpu?: string } = {}, host: string | null = 'host-a') {
  const result = bench.command({
    ...{ kind: 'vm-create', name: 'web', start: true, priority: 0, host },
    spec: { hypervisor: 'qemu', guest: 'tiny.boot', memoryBytes: 2 ** 26, parameters },
    disks: [{ volume: 'csv1', sizeBytes: 2 ** 20 }],
  } as Command)
  bench.round(4)
  return result
}

const cpuOf = (bench: Bench) => bench.state.vms.get('web')?.placement?.cpu
const ordered = (bench: Bench, message: string) =>
  (bench.orders.findLast(order => order.message === message)?.body as { spec?: object; order?: { spec: object } }) ?? {}

describe('the processor of a QEMU machine', () => {
  it('is the highest that every host of the family has, and is ordered so', () => {
    const bench = cluster(4, 2, 3)
    create(bench)
    expect(cpuOf(bench)).toEqual({ family: 'KVM AMD', level: 2 })
    expect(ordered(bench, 'vm.start').spec).toMatchObject({ cpu: { family: 'KVM AMD', level: 2 } })
    expect(bench.store.get('vms/web')).toMatchObject({ placement: { cpu: { level: 2 } } })
  })

  it('does not count hosts of another maker or accelerator, to which no machine could move', () => {
    const bench = cluster(3, 3, ['KVM Intel', 1])
    create(bench)
    expect(cpuOf(bench)).toEqual({ family: 'KVM AMD', level: 3 })
    for (const to of ['host-c', null] as const) {
      bench.command({ kind: 'vm-migrate', name: 'web', to, id: `m-${to}` })
    }
    expect(bench.state.migrations.get('m-host-c')).toBe(undefined)
    expect(bench.state.migrations.get('m-null')?.target.host).toBe('host-b')
    expect(ordered(bench, 'migration.receive').order?.spec).toMatchObject({ cpu: { level: 3 } })
    expect(bench.command({ kind: 'vm-migrate', name: 'web', to: 'host-c', id: 'again' })).toMatchObject({
      refused: expect.any(String),
    })
  })

  it('stays what it is while the machine lives: a lesser host that joins takes it only by a restart', () => {
    const bench = cluster(3, 3, 3)
    create(bench)
    bench.hosts.get('host-b')!.qemu = { why: null, cpu: { family: 'KVM AMD', level: 2 } }
    bench.round(2)
    expect(cpuOf(bench)?.level).toBe(3)
    expect(bench.command({ kind: 'vm-migrate', name: 'web', to: 'host-b', id: 'm' })).toMatchObject({
      refused: 'host-unfit',
      message: expect.stringContaining('gives x86-64-v2 (KVM AMD), the machine runs with x86-64-v3'),
    })
    for (const name of ['host-a', 'host-c']) bench.hosts.get(name)!.beating = false
    bench.round(40)
    expect(bench.placement('web')).toMatchObject({ host: 'host-b', cpu: { level: 2 } })
  })

  it('is what the VM asks for where a host has it, and no host takes it that has less', () => {
    const bench = cluster(1, 3, 2)
    create(bench, { cpu: 'x86-64-v3' }, null)
    expect(bench.placement('web')).toMatchObject({ host: 'host-b', cpu: { level: 3 } })
    expect(bench.command({ kind: 'vm-migrate', name: 'web', to: 'host-c', id: 'm' })).toMatchObject({
      refused: 'host-unfit',
      message: expect.stringContaining('at most x86-64-v2 (KVM AMD), the VM wants x86-64-v3'),
    })
  })
})
