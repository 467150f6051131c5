// What is asked of a running guest by the API: passed to the host that has it, or refused by what it lacks.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type BenchApi, benchApi } from './testing/bench-coordinator.ts'

let directory: string
let api: BenchApi

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'api-'))
  api = await benchApi(directory)
})

afterEach(async () => {
  await api.close()
  rmSync(directory, { recursive: true })
})

describe('a line for a guest', () => {
  const input = () => api.call('POST', '/v1/vms/web/input', { line: 'status' })

  it('is refused where the VM is stopped, or has no place yet, each by what it lacks', async () => {
    await api.call('POST', '/v1/vms/web/stop')
    api.bench.round(3)
    expect((await input()).body).toMatchObject({ code: 'not-running', hint: 'start it: stellwerk vm start web' })
    for (const host of api.bench.hosts.values()) host.beating = false
    api.bench.round(8)
    await api.call('POST', '/v1/vms/web/start', {})
    expect((await input()).body).toMatchObject({ code: 'not-placed', hint: 'see why: stellwerk why vm web' })
  })
})
