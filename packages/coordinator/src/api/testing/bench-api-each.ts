// A bench behind the HTTP API for each test of a file. For tests only.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach } from 'vitest'
import { type BenchApi, benchApi } from './bench-coordinator.ts'

/** Gives the one of the test that runs. */
export function benchApiEach(): () => BenchApi {
  let directory = ''
  let api: BenchApi | null = null
  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'api-'))
    api = await benchApi(directory)
  })
  afterEach(async () => {
    await api?.close()
    rmSync(directory, { recursive: true })
  })
  return () => {
    if (api === null) throw new Error('there is one only while a test runs')
    return api
  }
}
