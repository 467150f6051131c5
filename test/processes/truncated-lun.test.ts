// A LUN whose files were cut short under a cluster that was down: its storage serves it no more, and the reason reaches whoever asks.

import { readdirSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import type { Status } from '@stellwerk/coordinator/view/schemas.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { afterAll, expect, test } from 'vitest'
import { interrupt, Stellwerk } from './stellwerk.ts'

const LONG = 240_000
const CUT = /lun-failed LUN csv1: the LUN's data has 1048576 bytes/
const stellwerk = new Stellwerk('truncated')

afterAll(() => stellwerk.remove())

const volume = async (): Promise<Status['volumes'][string] | undefined> => {
  const { lines } = await stellwerk.run('status', '--json')
  return (JSON.parse(lines.join('\n')) as Status).volumes['csv1']
}

function truncate(storage: string): void {
  const luns = join(stellwerk.state, storage, 'luns')
  const [file = ''] = readdirSync(luns).filter(name => name.endsWith('.data'))
  truncateSync(join(luns, file), MIB)
}

test('of one leg: the other serves, and it is not resynced again and again', { timeout: LONG }, async () => {
  const first = stellwerk.start('up', '--hosts', '2')
  await first.said(/^up after/)
  await interrupt(first)
  truncate('san-b')
  const up = stellwerk.start('up')
  await up.said(/^up after/)
  expect(up.lines.filter(line => line.startsWith('missing: '))).toEqual([])
  const stale = { state: 'serving', legs: [{ role: 'in-sync' }, { role: 'stale', why: expect.stringMatching(CUT) }] }
  await expect.poll(volume, { timeout: 60_000 }).toMatchObject(stale)
  const generation = (await volume())?.generation
  await new Promise(resolve => setTimeout(resolve, 12_000))
  expect((await volume())?.generation).toBe(generation)
  await interrupt(up)
})

test('of all legs: up says why its volume is not served, and its owner keeps it', { timeout: LONG }, async () => {
  truncate('san-a')
  const up = stellwerk.start('up')
  await up.said(/^up after/)
  const missing = up.lines.filter(line => line.startsWith('missing: '))
  expect(missing).toEqual([expect.stringMatching(/^missing: volume csv1 is damaged: san-a: lun-failed LUN csv1: /)])
  const before = await volume()
  expect(before).toMatchObject({ state: 'damaged', whyNot: expect.stringMatching(CUT) })
  expect((await stellwerk.run('status')).lines.join('\n')).toMatch(/1 storage NO/)
  await new Promise(resolve => setTimeout(resolve, 15_000))
  expect((await volume())?.owner).toEqual(before?.owner)
  await interrupt(up)
})
