import { expect, it } from 'vitest'
import { Bench } from './testing.ts'

it('a VM with more disks than its guest can address is refused, and leaves nothing', () => {
  const bench = Bench.cluster()
  const disk = { volume: 'csv1', sizeBytes: 2 ** 20 }
  const create = {
    kind: 'vm-create',
    name: 'two',
    spec: { hypervisor: 'model', guest: 'ledger', memoryBytes: 2 ** 26, parameters: {} },
    start: true,
    priority: 0,
    host: null,
  } as const
  expect(bench.command({ ...create, disks: [disk, disk] })).toMatchObject({
    refused: 'bad-machine',
    hint: 'give it one',
  })
  expect(bench.state.vms.has('two')).toBe(false)
  expect(bench.command({ ...create, disks: [disk] }).refused).toBeUndefined()
})

it('a real machine has up to eight disks, on any volumes, each made before it is placed and gone before it is', () => {
  const bench = Bench.cluster()
  for (const host of bench.hosts.values()) host.qemu = { why: null, cpu: { family: 'TCG', level: 2 } }
  bench.round()
  const disks = Array.from({ length: 8 }, () => ({ volume: 'csv1', sizeBytes: 2 ** 20 }))
  const create = {
    ...({ kind: 'vm-create', name: 'big', start: true, priority: 0, host: null } as const),
    spec: { hypervisor: 'qemu', guest: 'bios', memoryBytes: 2 ** 26, parameters: {} } as const,
  }
  expect(bench.command({ ...create, disks: [...disks, disks[0]!] })).toMatchObject({
    refused: 'bad-machine',
    hint: 'give it at most 8',
  })
  bench.holdBack = key => key === 'disk-create/big/big-7'
  expect(bench.command({ ...create, disks }).refused).toBeUndefined()
  bench.round(3)
  expect(bench.placement('big')).toBeNull()
  bench.holdBack = () => false
  bench.round(10)
  expect(bench.placement('big')).not.toBeNull()
  const started = bench.orders.find(
    order => order.message === 'vm.start' && (order.body as { vm: string }).vm === 'big',
  )
  const names = disks.map((_, n) => ({ disk: `big-${n}`, volume: 'csv1' }))
  expect(started?.body).toMatchObject({ vm: 'big', disks: names })
  bench.holdBack = key => key === 'disk-delete/big/big-3'
  bench.command({ kind: 'vm-delete', name: 'big' })
  bench.round(5)
  expect(bench.state.vms.get('big')?.disks.map(({ disk }) => disk)).toEqual(['big-3'])
  bench.holdBack = () => false
  bench.round(10)
  expect(bench.state.vms.has('big')).toBe(false)
})

it('a VM whose disk its volume’s owner refuses to make says why', () => {
  const bench = Bench.cluster()
  bench.holdBack = key => key.startsWith('disk-create/')
  bench.createVm('new')
  bench.round()
  const message = 'the volume has no room for more metadata'
  bench.input({ kind: 'unanswered', key: 'disk-create/new/new-0', code: 'metadata-full', message })
  bench.round()
  const whyNot = () => bench.state.liveVms.get('new')?.whyNot
  expect(whyNot()).toBe(`its disk new-0 is being made on volume csv1; the last attempt: ${message}`)
  bench.holdBack = () => false
  bench.round(10)
  expect(whyNot()).toBeNull()
  expect(bench.placement('new')).not.toBeNull()
})
