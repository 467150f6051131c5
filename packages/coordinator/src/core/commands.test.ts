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
