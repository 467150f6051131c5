import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { benchApi } from './testing/bench-coordinator.ts'

it('a check reaches the owner of a volume that is damaged, and nothing else does', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'api-'))
  const api = await benchApi(directory)
  try {
    api.bench.ownersSay = { state: 'damaged', why: 'the journal is blank' }
    api.bench.round(2)
    const report = { clean: false, findings: [], more: 0, summary: null }
    api.answer = () => report
    expect(await api.call('POST', '/v1/volumes/csv1/check')).toEqual({ status: 200, body: report })
    expect(await api.call('GET', '/v1/volumes/csv1/disks')).toMatchObject({ status: 503, body: { code: 'owner-away' } })
    api.bench.ownersSay = { state: 'opening' }
    api.bench.round(2)
    expect(await api.call('POST', '/v1/volumes/csv1/check')).toMatchObject({
      status: 503,
      body: { code: 'owner-away' },
    })
    expect(api.asked).toMatchObject([{ kind: 'volume.check' }])
  } finally {
    await api.close()
    rmSync(directory, { recursive: true })
  }
})
