// A storage is looked at before a volume gets a leg there: what is in the way is refused in a line, and nothing has changed.

import { lunId } from '@stellwerk/protocol/lun-id.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { beforeEach, expect, it } from 'vitest'
import { nextLeg } from '../core/leg-commands.ts'
import { benchApiEach } from './testing/bench-api-each.ts'
import type { BenchApi } from './testing/bench-coordinator.ts'

const current = benchApiEach()
let api: BenchApi

beforeEach(() => {
  api = current()
})

const legs = () => api.bench.state.volumes.get('csv1')!.legs.map(({ storage }) => storage)
const unmirror = () => {
  api.bench.command({ kind: 'volume-unmirror', name: 'csv1', leg: 'san-b' })
  api.bench.round(4)
  expect(legs()).toEqual(['san-a'])
}
const mirror = () => api.call('POST', '/v1/volumes/csv1/mirror', { storage: 'san-b' })
const durable = () => JSON.stringify([...api.bench.store.values])

it('a mirror onto a storage that has another LUN of that name', async () => {
  unmirror()
  const before = durable()
  api.answer = () => ({ luns: [{ lun: 'csv1', id: 'somebody-elses' }] })
  expect(await mirror()).toMatchObject({ status: 409, body: { code: 'lun-exists' } })
  expect(api.asked).toEqual([{ to: 'san-b', kind: 'storage.list-luns', body: { lun: 'csv1' } }])
  expect(durable()).toBe(before)
})

it('a new volume likewise', async () => {
  const before = durable()
  api.answer = () => ({ luns: [{ lun: 'csv2', id: 'somebody-elses' }] })
  const body = { name: 'csv2', sizeBytes: 2 ** 30, storages: ['san-a'] }
  expect(await api.call('POST', '/v1/volumes', body)).toMatchObject({ status: 409, body: { code: 'lun-exists' } })
  expect(durable()).toBe(before)
})

it('but not one that is the new leg’s own, made when the answer was lost', async () => {
  unmirror()
  const volume = api.bench.state.volumes.get('csv1')!
  const id = lunId(volume, { leg: nextLeg(volume) })
  api.answer = () => ({ luns: [{ lun: 'csv1', id }] })
  expect(await mirror()).toMatchObject({ status: 200, body: { storage: 'san-b' } })
})

it('nor one that does not answer now: it makes the LUN when it is back', async () => {
  unmirror()
  api.answer = () => {
    throw new StellwerkError('deadline', 'no answer', { retryable: true })
  }
  expect(await mirror()).toMatchObject({ status: 200 })
  expect(legs()).toEqual(['san-a', 'san-b'])
})
