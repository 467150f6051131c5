// `stellwerk volume check` of a LUN that an NBD server has: ours and others', sound, damaged, of two legs, and what is none.

import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { exportDisk } from '@stellwerk/agent/volume/disk-export.ts'
import { MemoryDevice } from '@stellwerk/block/memory-device.ts'
import { readBytes } from '@stellwerk/csv/format/device-io.ts'
import { formatVolume } from '@stellwerk/csv/format/format-volume.ts'
import { createEnvironment, type NodeEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Stellwerk } from './stellwerk.ts'

const LONG = 120_000
const SIZE = 64 * MIB
const IO = { origin: 'test', deadlineAt: null }
const stellwerk = new Stellwerk('check')
let env: NodeEnvironment

beforeAll(() => {
  env = createEnvironment({
    name: 'test',
    directory: stellwerk.directory,
    store: memoryStore(),
    logLevel: 'silent',
  })
})

afterAll(async () => {
  await env.close()
  await stellwerk.remove()
})

/** A fresh volume of as many legs. */
async function volume(legs: number): Promise<MemoryDevice[]> {
  const devices = Array.from({ length: legs }, () => new MemoryDevice({ size: SIZE }))
  const named = devices.map((device, i) => ({ id: `leg-${i}`, device }))
  await formatVolume({ legs: named, volumeId: 'v1', clusterId: 'c1' })
  return devices
}

async function serve(device: MemoryDevice, name: string): Promise<{ uri: string; close: () => Promise<void> }> {
  const address = { network: 'cluster', host: '127.0.0.1', port: 0 } as const
  const served = await exportDisk(env, { address, name, device, readOnly: true })
  return { uri: `nbd://127.0.0.1:${served.address.port}/${name}`, close: () => served.close() }
}

describe('volume check over NBD', () => {
  it('proves a sound LUN, of one leg or two, and makes nothing where it runs', { timeout: LONG }, async () => {
    const [first, second] = await volume(2)
    const a = await serve(first!, 'a')
    const b = await serve(second!, 'b')
    const one = await stellwerk.run('volume', 'check', a.uri)
    expect(one).toEqual({
      code: 0,
      lines: [expect.stringMatching(/^nbd:.*: 0 disks, 0 of \d+ extents used/), `${a.uri} is sound`],
    })
    const both = await stellwerk.run('volume', 'check', '--nbd', a.uri, '--nbd', b.uri, '--json')
    expect([both.code, JSON.parse(both.lines[0] ?? '')]).toMatchObject([0, { clean: true, findings: [] }])
    expect((await stellwerk.tool('ls', '-A')).lines).toEqual([])
    await a.close()
    await b.close()
  })

  it('names what is damaged, on which leg', { timeout: LONG }, async () => {
    const [first, second] = await volume(2)
    await second!.write(0, [new Uint8Array(4096).fill(9)], {}, IO)
    await first!.write(0, [new Uint8Array(4096)], {}, IO)
    await first!.write(64 * 1024, [new Uint8Array(4096)], {}, IO)
    const a = await serve(first!, 'a')
    const b = await serve(second!, 'b')
    const { code, lines } = await stellwerk.run('volume', 'check', a.uri, '--nbd', b.uri)
    expect(code).toBe(1)
    expect(lines).toContainEqual(expect.stringMatching(/^damage: nbd:.*\/a, superblock: .*not-a-volume/))
    expect(lines).toContainEqual(
      expect.stringMatching(/^degraded: nbd:.*\/b, superblock at 0: .*superblock-copy-damaged/),
    )
    expect(lines.at(-1)).toMatch(/is damaged$/)
    await a.close()
    await b.close()
  })

  it('reads what other servers have, over a unix socket', { timeout: LONG }, async () => {
    const [device] = await volume(1)
    writeFileSync(join(stellwerk.directory, 'lun.raw'), await readBytes(device!, 0, SIZE, IO))
    const before = await readFile(join(stellwerk.directory, 'lun.raw'))
    const socket = join(stellwerk.directory, 'q.sock')
    const words = ['-t', '-f', 'raw', '-x', 'lun', '--socket', socket, '--pid-file', 'q.pid', 'lun.raw']
    const server = spawn('qemu-nbd', words, { cwd: stellwerk.directory, stdio: 'ignore' })
    stellwerk.started.add(server)
    const ended = new Promise(resolve => server.on('close', resolve))
    const uri = `nbd+unix:///lun?socket=${socket}`
    await expect
      .poll(async () => (await stellwerk.run('volume', 'check', uri)).lines.at(-1), { timeout: 30_000 })
      .toBe(`${uri} is sound`)
    server.kill('SIGTERM')
    await ended
    expect((await readFile(join(stellwerk.directory, 'lun.raw'))).equals(before)).toBe(true)
    const damaged = Buffer.from(before)
    damaged.fill(0, 0, MIB)
    await writeFile(join(stellwerk.directory, 'lun.raw'), damaged)
    const file = await stellwerk.run('volume', 'check', '--file', 'lun.raw')
    expect([file.code, file.lines.at(-1)]).toEqual([1, 'lun.raw is damaged'])
  })

  it('refuses in one line what it cannot reach or understand', { timeout: LONG }, async () => {
    const [device] = await volume(1)
    const served = await serve(device!, 'a')
    const cases: [string[], RegExp][] = [
      [[served.uri.replace(/a$/, 'b')], /no disk 'b' here.*nbdinfo --list/],
      [['nbd://127.0.0.1:1/a'], /is the server there/],
      [['nbd+unix:///a'], /names no socket.*say nbd:/],
      [['nbds://127.0.0.1/a'], /not spoken here/],
      [[served.uri, '--file', 'x'], /either a volume, files or NBD URIs/],
      [[], /either a volume, files or NBD URIs/],
    ]
    for (const [words, said] of cases) {
      const { code, lines } = await stellwerk.run('volume', 'check', ...words)
      expect([words, code !== 0, lines]).toEqual([words, true, [expect.stringMatching(said)]])
    }
    await served.close()
  })
})
