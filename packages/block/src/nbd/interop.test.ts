// The server against other people's clients and the client against other people's servers, over unix sockets.

import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Clock, Listener } from '@stellwerk/runtime/environment.ts'
import { errorCode } from '@stellwerk/runtime/errors.ts'
import { createNetwork } from '@stellwerk/runtime/node/network.ts'
import { createTimers } from '@stellwerk/runtime/node/timers.ts'
import { peer, peers } from '@stellwerk/runtime/testing/peers.ts'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { pattern } from '../contract/device-contract.ts'
import type { BlockDevice, Io } from '../device.ts'
import { MemoryDevice } from '../memory-device.ts'
import { connectNbd, NbdRefusal } from './client.ts'
import { type NbdConnection, serveNbd } from './server.ts'

const run = promisify(execFile)
const IO: Io = { origin: 'interop', deadlineAt: null }
const MIB = 1024 * 1024
const SIZE = 64 * MIB
const START_TIMEOUT_MS = 10_000

const nbdinfo = peer('nbdinfo', 'libnbd-bin')
const nbdcopy = peer('nbdcopy', 'libnbd-bin')
const qemuImg = peer('qemu-img', 'qemu-utils')
const qemuIo = peer('qemu-io', 'qemu-utils')
const qemuNbd = peer('qemu-nbd', 'qemu-utils')
const fio = peer('fio', 'fio')
const nbdkit = peer('nbdkit', 'nbdkit')

const clock: Clock = { now: () => performance.now(), wall: () => Date.now() }
const timers = createTimers(clock)

let directory: string
let network: ReturnType<typeof createNetwork>
let listener: Listener | null = null
const children: ChildProcess[] = []
const connections: NbdConnection[] = []

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'stellwerk-nbd-'))
  network = createNetwork()
})

afterEach(async () => {
  await Promise.all(connections.splice(0).map(connection => connection.shutdown('the test is over')))
  await listener?.close()
  listener = null
  await network.close()
  for (const child of children.splice(0)) {
    const gone = new Promise(resolve => child.once('exit', resolve))
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL')
      await gone
    }
  }
  rmSync(directory, { recursive: true, force: true })
})

/** Serves the device under its name and gives the URI of it. */
async function serve(device: BlockDevice, name = 'disk'): Promise<string> {
  const socket = join(directory, 'server.sock')
  listener = await network.listenStream({ network: 'local', host: socket, port: 0 }, stream => {
    const connection = serveNbd(
      stream,
      {
        list: async () => [{ name, description: 'a test disk' }],
        open: async asked => {
          if (asked !== name) throw new NbdRefusal('unknown', `there is no export ${asked}`)
          return { device, released: () => undefined }
        },
      },
      { timers },
    )
    connections.push(connection)
  })
  return `nbd+unix:///${name}?socket=${socket}`
}

async function start(program: string, args: readonly string[], socket: string): Promise<void> {
  const child = spawn(program, args, { stdio: 'ignore' })
  children.push(child)
  const until = clock.now() + START_TIMEOUT_MS
  // A socket file alone is no listener yet.
  while (!(existsSync(socket) && (await answers(socket)))) {
    if (child.exitCode !== null || clock.now() > until) throw new Error(`${program} does not serve ${socket}`)
    await new Promise(resolve => {
      timers.after(20, () => resolve(undefined))
    })
  }
}

async function answers(socket: string): Promise<boolean> {
  try {
    const stream = await network.dialStream({ network: 'local', host: socket, port: 0 })
    stream.destroy()
    return true
  } catch (error) {
    if (errorCode(error) !== 'refused') throw error
    return false
  }
}

async function contents(device: BlockDevice, offset: number, length: number): Promise<Buffer> {
  return Buffer.concat(await device.read(offset, length, IO))
}

