// An export as a machine: what reaches the disk and what leaves for the tools, by its right to run.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MemoryDevice } from '@stellwerk/block/memory-device.ts'
import { connectNbd, type NbdClient } from '@stellwerk/block/nbd/client.ts'
import { createEnvironment, type NodeEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Machine, MachineEvent } from '../hypervisor.ts'
import { ExportHypervisor } from './hypervisor.ts'

const IO = { origin: 'test', deadlineAt: null }
const SIZE = 1 << 20

let directory: string
let env: NodeEnvironment
let disk: MemoryDevice
let may = true
let hypervisor: ExportHypervisor
let machine: Machine
let events: MachineEvent[]
const clients: NbdClient[] = []

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'export-'))
  env = createEnvironment({ name: 'test', directory, store: memoryStore(), logLevel: 'silent' })
  disk = new MemoryDevice({ size: SIZE })
  may = true
  events = []
  hypervisor = new ExportHypervisor({
    env,
    mayExecute: () => may,
    until: () => Number.POSITIVE_INFINITY,
    evidence: () => undefined,
  })
  machine = await hypervisor.create(spec(), [disk])
  machine.onEvent(event => events.push(event))
})

afterEach(async () => {
  await machine.kill()
  for (const client of clients.splice(0)) await client.close()
  await env.close()
  rmSync(directory, { recursive: true, force: true })
})

function spec(parameters: Record<string, string | number | boolean> = {}) {
  const all = { name: 'd1', readOnly: false, socket: join(directory, 's.sock'), ...parameters }
  return { vm: 'export-1', hypervisor: 'export', guest: 'csv1/d1', memoryBytes: 0, parameters: all } as const
}

async function connect(): Promise<NbdClient> {
  const stream = await env.network.dialStream({ network: 'local', host: join(directory, 's.sock'), port: 0 })
  const client = await connectNbd(stream, { exportName: 'd1', timers: env.timers })
  clients.push(client)
  return client
}

/** Long enough for a request to come through, were it let. */
async function settle(): Promise<void> {
  await new Promise(resolve => setTimeout(resolve, 50))
}

async function first(): Promise<number> {
  return Buffer.concat(await disk.read(0, 512, IO))[0] ?? -1
}

const write = (client: NbdClient, value: number) => client.write(0, [new Uint8Array(512).fill(value)], {}, IO)

test('nothing reaches the disk before it is started, and its address is not told', async () => {
  const client = await connect()
  const written = write(client, 7)
  await settle()
  expect(await first()).toBe(0)
  expect(hypervisor.where('export-1').address).toBe(null)
  machine.start()
  await written
  expect(await first()).toBe(7)
  expect(hypervisor.where('export-1')).toMatchObject({ connections: 1, address: { network: 'local' } })
})

test('without the right to run it freezes by itself; what waits is served after the thaw, in order', async () => {
  const client = await connect()
  machine.start()
  await write(client, 1)
  may = false
  const written = write(client, 2)
  await settle()
  expect([await first(), machine.state, events]).toEqual([1, 'frozen', [{ kind: 'frozen', reason: 'no lease' }]])
  may = true
  machine.thaw()
  await written
  expect([await first(), machine.state]).toEqual([2, 'running'])
})

test('an answer that comes after the right is gone stays here', async () => {
  let release: () => void = () => undefined
  const slow = new Promise<void>(resolve => {
    release = resolve
  })
  const { read } = disk
  disk.read = async (...args) => {
    await slow
    return read.apply(disk, args)
  }
  const client = await connect()
  machine.start()
  let isAnswered = false
  const answer = client.read(0, 512, IO).then(() => {
    isAnswered = true
  })
  await settle()
  await machine.freeze('no lease')
  release()
  await settle()
  expect(isAnswered).toBe(false)
  machine.thaw()
  await answer
})

test('killed, it refuses what waits, and nothing of it is written later', async () => {
  const client = await connect()
  machine.start()
  await machine.freeze('no lease')
  const written = write(client, 9)
  const refused = expect(written).rejects.toMatchObject({ errno: 'ESHUTDOWN' })
  await settle()
  await machine.kill()
  await refused
  expect([await first(), machine.state, hypervisor.where('export-1').address]).toEqual([0, 'dead', null])
})

test('a taken address, several disks and a migration are refused', async () => {
  await expect(hypervisor.create(spec(), [disk])).rejects.toMatchObject({ code: 'address-in-use' })
  await expect(hypervisor.create(spec({ socket: join(directory, 'other') }), [disk, disk])).rejects.toMatchObject({
    code: 'bad-machine',
  })
  await expect(hypervisor.receive(spec())).rejects.toMatchObject({ code: 'not-migratable' })
  expect(() => machine.send({ downtimeMs: 1, maxRounds: 1, whenDiverging: 'abort' })).toThrow(/stays on its host/)
})
