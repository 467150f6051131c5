// `stellwerk disk export` of a cluster that runs, as tools use it: nbdinfo, qemu-img, nbdcopy and fio against the URI that it
// prints; who else wants the disk meanwhile is told so.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { MIB } from '@stellwerk/runtime/units.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { alive, Stellwerk } from './stellwerk.ts'

const LONG = 240_000
const DISK = ['csv1', 'd1'] as const
const SIZE = 32 * MIB

const stellwerk = new Stellwerk('export')
let up: ReturnType<Stellwerk['start']>

beforeAll(async () => {
  up = stellwerk.start('up', '--hosts', '2', '--profile', 'production')
  await up.said(/^up after/)
  const volumes = await stellwerk.json<Record<string, unknown>>('volume', 'list')
  expect(Object.keys(volumes)).toContain('csv1')
  expect((await stellwerk.run('disk', 'create', ...DISK, '32MiB')).code).toBe(0)
}, LONG)

afterAll(async () => {
  await stellwerk.remove()
}, LONG)

/** Twelve MiB that no compression or zero detection makes nothing of, the rest a hole. */
function pattern(): Buffer {
  const bytes = Buffer.alloc(SIZE)
  let seed = 1
  for (let at = 0; at < 12 * MIB; at += 4) {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0
    bytes.writeUInt32LE(seed, at)
  }
  return bytes
}

interface Listed {
  readonly disk: string
  readonly holder: { vm: string } | null
  readonly export: { state: string; readOnly: boolean } | null
}

async function listed(): Promise<Listed | undefined> {
  return (await stellwerk.json<Listed[]>('disk', 'list', 'csv1')).find(({ disk }) => disk === DISK[1])
}

describe('a disk’s size', () => {
  it('gets larger, and smaller where it holds nothing', { timeout: LONG }, async () => {
    expect((await stellwerk.run('disk', 'create', 'csv1', 'd2', '16MiB')).code).toBe(0)
    expect((await stellwerk.run('disk', 'resize', 'csv1', 'd2', '24MiB')).code).toBe(0)
    expect((await stellwerk.run('disk', 'resize', 'csv1', 'd2', '8MiB')).code).toBe(0)
    expect((await stellwerk.run('disk', 'delete', 'csv1', 'd2')).code).toBe(0)
  })
})

describe('a console', () => {
  it('has the answer to a line that was piped in at once', { timeout: LONG }, async () => {
    const make = ['vm', 'create', 'parrot', '--guest', 'echo', '--memory', '8MiB']
    expect((await stellwerk.run(...make)).code).toBe(0)
    await expect
      .poll(async () => (await stellwerk.json<{ state: string }>('vm', 'show', 'parrot')).state, { timeout: 60_000 })
      .toBe('running')
    const shell = `printf 'hello\\nagain\\n' | "$0" "$1" vm console parrot`
    const said = await stellwerk.tool('sh', '-c', shell, ...stellwerk.command)
    expect(said.lines.join('\n')).toMatch(/hello[\s\S]*again/)
    expect((await stellwerk.run('vm', 'stop', 'parrot', '--force')).code).toBe(0)
    await expect
      .poll(async () => (await stellwerk.json<{ state: string }>('vm', 'show', 'parrot')).state, { timeout: 60_000 })
      .toBe('stopped')
    // Nothing of it is there to be heard, or to read a line: that is said at once.
    const refused = await stellwerk.run('vm', 'console', 'parrot')
    expect(refused).toEqual({ code: 1, lines: [expect.stringMatching(/VM "parrot" is stopped.*vm start parrot/)] })
  })
})

