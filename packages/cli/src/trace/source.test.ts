// Where a trace comes from: found wherever it was copied to, and refused in one line where it is no one trace.

import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openTrace } from './source.ts'
import { record, segmentOf, writeSegment } from './testing/segments.ts'

let root = ''
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'stellwerk-trace-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

const at = (wallMs: number) => ({ hlc: { wallMs, counter: 0 } })
const seqs = async (from: readonly string[], names?: readonly string[]) => {
  const source = await openTrace('/nowhere', from)
  const records = await Array.fromAsync(source.records({}, names))
  return records.map(each => `${each.process} ${each.seq}`)
}

test('traces of several machines are found below any directory and merged by time', async () => {
  writeSegment(join(root, 'machine-1'), 'coordinator', [
    record('coordinator', 1, at(10)),
    record('coordinator', 2, at(30)),
  ])
  writeSegment(join(root, 'machine-2'), 'host-a/agent', [record('host-a/agent', 1, at(20))])
  expect(await seqs([root])).toEqual(['coordinator 1', 'host-a/agent 1', 'coordinator 2'])
  expect(await seqs([join(root, 'machine-2'), join(root, 'machine-1')])).toHaveLength(3)
  expect(await seqs([root], ['host-a/agent'])).toEqual(['host-a/agent 1'])
})

test('segments with other names are put in order by what they hold, and what lies there twice is read once', async () => {
  const early = segmentOf([record('coordinator', 1, at(10)), record('coordinator', 2, at(20))], 'coordinator')
  const late = segmentOf([record('coordinator', 3, at(30))], 'coordinator')
  writeFileSync(join(root, 'z.trace'), early)
  writeFileSync(join(root, 'a.trace'), late)
  expect(await seqs([root])).toEqual(['coordinator 1', 'coordinator 2', 'coordinator 3'])
  mkdirSync(join(root, 'again'))
  copyFileSync(join(root, 'z.trace'), join(root, 'again', '00000001.trace'))
  symlinkSync(join(root, 'a.trace'), join(root, 'again', 'link.trace'))
  expect(await seqs([root, root, join(root, 'a.trace')])).toEqual(['coordinator 1', 'coordinator 2', 'coordinator 3'])
})

test('what a crash cut off is tolerated, in a record and in a header', async () => {
  const path = writeSegment(root, 'coordinator', [record('coordinator', 1), record('coordinator', 2)])
  truncateSync(path, readFileSync(path).length - 5)
  writeFileSync(join(root, 'coordinator', 'trace', '00000002.trace'), 'SWTRA')
  const source = await openTrace('/nowhere', [root])
  expect(source.names).toEqual(['coordinator'])
  expect(await seqs([root])).toEqual(['coordinator 1'])
})

test('segments of the first format, which names no cluster, belong to any', async () => {
  const name = Buffer.from('san-a')
  const header = Buffer.concat([Buffer.from('SWTRACE1\x05\x00', 'latin1'), name, Buffer.alloc(4)])
  header.writeUInt32LE(crc32(header.subarray(0, -4)), header.length - 4)
  const records = segmentOf([record('san-a', 7)], 'san-a', null)
  const about = records.readUInt16LE(8)
  mkdirSync(join(root, 'old'))
  writeFileSync(join(root, 'old', '00000001.trace'), Buffer.concat([header, records.subarray(8 + 2 + about + 4)]))
  expect((await openTrace('/nowhere', [root])).cluster).toBe(null)
  writeSegment(root, 'coordinator', [record('coordinator', 9)])
  expect((await openTrace('/nowhere', [root])).cluster).toBe('one')
  expect(await seqs([root])).toEqual(['san-a 7', 'coordinator 9'])
})

describe('refused in one line is', () => {
  const refusal = (code: string, where: string, what: RegExp) => ({
    code,
    where: expect.stringContaining(where),
    message: expect.stringMatching(what),
    hint: expect.any(String),
  })
  const open = () => openTrace('/nowhere', [root])

  test('what is of two clusters', async () => {
    writeSegment(root, 'coordinator', [record('coordinator', 1)], { cluster: 'east' })
    writeSegment(root, 'san-a', [record('san-a', 1)], { cluster: 'west' })
    await expect(open()).rejects.toMatchObject(refusal('mixed-clusters', 'san-a/trace/00000001.trace', /east and west/))
  })

  test('what a later version wrote', async () => {
    writeFileSync(join(root, '00000001.trace'), 'SWTRACE3 whatever comes then')
    await expect(open()).rejects.toMatchObject(refusal('newer-trace', '00000001.trace', /format 3/))
  })

  test('what is no trace', async () => {
    writeFileSync(join(root, 'strace-of-something.trace'), 'execve("/bin/true")')
    await expect(open()).rejects.toMatchObject(refusal('not-a-trace', 'strace-of', /no trace of stellwerk/))
    const named = join(root, 'notes.txt')
    writeFileSync(named, 'x')
    await expect(openTrace('/nowhere', [named])).rejects.toMatchObject(refusal('not-a-trace', named, /no trace/))
  })

  test('where nothing is', async () => {
    await expect(open()).rejects.toMatchObject(refusal('no-trace', root, /no trace segments/))
    await expect(openTrace('/nowhere', [join(root, 'x')])).rejects.toMatchObject(
      refusal('no-trace', '/x', /no such file/),
    )
  })
})
