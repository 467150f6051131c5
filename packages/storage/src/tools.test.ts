// Tools that know nothing of Stellwerk, on a real started subsystem: by the plain name of an open LUN, and by the full
// export name of a host, whose `?`, `&` and `=` must be percent-encoded in an NBD URI.

import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { peer, peers } from '@stellwerk/runtime/testing/peers.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type RealStorage, realStorage } from './testing/real-storage.ts'

const run = promisify(execFile)
const MIB = 1024 * 1024
const SIZE = 32 * MIB
const nbdinfo = peer('nbdinfo', 'libnbd-bin')
const nbdcopy = peer('nbdcopy', 'libnbd-bin')
const qemuImg = peer('qemu-img', 'qemu-utils')
const qemuIo = peer('qemu-io', 'qemu-utils')
const fio = peer('fio', 'fio')
const TOOL_MS = 30_000

let storage: RealStorage
let session = 0

beforeAll(async () => {
  storage = await realStorage(SIZE)
})
afterAll(() => storage.dispose())

const plain = (): string => `nbd+unix:///open?socket=${storage.socket}`
/** Over TCP, for a change; a new session each time, as a host that starts anew would use. */
function asHost(): string {
  session += 1
  const name = `csv1?host=a&epoch=1&session=1.${session}&generation=0`
  return `nbd://127.0.0.1:${storage.port}/${encodeURIComponent(name)}`
}

async function tool(program: string, ...args: string[]): Promise<string> {
  const { stdout, stderr } = await run(program, args, { timeout: TOOL_MS, cwd: storage.directory })
  return stdout + stderr
}

async function toolFails(program: string, ...args: string[]): Promise<string> {
  try {
    await tool(program, ...args)
  } catch (error) {
    return (error as { stderr: string }).stderr
  }
  throw new Error(`${program} should have failed`)
}

describe.each([
  ['plain name', plain],
  ['full export name', asHost],
])('%s', (_, uri) => {
  it.skipIf(peers(nbdinfo).missing)(`tells what it is and can (${nbdinfo.note})`, async () => {
    const info = JSON.parse(await tool('nbdinfo', '--json', uri())).exports[0]
    expect(info).toMatchObject({
      'export-size': SIZE,
      is_read_only: false,
      can_flush: true,
      can_fua: true,
      can_trim: true,
      can_zero: true,
      can_fast_zero: true,
      can_multi_conn: true,
      block_size_preferred: 4096,
      contexts: ['base:allocation'],
    })
  })

  it.skipIf(peers(nbdcopy, nbdinfo).missing)(`takes and gives an image, holes as holes (${nbdcopy.note})`, async () => {
    const image = join(storage.directory, 'image')
    const back = join(storage.directory, 'back')
    const content = Buffer.alloc(SIZE)
    randomBytes(5 * MIB).copy(content, 3 * MIB)
    randomBytes(1000).copy(content, 20 * MIB + 77)
    writeFileSync(image, content)
    const target = uri()
    await tool('nbdcopy', '--flush', '--destination-is-zero', image, target)
    await tool('nbdcopy', target, back)
    expect(readFileSync(back).equals(content)).toBe(true)
    const map = JSON.parse(await tool('nbdinfo', '--map', '--json', target)) as {
      offset: number
      length: number
      type: number
    }[]
    const data = map.filter(({ type }) => type === 0).map(({ offset, length }) => [offset, length])
    expect(data).toEqual([
      [3 * MIB, 5 * MIB],
      [20 * MIB, 65536],
    ])
  })

  it.skipIf(peers(qemuImg).missing)(`is converted and compared (${qemuImg.note})`, async () => {
    const image = join(storage.directory, 'source')
    const content = Buffer.alloc(SIZE)
    randomBytes(2 * MIB).copy(content, 11 * MIB + 512)
    writeFileSync(image, content)
    const target = uri()
    await tool('qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'raw', image, target)
    expect(await tool('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', image, target)).toContain('identical')
  })

  it.skipIf(peers(qemuIo).missing)(`holds patterns, zeroes and discards (${qemuIo.note})`, async () => {
    const commands = [
      'write -P 0xab 1M 1M',
      'write -f -P 0xcd 1234k 4k',
      'write -z 1500k 100k',
      'write -z -u 1600k 64k',
      'read -P 0xab 1M 200k',
      'read -P 0xcd 1234k 4k',
      'read -P 0 1500k 164k',
      'flush',
      'discard 1M 1M',
      'aio_write -P 0x11 0 64k',
      'aio_write -P 0x22 64k 64k',
      'aio_flush',
      'read -P 0x11 0 64k',
      'read -P 0x22 64k 64k',
      // Past the end is refused without harm.
      'read -P 0x22 64k 64k',
    ]
    const output = await tool('qemu-io', '-f', 'raw', ...commands.flatMap(command => ['-c', command]), uri())
    expect(output).not.toMatch(/Pattern verification failed|failed/)
  })

  it.skipIf(peers(fio).missing)(`verifies under random load (${fio.note})`, async () => {
    const args = ['--name=v', '--ioengine=nbd', '--rw=randrw', '--bsrange=512-128k', '--iodepth=16', `--size=${SIZE}`]
    const output = await tool(
      'fio',
      ...args,
      '--io_size=32m',
      '--verify=crc32c',
      '--verify_fatal=1',
      '--fsync=64',
      `--uri=${uri()}`,
    )
    expect(output).toContain('err= 0')
  })
})

describe('refused', () => {
  it.skipIf(peers(qemuImg).missing)(`with words a person can use (${qemuImg.note})`, async () => {
    const info = (name: string): Promise<string> =>
      toolFails('qemu-img', 'info', `nbd+unix:///${encodeURIComponent(name)}?socket=${storage.socket}`)
    expect(await info('nothing')).toContain('unknown-lun there is no LUN nothing here')
    expect(await info('csv1')).toContain('lun-masked LUN csv1 is not open')
    expect(await info('csv1?host=a&epoch=2&session=1.0&generation=0')).toContain('not-admitted ')
    expect(await info('csv1?host=a')).toContain('bad-export-name ')
  })

  it.skipIf(peers(nbdinfo).missing)(`and a list names the open LUNs only (${nbdinfo.note})`, async () => {
    const { exports } = JSON.parse(await tool('nbdinfo', '--list', '--json', `nbd+unix:///?socket=${storage.socket}`))
    expect(exports.map((one: { 'export-name': string }) => one['export-name'])).toEqual(['open'])
  })
})
