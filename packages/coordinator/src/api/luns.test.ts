// The LUNs of a storage through the API: whose each is; only one that no volume has is deleted, and only by its id.

import { beforeEach, expect, it } from 'vitest'
import { benchApiEach } from './testing/bench-api-each.ts'
import type { BenchApi } from './testing/bench-coordinator.ts'

const current = benchApiEach()
let api: BenchApi

const shown = (lun: string, id: string) => ({
  ...{ lun, id, sizeBytes: 2 ** 30, allocatedBytes: 4096, connections: 0, why: null },
  ...{ generation: 0, owner: 0, layout: null },
})
/** What is on the storage: the volume's own, and one that was left behind. */
const LUNS = [shown('csv1', 'v1'), shown('old', 'lost'), { ...shown('held', 'volume'), generation: 2 }]

beforeEach(() => {
  api = current()
  api.answer = (kind, body) => {
    const { lun } = body as { lun?: string }
    if (kind === 'storage.list-luns') return { luns: LUNS.filter(each => lun === undefined || each.lun === lun) }
    return {}
  }
})

const deleteLun = (lun: string, id: string) => api.call('DELETE', `/v1/storages/san-a/luns/${lun}?id=${id}`)
const deleted = () => api.asked.filter(({ kind }) => kind === 'storage.delete-lun')

it('are listed with the volume that has each, or none', async () => {
  expect(await api.call('GET', '/v1/storages/san-a/luns')).toMatchObject({
    status: 200,
    body: [
      { lun: 'csv1', id: 'v1', volume: 'csv1' },
      { lun: 'old', id: 'lost', used: false, volume: null },
      { lun: 'held', id: 'volume', used: true, volume: null },
    ],
  })
  expect(await api.call('GET', '/v1/storages/nobody/luns')).toMatchObject({ status: 404 })
})

it('one that no volume has is deleted', async () => {
  expect(await deleteLun('old', 'lost')).toMatchObject({ status: 200, body: { lun: 'old', id: 'lost' } })
  expect(deleted()).toEqual([{ to: 'san-a', kind: 'storage.delete-lun', body: { lun: 'old', id: 'lost' } }])
})

it.each([
  ['a volume’s', 'csv1', 'v1', 'lun-in-use', 409],
  ['another one of that name', 'old', 'v1', 'unknown-lun', 404],
  ['one that is not there', 'none', 'lost', 'unknown-lun', 404],
])('%s is not', async (_, lun, id, code, status) => {
  expect(await deleteLun(lun, id)).toMatchObject({ status, body: { code } })
  expect(deleted()).toEqual([])
})

it('nor a former leg’s, which is to be deleted by itself', async () => {
  const volume = api.bench.state.volumes.get('csv1')!
  const retired = [{ storage: 'san-a', lun: 'old', id: 'lost' }]
  api.bench.state.volumes.set('csv1', { ...volume, retired })
  expect(await deleteLun('old', 'lost')).toMatchObject({ status: 409, body: { code: 'lun-in-use' } })
  expect(deleted()).toEqual([])
})

it('nor, unless that is said, one that held a volume, which this cluster may have forgotten', async () => {
  expect(await deleteLun('held', 'volume')).toMatchObject({ status: 409, body: { code: 'lun-used' } })
  expect(deleted()).toEqual([])
  expect(await deleteLun('held', 'volume&force=true')).toMatchObject({ status: 200 })
  expect(deleted()).toHaveLength(1)
})

it('nor any of a restored volume of which it is not known yet which legs count', async () => {
  const volume = api.bench.state.volumes.get('csv1')!
  api.bench.state.volumes.set('csv1', { ...volume, unsure: true })
  LUNS.push({ ...shown('csv1', 'v1-leg-2'), generation: 3 })
  expect(await deleteLun('csv1', 'v1-leg-2&force=true')).toMatchObject({ status: 409, body: { code: 'lun-in-use' } })
  LUNS.pop()
  expect(deleted()).toEqual([])
})

it('an NBD server has none', async () => {
  const nas = { ...api.bench.state.storages.get('san-a')!, name: 'nas', external: { exports: [] } }
  api.bench.state.storages.set('nas', nas)
  expect(await api.call('GET', '/v1/storages/nas/luns')).toMatchObject({ status: 409, body: { code: 'not-embedded' } })
})