describe('a disk that is exported', () => {
  it('is written and read by real tools, over its port and over a socket', { timeout: LONG }, async () => {
    writeFileSync(join(stellwerk.directory, 'in.raw'), pattern())
    const exported = stellwerk.start('disk', 'export', ...DISK)
    const uri = await exported.said(/^nbd:\/\/127\.0\.0\.1:\d+\/d1$/)
    const size = await stellwerk.tool('nbdinfo', '--size', uri)
    expect(size).toEqual({ code: 0, lines: [String(SIZE)] })
    const convert = await stellwerk.tool('qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'raw', 'in.raw', uri)
    expect(convert).toEqual({ code: 0, lines: [] })
    const compare = await stellwerk.tool('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', 'in.raw', uri)
    expect(compare).toEqual({ code: 0, lines: ['Images are identical.'] })
    expect(await listed()).toMatchObject({
      holder: { vm: expect.stringMatching(/^export-/) },
      export: { state: 'running', readOnly: false },
    })

    const second = await stellwerk.run('disk', 'export', ...DISK)
    expect(second).toEqual({ code: 1, lines: [expect.stringMatching(/already, from host "host-.".*disk unexport/)] })
    const remove = await stellwerk.run('disk', 'delete', ...DISK)
    expect(remove).toEqual({ code: 1, lines: [expect.stringMatching(/"d1" is exported.*disk unexport csv1 d1/)] })
    exported.process.kill('SIGINT')
    expect(await exported.ended).toEqual({ code: 0, signal: null })
    expect(await listed()).toMatchObject({ holder: null, export: null })

    const read = stellwerk.start('disk', 'export', ...DISK, '--read-only', '--socket', 'd1.sock', '--host', 'host-b')
    const local = await read.said(/^nbd\+unix:\/\/\/d1\?socket=/)
    expect(await stellwerk.tool('nbdcopy', local, 'out.raw')).toMatchObject({ code: 0 })
    expect(readFileSync(join(stellwerk.directory, 'out.raw')).equals(pattern())).toBe(true)
    expect((await stellwerk.tool('nbdcopy', 'in.raw', local)).code).not.toBe(0)
    read.process.kill('SIGINT')
    expect(await read.ended).toEqual({ code: 0, signal: null })
  })

  it('keeps what fio wrote, verified, when it is left to the cluster', { timeout: LONG }, async () => {
    const { uri } = await stellwerk.json<{ uri: string }>('disk', 'export', ...DISK, '--detach')
    const fio = await stellwerk.tool(
      'fio',
      '--name=verify',
      '--ioengine=nbd',
      `--uri=${uri}`,
      '--rw=randwrite',
      '--bs=4k-64k',
      '--size=16m',
      '--iodepth=16',
      '--verify=crc32c',
      '--verify_fatal=1',
      '--randseed=7',
    )
    expect([fio.code, fio.lines.filter(line => /err=\s*0/.test(line)).length]).toEqual([0, 1])
    expect((await stellwerk.run('disk', 'list', 'csv1')).lines.join('\n')).toMatch(/host-., exported read-write/)
    expect(await stellwerk.run('disk', 'unexport', ...DISK)).toEqual({
      code: 0,
      lines: ['disk d1 is no longer exported'],
    })
    expect((await stellwerk.run('disk', 'unexport', ...DISK)).lines.join()).toMatch(/not exported/)
  })

  it('and the rest of a volume that is in use are proved sound by its owner', { timeout: LONG }, async () => {
    const check = await stellwerk.json<{ clean: boolean; findings: unknown[]; summary: { disks: number } }>(
      'volume',
      'check',
      'csv1',
    )
    expect(check).toMatchObject({ clean: true, findings: [], summary: { disks: expect.any(Number) } })
    expect(check.summary.disks).toBeGreaterThan(0)
    const said = await stellwerk.run('volume', 'check', 'csv1')
    expect([said.code, said.lines.at(-1)]).toEqual([0, 'csv1 is sound'])
    expect((await stellwerk.run('volume', 'check', 'none')).lines).toEqual([expect.stringMatching(/no volume "none"/)])
  })

  it('is no VM’s meanwhile: a start waits for nothing, it is refused', { timeout: LONG }, async () => {
    const create = ['vm', 'create', 'web', '--guest', 'ledger', '--memory', '8MiB', '--disk', 'csv1:8MiB']
    expect((await stellwerk.run(...create)).code).toBe(0)
    const vm = (name: string) => stellwerk.json<{ state: string }>('vm', 'show', name)
    await expect.poll(async () => (await vm('web')).state, { timeout: 60_000 }).toBe('running')
    const refused = await stellwerk.run('disk', 'export', 'csv1', 'web-0')
    expect(refused).toEqual({ code: 1, lines: [expect.stringMatching(/VM "web" has it.*vm stop web/)] })
    await stellwerk.run('vm', 'stop', 'web')
    await expect.poll(async () => (await vm('web')).state, { timeout: 60_000 }).toBe('stopped')
    await stellwerk.json('disk', 'export', 'csv1', 'web-0', '--detach', '--read-only')
    const start = await stellwerk.run('vm', 'start', 'web')
    expect(start).toEqual({
      code: 1,
      lines: [expect.stringMatching(/is exported from host.*disk unexport csv1 web-0/)],
    })
    await stellwerk.run('disk', 'unexport', 'csv1', 'web-0')
    expect((await stellwerk.run('vm', 'start', 'web')).code).toBe(0)
    await expect.poll(async () => (await vm('web')).state, { timeout: 60_000 }).toBe('running')
  })

  it('ends with its agent, and is free again', { timeout: LONG }, async () => {
    const exported = stellwerk.start('disk', 'export', ...DISK, '--host', 'host-b')
    await exported.said(/^nbd:/)
    const pids = JSON.parse(readFileSync(join(stellwerk.state, 'host-b', 'guardian', 'children.json'), 'utf8')) as {
      pid: number
    }[]
    for (const { pid } of pids) process.kill(pid, 'SIGKILL')
    expect((await exported.ended).code).toBe(1)
    expect(exported.lines.at(-1)).toMatch(/not exported: its host host-b was lost/)
    await expect.poll(async () => (await listed())?.holder, { timeout: 60_000 }).toBe(null)
    const again = stellwerk.start('disk', 'export', ...DISK)
    await again.said(/^nbd:/)
    again.process.kill('SIGINT')
    expect((await again.ended).code).toBe(0)
  })

  it('ends with its cluster: nothing is left, and it does not come back by itself', { timeout: LONG }, async () => {
    await stellwerk.json('disk', 'export', ...DISK, '--detach')
    const pids = stellwerk.pids()
    expect((await stellwerk.run('down')).lines).toEqual(['the cluster is down'])
    expect((await up.ended).code).toBe(0)
    expect(alive(pids)).toEqual([])
    const check = await stellwerk.run('volume', 'check', 'csv1')
    expect([check.code, check.lines.at(-1)]).toEqual([0, 'csv1 is sound'])
    up = stellwerk.start('up', '--profile', 'production')
    await up.said(/^up after/)
    expect(await listed()).toMatchObject({ holder: null, export: null })
    await stellwerk.run('down')
    await up.ended
  })
})
