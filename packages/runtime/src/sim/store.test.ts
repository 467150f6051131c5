// Simulated stores: commits that are one step, whatever dies around them.

import { expect, test } from 'vitest'
import { type CommitPoint, Simulation } from './simulation.ts'
import { filled, withFiles } from './test-support.ts'

test('survive crashes, list by prefix in order, and hand out values nobody can change', async () => {
  const sim = new Simulation({ seed: 1 })
  const mine = { list: [1, 2] }
  await withFiles(async env => {
    env.store.commit([
      { put: 'vm/b', value: mine },
      { put: 'vm/a', value: 1 },
      { put: 'vn', value: 2 },
      { put: 'gone', value: 0 },
    ])
    env.store.commit([{ delete: 'gone' }])
    mine.list.push(3)
  }, sim)
  sim.host('a').crash({ unsynced: 'lost' })
  sim.host('a').powerOn()
  const { done } = await withFiles(async env => {
    expect(env.store.entries('vm/')).toEqual([
      ['vm/a', 1],
      ['vm/b', { list: [1, 2] }],
    ])
    expect(env.store.get('gone')).toBe(undefined)
    const value = env.store.get('vm/b') as { list: number[] }
    expect(() => value.list.push(9)).toThrow(TypeError)
    expect(() =>
      env.store.commit([
        { put: 'x', value: 1 },
        { put: 'y', value: undefined as never },
      ]),
    ).toThrow('y')
    expect(env.store.get('x')).toBe(undefined)
  }, sim)
  expect(done).toBe(true)
})

test('a crash right before a commit leaves nothing of it, right after all of it', async () => {
  for (const stage of ['before', 'after'] as const) {
    for (const blow of ['process', 'power'] as const) {
      const sim = new Simulation({ seed: 1 })
      sim.onCommit((point: CommitPoint) => {
        if (point.stage !== stage || !point.keys.includes('b')) return
        if (blow === 'process') point.process.kill()
        else point.process.host.crash()
      })
      const { process } = await withFiles(async env => {
        env.store.commit([{ put: 'a', value: 1 }])
        env.store.commit([{ put: 'b', value: 1 }, { delete: 'a' }])
        env.store.commit([{ put: 'c', value: 1 }])
      }, sim)
      expect(process.alive).toBe(false)
      const keys = sim
        .host('a')
        .disk.directory('a/p')
        .store.withPrefix('')
        .map(([key]) => key)
      expect(keys).toEqual(stage === 'before' ? ['a'] : ['b'])
    }
  }
})

test('a commit on a full disk throws and changes nothing', async () => {
  const { done } = await withFiles(async (env, sim) => {
    const fault = sim.host('a').disk.fault({ operation: 'commit', verdict: 'ENOSPC' })
    expect(() => env.store.commit([{ put: 'a', value: 1 }])).toThrow('ENOSPC')
    expect(env.store.get('a')).toBe(undefined)
    fault.heal()
    env.store.commit([{ put: 'a', value: 2 }])
    expect(env.store.get('a')).toBe(2)
  })
  expect(done).toBe(true)
})

test('a directory can be rolled back to an older copy', async () => {
  const sim = new Simulation({ seed: 1 })
  const write = (value: number) =>
    withFiles(async env => {
      env.store.commit([{ put: 'term', value }])
      await env.files.writeAtomic('state', filled(100, value))
    }, sim)
  const first = await write(1)
  const copy = first.disk.snapshot('a/p')
  first.process.kill()
  const second = await write(2)
  expect(() => second.disk.restore('a/p', copy)).toThrow('not running')
  second.process.kill()
  second.disk.restore('a/p', copy)
  const { done } = await withFiles(async env => {
    expect(env.store.get('term')).toBe(1)
    expect(await env.files.read('state')).toEqual(filled(100, 1))
  }, sim)
  expect(done).toBe(true)
})
