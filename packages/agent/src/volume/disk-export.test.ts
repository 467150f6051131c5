// A device served to tools: by name, by the default name, read-only, and closed in order.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { BlockDevice } from '@stellwerk/block/device.ts'
import { MemoryDevice } from '@stellwerk/block/memory-device.ts'
import { connectNbd, type NbdClient } from '@stellwerk/block/nbd/client.ts'
import type { Address } from '@stellwerk/runtime/environment.ts'
import { createEnvironment, type NodeEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { afterAll, beforeAll, expect, test } from 'vitest'
import {
  checkNameable,
  type DiskExport,
  type DiskExportOptions,
  exportDisk,
  MAX_EXPORT_CONNECTIONS,
} from './disk-export.ts'

const IO = { origin: 'test', deadlineAt: null }
const SIZE = 1 << 20

let directory: string
let env: NodeEnvironment
let sockets = 0

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'stellwerk-export-'))
  env = createEnvironment({ name: 'test', directory, logLevel: 'error' })
})

afterAll(async () => {
  await env.close()
  rmSync(directory, { recursive: true, force: true })
})

function freeAddress(): Address {
  sockets += 1
  return { network: 'local', host: join(directory, `${sockets}.sock`), port: 0 }
}

async function serve(device: BlockDevice, more: Partial<DiskExportOptions> = {}): Promise<DiskExport> {
  return exportDisk(env, { address: freeAddress(), name: 'web-1-disk', device, ...more })
}

async function connect(served: DiskExport, exportName: string): Promise<NbdClient> {
  return connectNbd(await env.network.dialStream(served.address), { exportName, timers: env.timers })
}

test('a tool gets the disk by its name and by the default name, and no other', async () => {
  const served = await serve(new MemoryDevice({ size: SIZE }))
  const named = await connect(served, 'web-1-disk')
  const byDefault = await connect(served, '')
  expect([named.size, byDefault.size]).toEqual([SIZE, SIZE])
  await named.write(4096, [new Uint8Array(512).fill(7)], { fua: true }, IO)
  const read = Buffer.concat(await byDefault.read(4096, 512, IO))
  expect(read.equals(Buffer.alloc(512, 7))).toBe(true)
  await expect(connect(served, 'web-2-disk')).rejects.toMatchObject({ code: 'nbd-refused', reply: 'unknown' })
  await named.close()
  await byDefault.close()
  await served.close()
})

test('a read-only export changes nothing, whatever the client sends', async () => {
  const device = new MemoryDevice({ size: SIZE })
  await device.write(0, [new Uint8Array(4096).fill(1)], {}, IO)
  const served = await serve(device, { readOnly: true })
  const client = await connect(served, '')
  expect(client.caps.readOnly).toBe(true)
  for (const change of [
    client.write(0, [new Uint8Array(512)], {}, IO),
    client.zero(0, 4096, {}, IO),
    client.trim(0, 4096, {}, IO),
  ]) {
    await expect(change).rejects.toMatchObject({ errno: 'EPERM' })
  }
  expect(Buffer.concat(await client.read(0, 4096, IO)).equals(Buffer.alloc(4096, 1))).toBe(true)
  await client.close()
  await served.close()
})

test('closing ends the connections and gives the address back, and the device stays open', async () => {
  const device = new MemoryDevice({ size: SIZE })
  const served = await serve(device)
  const client = await connect(served, '')
  expect(served.connections).toBe(1)
  await served.close()
  expect(served.connections).toBe(0)
  await expect(client.read(0, 512, IO)).rejects.toMatchObject({ errno: 'ESHUTDOWN' })
  await expect(device.read(0, 512, IO)).resolves.toHaveLength(1)
  const again = await exportDisk(env, { address: served.address, name: 'd', device })
  await again.close()
})

test('a socket that no tool could name is refused', () => {
  const address: Address = { network: 'local', host: join(directory, 'x'.repeat(120)), port: 0 }
  expect(() => checkNameable(address)).toThrow(expect.objectContaining({ code: 'bad-address', where: address.host }))
  checkNameable(freeAddress())
})

test(`more than ${MAX_EXPORT_CONNECTIONS} connections are dropped`, async () => {
  const served = await serve(new MemoryDevice({ size: SIZE }))
  const clients: NbdClient[] = []
  for (let i = 0; i < MAX_EXPORT_CONNECTIONS; i += 1) clients.push(await connect(served, ''))
  await expect(connect(served, '')).rejects.toMatchObject({ code: 'nbd-lost' })
  await Promise.all(clients.map(client => client.close()))
  await served.close()
})
