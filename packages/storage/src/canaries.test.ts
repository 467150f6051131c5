// Each planted bug breaks the rule it is there for, in a simulation, and nothing breaks it without the bug.

import { canaries } from '@stellwerk/runtime/canary.ts'
import { afterEach, describe, expect, it } from 'vitest'
import { filled, IO, SimStorage, slowWrites } from './testing/sim-storage.ts'

afterEach(() => canaries.clear())

describe('planted bugs are seen', () => {
  /** Applied records of the fenced epoch, or of a lower session, after the record that forbids them: what IO3 forbids. */
  async function appliedAfter(
    canary: string,
    forbid: (storage: SimStorage) => Promise<unknown>,
    kind: string,
  ): Promise<number> {
    canaries.add(canary)
    const storage = new SimStorage()
    let late = 0
    await storage.run(async () => {
      await storage.setUp(['a', 'b'])
      const client = await storage.connectAs('a', { owner: 1 })
      await client.write(0, [filled(65536, 1)], {}, IO)
      slowWrites(storage)
      const write = client.write(0, [filled(512, 2)], {}, IO).catch(() => undefined)
      await storage.sleep(20)
      const from = storage.records.length
      await forbid(storage)
      await write
      await storage.sleep(1_000)
      const after = storage.records.slice(from)
      late = after
        .slice(after.findIndex(record => record.kind === kind))
        .filter(record => record.kind === 'storage.applied').length
    })
    canaries.clear()
    return late
  }
  const fence = (storage: SimStorage) => storage.order('storage.fence', { host: 'a', epoch: 1, term: 1 })
  const session = (storage: SimStorage) => storage.connectAs('a', { session: [1, 1], owner: 1 })
  const owner = (storage: SimStorage) => storage.connectAs('b', { owner: 2 })

  it.each([
    ['fence-before-drain', fence, 'storage.fenced'],
    ['session-not-drained', session, 'storage.session'],
    ['owner-not-refused', owner, 'storage.owner'],
  ] as const)('%s', async (canary, forbid, kind) => {
    expect(await appliedAfter(canary, forbid, kind)).toBeGreaterThan(0)
    expect(await appliedAfter('none', forbid, kind)).toBe(0)
  })

  it('epoch-not-checked', async () => {
    canaries.add('epoch-not-checked')
    const storage = new SimStorage()
    await storage.run(async () => {
      await storage.setUp(['a'])
      await storage.order('storage.fence', { host: 'a', epoch: 1, term: 1 })
      await (await storage.connectAs('a')).write(0, [filled(512, 2)], {}, IO)
    })
    const kinds = storage.records.map(({ kind }) => kind)
    expect(kinds.lastIndexOf('storage.applied')).toBeGreaterThan(kinds.indexOf('storage.fenced'))
  })
})
