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
