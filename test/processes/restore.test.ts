// The coordinator's directory is lost: `stellwerk cluster restore` makes its state anew from the copy on a volume, and the
// cluster comes back with the guests that it had, none of whose entries is missing.

import { cpSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { interrupt, Stellwerk } from './stellwerk.ts'

const stellwerk = new Stellwerk('restore')
const { state } = stellwerk
const LONG = 240_000

interface Status {
  readonly vms: { readonly [name: string]: { readonly state: string; readonly epoch: number } }
  readonly volumes: { readonly [name: string]: { readonly state: string } }
}

afterAll(async () => {
  await stellwerk.remove()
})

describe('stellwerk cluster restore', () => {
  let before: Status | null = null

  it('is refused while there is a state, or a cluster that runs', { timeout: LONG }, async () => {
    const up = stellwerk.start('up', '--guests', '--hosts', '2', '--profile', 'production')
    await up.said(/^up after/)
    // So that the copy on the volume has what was last decided.
    await new Promise(resolve => setTimeout(resolve, 3_000))
    before = await stellwerk.json<Status>('status')
    expect(Object.keys(before.vms)).toEqual(['ledger-1', 'ledger-2', 'ledger-3'])
    expect((await stellwerk.run('cluster', 'restore', 'csv1')).lines).toEqual([
      expect.stringMatching(/is open: the cluster runs/),
    ])
    await interrupt(up)
    const refused = await stellwerk.run('cluster', 'restore', 'csv1')
    expect(refused).toEqual({ code: 1, lines: [expect.stringMatching(/the coordinator has a state/)] })
  })

  it('brings back every VM with its ledger whole', { timeout: LONG }, async () => {
    renameSync(join(state, 'coordinator'), join(state, 'coordinator-lost'))
    for (const words of [['up'], ['up', '--detach']]) {
      expect(await stellwerk.run(...words)).toEqual({
        code: 1,
        lines: [
          expect.stringMatching(/^stellwerk: the coordinator's state is gone, .* npx stellwerk cluster restore csv1$/),
        ],
      })
    }
    // As a restore leaves it that is killed.
    mkdirSync(join(state, 'coordinator'))
    for (const suffix of ['', '-wal']) writeFileSync(join(state, 'coordinator', `state.new.sqlite${suffix}`), 'half')
    expect(await stellwerk.run('up')).toMatchObject({ code: 1, lines: [expect.stringMatching(/state is gone/)] })
    expect(await stellwerk.run('cluster', 'restore', 'nobody')).toMatchObject({ code: 1 })
    const restored = await stellwerk.run('cluster', 'restore', 'csv1')
    expect(restored).toEqual({
      code: 0,
      lines: [expect.stringMatching(/^restored 3 VMs, 1 volumes, 2 hosts; start it/)],
    })
    expect(readdirSync(join(state, 'coordinator'))).toEqual(['state.sqlite'])
    const up = stellwerk.start('up')
    await up.said(/^up after/)
    for (const vm of Object.keys(before?.vms ?? {})) {
      await up.said(new RegExp(`${vm} on host-. says: recovered [1-9]\\d* intact`))
    }
    const status = await stellwerk.json<Status>('status')
    for (const [name, vm] of Object.entries(before?.vms ?? {})) {
      expect(status.vms[name]?.state).toBe('running')
      expect(status.vms[name]?.epoch).toBeGreaterThan(vm.epoch + 900)
    }
    expect(status.volumes['csv1']?.state).toBe('serving')
    await interrupt(up)
    const check = await stellwerk.run('volume', 'check', 'csv1')
    expect([check.code, check.lines.at(-1)]).toEqual([0, 'csv1 is sound'])
  })
})

describe('a coordinator’s directory that is older than the cluster', () => {
  it('by less than a run, copied while it ran, is noticed too, and the newest is taken again', {
    timeout: LONG,
  }, async () => {
    const directory = join(state, 'coordinator')
    const copy = join(state, 'coordinator-copy')
    const up = stellwerk.start('up')
    await up.said(/^up after/)
    cpSync(directory, copy, { recursive: true })
    expect((await stellwerk.run('vm', 'create', 'meanwhile', '--memory', '4MiB', '--guest', 'ledger')).code).toBe(0)
    const running = async () => (await stellwerk.json<Status>('status')).vms['meanwhile']?.state
    await expect.poll(running, { timeout: 60_000 }).toBe('running')
    await interrupt(up)
    renameSync(directory, join(state, 'coordinator-newer'))
    renameSync(copy, directory)
    for (const words of [['up'], ['up', '--detach']]) {
      const { code, lines } = await stellwerk.run(...words)
      expect([words, code, lines.at(-1)]).toEqual([
        words,
        1,
        expect.stringMatching(/^stellwerk: the coordinator's state is older than the cluster/),
      ])
    }
    rmSync(directory, { recursive: true })
    renameSync(join(state, 'coordinator-newer'), directory)
    const again = stellwerk.start('up')
    await again.said(/^up after/)
    await expect.poll(running, { timeout: 60_000 }).toBe('running')
    expect((await stellwerk.run('vm', 'delete', 'meanwhile')).code).toBe(0)
    await interrupt(again)
  })

  it('by a single run is noticed: what was made in that run is not forgotten', { timeout: LONG }, async () => {
    const directory = join(state, 'coordinator')
    const older = join(state, 'coordinator-older')
    cpSync(directory, older, { recursive: true })
    const up = stellwerk.start('up')
    await up.said(/^up after/)
    expect((await stellwerk.run('vm', 'create', 'late', '--memory', '4MiB', '--guest', 'ledger')).code).toBe(0)
    await interrupt(up)
    renameSync(directory, join(state, 'coordinator-newer'))
    cpSync(older, directory, { recursive: true })
    const { code, lines } = await stellwerk.run('up')
    expect(code).toBe(1)
    expect(lines.at(-1)).toMatch(/^stellwerk: the coordinator's state is older than the cluster/)
    rmSync(directory, { recursive: true })
    renameSync(join(state, 'coordinator-newer'), directory)
    const again = stellwerk.start('up')
    await again.said(/^up after/)
    expect(Object.keys((await stellwerk.json<Status>('status')).vms)).toContain('late')
    await interrupt(again)
  })
})
