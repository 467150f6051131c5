// `stellwerk volume check NAME --scrub` as an operator types it, against real processes one of whose files has rotted.

import { closeSync, openSync, readdirSync, readSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { extentAddress, type Layout, SUPERBLOCK_OFFSETS } from '@stellwerk/csv/format/layout.ts'
import { decodeSuperblock } from '@stellwerk/csv/format/superblock.ts'
import { afterAll, describe, expect, it } from 'vitest'
import { Stellwerk } from './stellwerk.ts'

const stellwerk = new Stellwerk('scrub')
const LONG = 240_000
const SECTOR = 512

afterAll(async () => {
  await stellwerk.remove()
})

/** Of the volume's leg on that storage, which goes on serving it. */
function rot(storage: string, places: (layout: Layout) => number[]): void {
  const luns = join(stellwerk.state, storage, 'luns')
  const name = readdirSync(luns).find(file => file.endsWith('.data'))
  const file = openSync(join(luns, name ?? ''), 'r+')
  const bytes = Buffer.alloc(4096)
  readSync(file, bytes, 0, bytes.length, 0)
  const superblock = decodeSuperblock(bytes, 0)
  if (typeof superblock === 'string') throw new Error(`the superblock is ${superblock}`)
  for (const offset of places(superblock.layout)) writeSync(file, Buffer.alloc(SECTOR, 0xee), 0, SECTOR, offset)
  closeSync(file)
}

describe('stellwerk volume check --scrub', () => {
  it('compares, repairs what a checksum decides, asks about the rest, and is told', { timeout: LONG }, async () => {
    const up = stellwerk.start('up', '--guests', '--hosts', '2', '--profile', 'production')
    await up.said(/^up after/)
    const scrub = (...more: string[]) => stellwerk.run('volume', 'check', 'csv1', '--scrub', ...more)
    const sound = await scrub()
    expect(sound.lines).toContainEqual(
      expect.stringMatching(/^csv1: .* compared on leg-0 and leg-1: 0 repaired, 0 undecided, 0 not compared$/),
    )
    expect(sound).toMatchObject({ code: 0, lines: expect.arrayContaining(['csv1 is sound']) })

    // The ends of extents, where a ledger does not come.
    rot('san-b', layout => [
      SUPERBLOCK_OFFSETS[1],
      ...Array.from({ length: 6 }, (_, i) => extentAddress(layout, i + 1) - SECTOR),
    ])
    const found = await scrub()
    expect(found.code).toBe(1)
    expect(found.lines).toContainEqual(
      expect.stringMatching(/^repaired: superblock at 65536, 4096 bytes .*leg-1 written anew from leg-1: its checksum/),
    )
    expect(found.lines).toContainEqual(
      expect.stringMatching(
        /^UNDECIDED: disk ledger-.*, 4096 bytes at \d+ \(\d+ on the LUN\): leg-0 and leg-1 differ$/,
      ),
    )
    expect(found.lines).toContainEqual(expect.stringMatching(/--scrub --good-leg LEG/))
    const status = await stellwerk.run('status')
    expect(status.lines).toContainEqual(expect.stringMatching(/csv1 .*its scrub left \d+ places undecided/))
    expect((await scrub('--last')).lines).toEqual(found.lines.slice(0, -2))
    expect(await scrub('--good-leg', 'nope')).toEqual({
      code: 1,
      lines: [expect.stringMatching(/volume "csv1" has no leg "nope".*leg-0 \(san-a\), leg-1 \(san-b\)/)],
    })

    const decided = await scrub('--good-leg', 'san-a', '--json')
    expect(decided.code).toBe(0)
    const { repaired, findings } = JSON.parse(decided.lines[0] ?? '').scrub
    expect(repaired).toBe(findings.length)
    expect(findings[0]).toMatchObject({ repaired: { leg: 'leg-1', from: 'leg-0', by: 'operator' } })
    expect((await scrub()).code).toBe(0)
    expect((await stellwerk.run('volume', 'show', 'csv1')).lines).toContainEqual(
      expect.stringMatching(/^scrub +done .*: 0 rep/),
    )
    expect((await stellwerk.run('events')).lines).toContainEqual(expect.stringMatching(/csv1: a scrub is done/))
    expect((await stellwerk.run('volume', 'check', 'nope', '--scrub')).lines).toEqual([
      expect.stringMatching(/there is no volume "nope"/),
    ])
    up.process.kill('SIGINT')
    expect(await up.ended).toEqual({ code: 0, signal: null })
  })
})
