// docs/VOLUME-FORMAT.md and the code say the same.

import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { CHECKPOINT_MAGIC } from './checkpoint.ts'
import { CLUSTER_COPY_MAGIC } from './cluster-copy.ts'
import { ENTRY_TYPES } from './entries.ts'
import { RECORD_MAGIC } from './journal.ts'
import {
  AREAS_OFFSET,
  BLOCK_BYTES,
  CHECKPOINT,
  CHECKPOINT_HEADER_BYTES,
  CLUSTER_COPY,
  CLUSTER_COPY_HEADER_BYTES,
  type Field,
  INTENT_BLOCKS,
  INTENT_SECTOR,
  INTENT_SECTORS,
  RECORD,
  RECORD_HEADER_BYTES,
  SECTOR_BYTES,
  SLOT_HEADER,
  SLOT_INTENT_OFFSET,
  SLOT_STALE_OFFSET,
  STALE_BITS_PER_SECTOR,
  STALE_SECTOR,
  SUPERBLOCK,
  SUPERBLOCK_OFFSETS,
  structBytes,
} from './layout.ts'
import { INTENT_MAGIC, SLOT_MAGIC, STALE_MAGIC } from './slot.ts'
import { SUPERBLOCK_MAGIC } from './superblock.ts'

const text = readFileSync(new URL('../../../../docs/VOLUME-FORMAT.md', import.meta.url), 'utf8')

function section(title: string): string {
  const start = text.search(new RegExp(`^#+ ${title}$`, 'm'))
  expect(start, `a section ${title}`).toBeGreaterThanOrEqual(0)
  const rest = text.slice(start).replace(/^#+ .*\n/, '')
  const end = rest.search(/^#/m)
  return end < 0 ? rest : rest.slice(0, end)
}

const STRUCTURES: readonly (readonly [string, Readonly<Record<string, Field>>, number])[] = [
  ['Superblock', SUPERBLOCK, BLOCK_BYTES],
  ['Checkpoint', CHECKPOINT, CHECKPOINT_HEADER_BYTES],
  ['Journal', RECORD, RECORD_HEADER_BYTES],
  ['Cluster copy', CLUSTER_COPY, CLUSTER_COPY_HEADER_BYTES],
  ['Slot header', SLOT_HEADER, SECTOR_BYTES],
  ['Intent sector', INTENT_SECTOR, SECTOR_BYTES],
  ['Stale sector', STALE_SECTOR, SECTOR_BYTES],
]

describe('docs/VOLUME-FORMAT.md', () => {
  it.each(STRUCTURES)('%s: every field at its offset', (title, struct, bytes) => {
    const rows = [...section(title).matchAll(/^\| (\d+) \| (\d+) \| `(\w+)` \|/gm)]
    const documented = rows.map(([, offset, length, name]) => [
      name,
      { offset: Number(offset), length: Number(length) },
    ])
    expect(Object.fromEntries(documented)).toEqual(struct)
    expect(structBytes(struct)).toBe(bytes)
  })

  it.each([
    ['Superblock', SUPERBLOCK_MAGIC],
    ['Checkpoint', CHECKPOINT_MAGIC],
    ['Journal', RECORD_MAGIC],
    ['Cluster copy', CLUSTER_COPY_MAGIC],
    ['Slot header', SLOT_MAGIC],
    ['Intent sector', INTENT_MAGIC],
    ['Stale sector', STALE_MAGIC],
  ])('%s: its magic', (title, magic) => {
    const bytes = Buffer.alloc(4)
    bytes.writeUInt32LE(magic)
    expect(section(title)).toContain(`\`magic\` | \`${bytes.toString('latin1')}\` |`)
  })

  it('every journal entry by its number', () => {
    const rows = [...section('Journal').matchAll(/^\| (\d+) \| `([\w-]+)` \| [^|]+ \|$/gm)]
    expect(Object.fromEntries(rows.map(([, number, name]) => [name, Number(number)]))).toEqual(ENTRY_TYPES)
  })

  it('the fixed places', () => {
    const areas = section('Areas')
    expect([...areas.matchAll(/superblock, \w+ copy \| (\d+) /g)].map(row => Number(row[1]))).toEqual([
      ...SUPERBLOCK_OFFSETS,
    ])
    expect(areas).toContain(`\`checkpointOffset\` (${AREAS_OFFSET})`)
    const slots = [...section('Slots').matchAll(/^\| (\d+) \| (\d*) ?\| /gm)].map(([, offset, length]) => [
      offset,
      length,
    ])
    expect(slots).toEqual([
      ['0', String(BLOCK_BYTES)],
      [String(SLOT_INTENT_OFFSET), String(INTENT_BLOCKS * BLOCK_BYTES)],
      [String(SLOT_STALE_OFFSET), ''],
    ])
    expect(section('Slots')).toContain(`${INTENT_SECTORS} intent sectors`)
    expect(section('Stale sector')).toContain(`${STALE_BITS_PER_SECTOR.toLocaleString('en-US')} regions`)
  })
})