describe('NBD server with the clients of others', () => {
  const info = peers(nbdinfo)
  it.skipIf(info.missing)(`tells nbdinfo what it can (${info.note})`, async () => {
    const device = new MemoryDevice({ size: SIZE, limits: { minimum: 512 } })
    await device.write(8 * MIB, [pattern(MIB, 1)], {}, IO)
    const uri = await serve(device)
    const { stdout } = await run(nbdinfo.path!, ['--json', uri])
    expect(JSON.parse(stdout)).toMatchObject({
      protocol: 'newstyle-fixed',
      structured: true,
      exports: [
        {
          'export-name': 'disk',
          contexts: ['base:allocation'],
          is_read_only: false,
          can_df: true,
          can_fast_zero: true,
          can_flush: true,
          can_fua: true,
          can_multi_conn: true,
          can_trim: true,
          can_zero: true,
          block_size_minimum: 512,
          'export-size': SIZE,
        },
      ],
    })
    const map = JSON.parse((await run(nbdinfo.path!, ['--map', '--json', uri])).stdout)
    expect(
      map.map((extent: { offset: number; length: number; type: number }) => [
        extent.offset,
        extent.length,
        extent.type,
      ]),
    ).toEqual([
      [0, 8 * MIB, 3],
      [8 * MIB, MIB, 0],
      [9 * MIB, SIZE - 9 * MIB, 3],
    ])
    const list = JSON.parse((await run(nbdinfo.path!, ['--json', '--list', uri])).stdout)
    expect(list.exports[0]).toMatchObject({ 'export-name': 'disk', description: 'a test disk' })
  })

  const copy = peers(nbdcopy)
  it.skipIf(copy.missing)(`takes and gives a disk by nbdcopy, over several connections (${copy.note})`, async () => {
    const device = new MemoryDevice({ size: SIZE })
    const uri = await serve(device)
    const source = Buffer.alloc(SIZE)
    pattern(3 * MIB, 2).copy(source, 5 * MIB)
    pattern(MIB, 3).copy(source, SIZE - MIB)
    writeFileSync(join(directory, 'source'), source)
    await run(nbdcopy.path!, ['--flush', join(directory, 'source'), uri])
    expect(device.allocatedBytes).toBeLessThan(8 * MIB)
    await run(nbdcopy.path!, [uri, join(directory, 'copy')])
    const { stdout } = await run('cmp', [join(directory, 'source'), join(directory, 'copy')])
    expect(stdout).toBe('')
  })

  const img = peers(qemuImg)
  it.skipIf(img.missing)(`converts and compares with qemu-img (${img.note})`, async () => {
    const device = new MemoryDevice({ size: SIZE, limits: { minimum: 512 } })
    const uri = await serve(device)
    const source = Buffer.alloc(SIZE)
    pattern(MIB, 4).copy(source, 17 * MIB)
    writeFileSync(join(directory, 'source'), source)
    await run(qemuImg.path!, ['convert', '-n', '-f', 'raw', '-O', 'raw', join(directory, 'source'), uri])
    const { stdout } = await run(qemuImg.path!, ['compare', '-f', 'raw', '-F', 'raw', join(directory, 'source'), uri])
    expect(stdout).toContain('identical')
    expect((await contents(device, 17 * MIB, MIB)).equals(pattern(MIB, 4))).toBe(true)
  })

  it.skipIf(img.missing)(`gives qemu-img the text of a refusal (${img.note})`, async () => {
    const uri = await serve(new MemoryDevice({ size: SIZE }))
    const asked = run(qemuImg.path!, ['info', uri.replace('/disk', '/nothing')])
    const failed = await asked.catch((error: unknown) => error)
    expect(failed).toMatchObject({ stderr: expect.stringContaining('there is no export nothing') })
  })

  const io = peers(qemuIo)
  it.skipIf(io.missing)(`reads, writes, zeroes and discards with qemu-io (${io.note})`, async () => {
    const device = new MemoryDevice({ size: SIZE })
    const uri = await serve(device)
    const commands = [
      'write -P 0x5a 1M 2M',
      'write -f -P 0x5b 3M 64k',
      'write -z -u 1M 64k',
      'discard 2M 1M',
      'flush',
      'read -P 0 1M 64k',
      'read -P 0x5a 1088k 64k',
      'read -P 0x5b 3M 64k',
    ]
    const { stdout } = await run(qemuIo.path!, ['-f', 'raw', ...commands.flatMap(command => ['-c', command]), uri])
    expect(stdout).not.toContain('verification failed')
    expect((await contents(device, 3 * MIB, 65536)).equals(Buffer.alloc(65536, 0x5b))).toBe(true)
    const past = await run(qemuIo.path!, ['-f', 'raw', '-c', `read ${SIZE} 512`, uri]).catch((error: unknown) => error)
    expect(past).toMatchObject({ stdout: expect.stringMatching(/failed|error/) })
  })

  const load = peers(fio)
  it.skipIf(load.missing)(`keeps what fio writes, by its checksums (${load.note})`, async () => {
    const uri = await serve(new MemoryDevice({ size: SIZE }))
    const job = (name: string, ...more: string[]): string[] => [
      `--name=${name}`,
      '--ioengine=nbd',
      `--uri=${uri}`,
      ...more,
    ]
    const { stdout } = await run(
      fio.path!,
      [
        ...job('small', '--rw=randrw', '--bs=4k', '--iodepth=32', '--size=16m', '--verify=crc32c'),
        ...job('mixed', '--stonewall', '--offset=16m', '--rw=randwrite', '--bsrange=512-256k', '--bs_unaligned'),
        '--iodepth=16',
        '--size=32m',
        '--verify=crc32c',
        '--fsync=64',
        '--output-format=json',
      ],
      { cwd: directory, maxBuffer: 16 * MIB },
    )
    const jobs = JSON.parse(stdout.slice(stdout.indexOf('{'))).jobs as { error: number; write: { total_ios: number } }[]
    expect(jobs.map(one => one.error)).toEqual([0, 0])
    for (const one of jobs) expect(one.write.total_ios).toBeGreaterThan(100)
  })
})

