// Snapshots and clones of disks that real clients write to: what a snapshot holds stays as it is, byte by byte, whatever is
// written to the disk, to a clone, or deleted beside it.

import { readFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { peers } from '@stellwerk/runtime/testing/peers.ts'
import type { ApiClient } from 'stellwerk/api-client/client.ts'
import { apiOf } from 'stellwerk/cluster/directory.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CLIENT_PEERS, Clients, exportDisk } from './clients.ts'
import { checkImage, same } from './peer-images.ts'
import { Stellwerk } from './stellwerk.ts'

const LONG = 240_000
const BLOCK_BYTES = 4096
const { missing, note } = peers(...CLIENT_PEERS)

describe.skipIf(missing)(`a snapshot (${note})`, () => {
  const stellwerk = new Stellwerk('snapshots')
  const clients = new Clients(stellwerk)
  const uris = new Map<string, string>()
  let api: ApiClient

  beforeAll(async () => {
    await stellwerk.start('up', '--hosts', '2', '--profile', 'production').said(/^up after/)
    api = await apiOf(stellwerk.state)
    await clients.export(api, 'csv1', 'host-b')
  }, LONG)

  afterAll(() => stellwerk.remove(), LONG)

  const succeeds = async (...words: string[]) => expect(await stellwerk.run(...words)).toMatchObject({ code: 0 })
  const exports = async (disk: string) => {
    const at = await exportDisk(api, 'csv1', disk)
    uris.set(disk, at)
    return at
  }
  const uri = (disk: string) => uris.get(disk) ?? ''

  it('of a disk that is being written holds a moment of it, and keeps it', { timeout: LONG }, async () => {
    const work = await clients.begin()
    await succeeds('disk', 'snapshot', 'csv1', 'ext4', 'midway')
    expect(work.goesOn()).toBe(true)
    expect((await stellwerk.tool('nbdcopy', await exports('midway'), 'midway.img')).code).toBe(0)
    await work.finish()
    await same(stellwerk, 'midway.img', uri('midway'))
    // The disk was new, so each block is the image's or is not there yet.
    const [image, midway] = ['ext4.img', 'midway.img'].map(name => readFileSync(join(stellwerk.directory, name)))
    const there = { image: 0, missing: 0, other: 0 }
    const nothing = Buffer.alloc(BLOCK_BYTES)
    for (let at = 0; at < image!.length; at += BLOCK_BYTES) {
      const wanted = image!.subarray(at, at + BLOCK_BYTES)
      const block = midway!.subarray(at, at + BLOCK_BYTES)
      if (wanted.equals(nothing) && block.equals(nothing)) continue
      there[block.equals(wanted) ? 'image' : block.equals(nothing) ? 'missing' : 'other'] += 1
    }
    expect(there).toEqual({ image: expect.any(Number), missing: expect.any(Number), other: 0 })
    expect(Math.min(there.image, there.missing)).toBeGreaterThan(0)
  })

  it('has all that was acknowledged, and nothing of what comes after it', { timeout: LONG }, async () => {
    await succeeds('disk', 'snapshot', 'csv1', 'ext4', 'whole')
    renameSync(join(stellwerk.directory, 'ext4.img'), join(stellwerk.directory, 'former.img'))
    await exports('whole')
    await checkImage(stellwerk, 'ext4', 'former.img', uri('whole'))
    const work = await clients.begin()
    await same(stellwerk, 'former.img', uri('whole'))
    await work.finish()
    await checkImage(stellwerk, 'ext4', 'former.img', uri('whole'))
    expect((await stellwerk.tool('nbdcopy', 'ext4.img', uri('whole'))).code).not.toBe(0)
  })

  it('has clones that are disks of their own, and outlive it', { timeout: LONG }, async () => {
    await succeeds('disk', 'clone', 'csv1', 'whole', 'twin')
    await exports('twin')
    await checkImage(stellwerk, 'ext4', 'former.img', uri('twin'))
    const half = ['--rw=randwrite', '--bs=16k', '--size=24m', '--verify=crc32c', '--verify_fatal=1', '--iodepth=16']
    const fio = await stellwerk.tool('fio', '--name=twin', '--ioengine=nbd', `--uri=${uri('twin')}`, ...half)
    expect(fio.code, fio.lines.join('\n')).toBe(0)
    expect((await stellwerk.tool('nbdcopy', uri('twin'), 'twin.img')).code).toBe(0)
    await same(stellwerk, 'former.img', uri('whole'))
    await Promise.all(['whole', 'midway'].map(disk => succeeds('disk', 'unexport', 'csv1', disk)))
    await Promise.all(['whole', 'midway'].map(disk => succeeds('disk', 'delete', 'csv1', disk)))
    await same(stellwerk, 'twin.img', uri('twin'))
    await clients.verify()
    const check = await stellwerk.run('volume', 'check', 'csv1')
    expect([check.code, check.lines.at(-1)]).toEqual([0, 'csv1 is sound'])
  })
})
