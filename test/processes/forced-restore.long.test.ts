// The coordinator's directory and one storage of a mirror are lost for good: the cluster is restored from the leg that is left, which
// an operator then forces, and the guests come back with every entry that they were told was durable.

import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { interrupt, Stellwerk } from './stellwerk.ts'

const stellwerk = new Stellwerk('forced-restore')
const { state } = stellwerk
const LONG = 240_000

interface Status {
  readonly vms: { readonly [name: string]: { readonly state: string } }
  readonly volumes: { readonly [name: string]: { readonly state: string } }
}

afterAll(async () => {
  await stellwerk.remove()
})

describe('a coordinator and a storage that are lost together', () => {
  it('the copy is taken from the leg that is left only where an operator says that the other one is lost', {
    timeout: LONG,
  }, async () => {
    const up = stellwerk.start('up', '--guests', '--hosts', '2', '--profile', 'production')
    await up.said(/^up after/)
    await new Promise(resolve => setTimeout(resolve, 3_000))
    await interrupt(up)
    rmSync(join(state, 'coordinator'), { recursive: true })
    for (const name of readdirSync(join(state, 'san-b', 'luns'))) {
      if (name.endsWith('.data')) rmSync(join(state, 'san-b', 'luns', name))
    }
    expect(await stellwerk.run('cluster', 'restore', 'csv1')).toEqual({
      code: 1,
      lines: [expect.stringMatching(/the LUN's data file is gone from san-b .*--without-leg STORAGE$/)],
    })
    expect((await stellwerk.run('cluster', 'restore', 'csv1', '--without-leg', 'san-b')).code).toBe(0)
    for (const name of ['coordinator', 'san-b']) rmSync(join(state, name), { recursive: true })
    expect(await stellwerk.run('cluster', 'restore', 'csv1')).toEqual({
      code: 1,
      lines: [expect.stringMatching(/leg-1 of volume "csv1" is not here .*--without-leg STORAGE$/)],
    })
    expect(await stellwerk.run('cluster', 'restore', 'csv1', '--without-leg', 'san-c')).toEqual({
      code: 1,
      lines: [expect.stringMatching(/no storage "san-c" .*known: san-a, san-b$/)],
    })
    expect(await stellwerk.run('cluster', 'restore', 'csv1', '--without-leg', 'san-a')).toMatchObject({ code: 1 })
    expect(await stellwerk.run('cluster', 'restore', 'csv1', '--without-leg', 'san-b')).toEqual({
      code: 0,
      lines: [expect.stringMatching(/^restored 3 VMs, 1 volumes, 2 hosts; start it/)],
    })
  })

  it('nothing starts before the leg that is left is forced, and everything does then', { timeout: LONG }, async () => {
    const up = stellwerk.start('up')
    const force = () => stellwerk.run('volume', 'resync', 'csv1', '--force-stale', 'san-a')
    const isRefused = async (...words: string[]) => (await stellwerk.run(...words)).lines.at(-1)
    await expect
      .poll(() => isRefused('volume', 'mirror', 'csv1', '--remove', 'san-b'), { timeout: 60_000 })
      .toMatch(/it is not known yet which legs of volume "csv1" count: san-b has not answered.*--force-stale san-a$/)
    expect(await isRefused('volume', 'resync', 'csv1', '--force-stale', 'san-b')).toMatch(/san-b has not told yet/)
    await expect.poll(async () => (await force()).code, { timeout: 60_000 }).toBe(0)
    for (const vm of ['ledger-1', 'ledger-2', 'ledger-3']) {
      await up.said(new RegExp(`${vm} on host-. says: recovered [1-9]\\d* intact`))
    }
    expect((await stellwerk.json<Status>('status')).volumes['csv1']?.state).toBe('serving')
    // The storage is there again, blank: its leg is taken away and made anew.
    expect((await stellwerk.run('volume', 'mirror', 'csv1', '--remove', 'san-b')).code).toBe(0)
    await expect
      .poll(async () => (await stellwerk.run('volume', 'mirror', 'csv1', '--to', 'san-b')).code, { timeout: 60_000 })
      .toBe(0)
    const legs = async () => (await stellwerk.run('volume', 'show', 'csv1')).lines.join(' ')
    await expect.poll(legs, { timeout: 120_000 }).not.toMatch(/stale|syncing/)
    await interrupt(up)
    const check = await stellwerk.run('volume', 'check', 'csv1')
    expect([check.code, check.lines.at(-1)]).toEqual([0, 'csv1 is sound'])
  })
})