describe('NBD client with the servers of others', () => {
  async function connect(socket: string, exportName: string, structured = true) {
    const stream = await network.dialStream({ network: 'local', host: socket, port: 0 })
    return connectNbd(stream, { exportName, timers, structured })
  }

  /** Writes, reads, zeroes, and what the server offers besides. */
  async function exercise(device: BlockDevice): Promise<void> {
    const data = pattern(3 * MIB, 5)
    await device.write(MIB, [data.subarray(0, 1000), data.subarray(1000)], device.caps.fua ? { fua: true } : {}, IO)
    const small = Array.from({ length: 100 }, (_, index) =>
      device.write(8 * MIB + index * 4096, [pattern(4096, index)], {}, IO),
    )
    await Promise.all(small)
    expect((await contents(device, MIB, data.length)).equals(data)).toBe(true)
    await device.zero(MIB, 65536, {}, IO)
    expect((await contents(device, MIB, 65536)).equals(Buffer.alloc(65536))).toBe(true)
    expect((await contents(device, 8 * MIB + 99 * 4096, 4096)).equals(pattern(4096, 99))).toBe(true)
    if (device.caps.trim) await device.trim(2 * MIB, MIB, {}, IO)
    await device.flush(IO)
    if (device.blockStatus !== undefined) {
      const extents = await device.blockStatus(16 * MIB, 8 * MIB, IO)
      expect(extents[0]).toMatchObject({ zero: true })
    }
  }

  const kit = peers(nbdkit)
  it.skipIf(kit.missing).each([true, false])(
    `works with nbdkit, structured replies: %s (${kit.note})`,
    async structured => {
      const socket = join(directory, 'kit.sock')
      await start(nbdkit.path!, ['-f', '-U', socket, 'memory', String(SIZE)], socket)
      const device = await connect(socket, '', structured)
      expect([device.size, device.structured, device.caps.multiConn]).toEqual([SIZE, structured, true])
      expect(device.blockStatus !== undefined).toBe(structured)
      await exercise(device)
      await device.close()
    },
  )

  it.skipIf(kit.missing)(`takes errors and refusals from nbdkit (${kit.note})`, async () => {
    const socket = join(directory, 'kit.sock')
    const errors = ['error-pwrite=ENOSPC', 'error-pwrite-rate=1']
    await start(
      nbdkit.path!,
      ['-f', '-U', socket, '-e', 'disk', '--filter=error', 'memory', String(MIB), ...errors],
      socket,
    )
    const device = await connect(socket, 'disk')
    const failed = await device.write(0, [pattern(512, 1)], {}, IO).catch((error: unknown) => error)
    expect(failed).toMatchObject({ errno: 'ENOSPC' })
    expect((await contents(device, 0, 512)).equals(Buffer.alloc(512))).toBe(true)
    await device.close()
  })

  it.skipIf(kit.missing)(`rejects what is in flight when nbdkit is killed (${kit.note})`, async () => {
    const socket = join(directory, 'kit.sock')
    await start(nbdkit.path!, ['-f', '-U', socket, '--filter=delay', 'memory', String(MIB), 'wdelay=100'], socket)
    const device = await connect(socket, '')
    const write = device.write(0, [pattern(512, 1)], {}, IO).catch((error: unknown) => error)
    await device.read(0, 512, IO)
    children[0]!.kill('SIGKILL')
    expect(await write).toMatchObject({ errno: 'ESHUTDOWN', outcome: 'unknown' })
  })

  const qemu = peers(qemuNbd)
  it.skipIf(qemu.missing)(`works with qemu-nbd (${qemu.note})`, async () => {
    const image = join(directory, 'image')
    writeFileSync(image, '')
    await run('truncate', ['-s', String(SIZE), image])
    const socket = join(directory, 'qemu.sock')
    await start(
      qemuNbd.path!,
      ['-f', 'raw', '-x', 'disk', '-k', socket, '-e', '4', '-t', '--discard=unmap', image],
      socket,
    )
    const refused = await connect(socket, 'nothing').catch((error: unknown) => error)
    expect(refused).toMatchObject({ code: 'nbd-refused', reply: 'unknown' })
    const device = await connect(socket, 'disk')
    expect(device.size).toBe(SIZE)
    await exercise(device)
    await device.close()
  })
})
