// Settings are found in snapshots as a coordinator records them.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Bench } from '@stellwerk/coordinator/core/testing.ts'
import { COORDINATOR_CORE } from '@stellwerk/coordinator/replay/replay.ts'
import { snapshotOf } from '@stellwerk/coordinator/snapshot.ts'
import { PROFILES } from '@stellwerk/protocol/settings.ts'
import type { Json } from '@stellwerk/runtime/environment.ts'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { settingsAt } from './cluster-settings.ts'
import { openTrace } from './source.ts'
import { record, START_MS, writeSegment } from './testing/segments.ts'

let root = ''
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'stellwerk-settings-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

const snapshot = (seq: number, value: Json) =>
  record('coordinator', seq, { level: 'message', kind: 'core.snapshot', body: { core: COORDINATOR_CORE, value } })
const tooLarge = (seq: number) => record('coordinator', seq, { level: 'message', kind: 'core.snapshot' })

it('of a real coordinator: those before the time asked for, else the first', async () => {
  const { state } = new Bench()
  const first = snapshotOf(state)
  const later = snapshotOf({ ...state, cluster: { ...state.cluster, settings: PROFILES.production } })
  writeSegment(root, 'coordinator', [tooLarge(1), snapshot(2, first), snapshot(10, later), tooLarge(11)])
  const source = await openTrace('', [root])
  expect((await settingsAt(source, START_MS))?.leaseMs).toBe(PROFILES.lab.leaseMs)
  expect((await settingsAt(source, START_MS + 9))?.leaseMs).toBe(PROFILES.lab.leaseMs)
  expect((await settingsAt(source, START_MS + 10))?.leaseMs).toBe(PROFILES.production.leaseMs)
})

it('none, where no snapshot has what is asked of them', async () => {
  writeSegment(root, 'coordinator', [
    tooLarge(1),
    snapshot(2, { cluster: { settings: PROFILES.lab as unknown as Json } }),
  ])
  expect(await settingsAt(await openTrace('', [root]), START_MS)).toBeNull()
})
