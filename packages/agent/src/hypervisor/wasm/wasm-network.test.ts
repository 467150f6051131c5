// An embedded guest's card on the virtual switch, with a real guest on a real thread: `echo` sends back what is sent to it.

import { BROADCAST, ETHERTYPE, etherTypeOf, formatMac, parseMac, sourceOf } from '@stellwerk/protocol/ethernet.ts'
import type { Identity } from '@stellwerk/protocol/session.ts'
import { createCompute } from '@stellwerk/runtime/node/compute.ts'
import { afterEach, expect, test } from 'vitest'
import { frame } from '../../network/testing/frames.ts'
import { VirtualSwitch } from '../../network/virtual-switch.ts'
import type { Machine, MachineSpec, NetworkPort } from '../hypervisor.ts'
import { createRealEnvironment } from '../testing/real-environment.ts'
import { WasmHypervisor } from './hypervisor.ts'
import { MAX_FRAME_BYTES, NETWORK_IN, NETWORK_OUT, type RingPlace } from './layout.ts'
import type { WasmMachine } from './machine.ts'

const MAC = '52:54:00:00:00:01'
const OTHER = '52:54:00:00:00:02'
const HEADER_BYTES = 14
const WITHIN_MS = 20_000
const SPEC: MachineSpec = { vm: 'v', hypervisor: 'wasm', guest: 'echo', memoryBytes: 2 << 20, parameters: {} }
const machines: Machine[] = []

afterEach(async () => {
  await Promise.all(machines.splice(0).map(machine => machine.kill()))
})

/** `onHeard`: the neighbour is just being handed what the guest has sent. */
function bench(onHeard: () => void = () => undefined) {
  const env = createRealEnvironment(createCompute())
  const identity = { node: 'host-a' } as Identity
  const network = new VirtualSwitch({ env, identity, listen: null, epoch: () => 1, isBridged: () => true })
  const port = (mac: string, addresses: string[] = []): NetworkPort =>
    network.port({ network: 'lan', mac, addresses, placementEpoch: 1, owner: mac })
  const heard: Uint8Array[] = []
  const neighbour = port(OTHER)
  neighbour.onFrame(each => {
    // The guest's card is announced, which is no answer of the guest.
    if (ANNOUNCED.includes(etherTypeOf(each))) return
    heard.push(each)
    onHeard()
  })
  neighbour.attach()
  const options = { env, mayExecute: () => true, until: () => Number.POSITIVE_INFINITY, evidence: () => undefined }
  return { env, hypervisor: new WasmHypervisor(options), port, heard, neighbour }
}

const TYPE = 0x88b5
const ANNOUNCED: readonly number[] = [ETHERTYPE.arp, ETHERTYPE.rarp]

/** Of so many bytes behind its header, told from others by them. */
const data = (n: number, bytes: number, to = parseMac(MAC)) =>
  frame(to, parseMac(OTHER), TYPE, Buffer.alloc(bytes, `frame ${n} `))
const behind = (frames: readonly Uint8Array[]) =>
  frames.map(each => Buffer.from(each.subarray(HEADER_BYTES)).toString())

async function started(hypervisor: WasmHypervisor, port: NetworkPort): Promise<WasmMachine> {
  const machine = (await hypervisor.create(SPEC, [], [port])) as WasmMachine
  machines.push(machine)
  port.attach()
  machine.start()
  return machine
}

const count = (heard: readonly unknown[], frames: number) =>
  expect.poll(() => heard.length, { timeout: WITHIN_MS }).toBe(frames)

test('what is sent to it comes back whole, in order and once, however often its rings go round', async () => {
  const { hypervisor, port, heard, neighbour } = bench()
  await started(hypervisor, port(MAC))
  const sent: Uint8Array[] = []
  for (let n = 0; n < 300; n += 1) {
    const each = data(n, (n * 97) % (MAX_FRAME_BYTES - HEADER_BYTES + 1))
    sent.push(each)
    neighbour.send(each)
    // As many as its ring holds, whatever their length.
    if (n % 8 === 7) await count(heard, n + 1)
  }
  await count(heard, sent.length)
  expect(behind(heard)).toEqual(behind(sent))
  expect(new Set(heard.map(each => formatMac(sourceOf(each))))).toEqual(new Set([MAC]))
})

test('what it cannot take is dropped, like everything that is too long for it, and it goes on', async () => {
  const { hypervisor, port, heard, neighbour } = bench()
  const machine = await started(hypervisor, port(MAC))
  await machine.freeze('test')
  // A guest that stands still hears nothing, now or later.
  neighbour.send(data(0, 100))
  machine.thaw()
  neighbour.send(data(1, MAX_FRAME_BYTES))
  for (let n = 0; n < 100; n += 1) neighbour.send(data(2, MAX_FRAME_BYTES - HEADER_BYTES))
  await expect.poll(() => heard.length, { timeout: WITHIN_MS }).toBeGreaterThan(0)
  const asked = () => {
    neighbour.send(data(9, 40))
    return behind(heard).at(-1)?.startsWith('frame 9')
  }
  await expect.poll(asked, { timeout: WITHIN_MS }).toBe(true)
  expect(behind(heard).some(text => /frame [01]/.test(text))).toBe(false)
})

test('what is sent to all has no answer', async () => {
  const said: Uint8Array[] = []
  let tell: (each: Uint8Array) => void = () => undefined
  const ignore = { attach: () => undefined, detach: () => undefined }
  // No switch, which would not let such an answer pass.
  const bare: NetworkPort = {
    ...{ mac: MAC, ...ignore, send: each => void said.push(each) },
    onFrame: f => {
      tell = f
    },
  }
  await started(bench().hypervisor, bare)
  for (const each of [data(1, 10, BROADCAST), data(2, 10)]) tell(each)
  await count(said, 1)
  expect(behind(said)).toEqual([expect.stringMatching(/^frame 2/)])
})

/** Sends until neither ring of the guest has room: this thread looks at neither meanwhile. */
function fill({ memory }: WasmMachine, neighbour: NetworkPort): void {
  const waiting = (ring: RingPlace): number => memory.readUInt32LE(ring.produced) - memory.readUInt32LE(ring.consumed)
  const isFull = (ring: RingPlace): boolean => ring.bytes - waiting(ring) < MAX_FRAME_BYTES + 2
  const end = performance.now() + WITHIN_MS
  while (!(isFull(NETWORK_OUT) && isFull(NETWORK_IN)) && performance.now() < end) {
    neighbour.send(data(1, MAX_FRAME_BYTES - HEADER_BYTES))
  }
}

const IN_BOTH_RINGS = 2 * Math.floor(NETWORK_OUT.bytes / (MAX_FRAME_BYTES + 2))

test('a guest that has more to send than its ring holds goes on as soon as that was taken', async () => {
  const { hypervisor, port, heard, neighbour } = bench()
  const machine = await started(hypervisor, port(MAC))
  neighbour.send(data(0, 40))
  await count(heard, 1)
  fill(machine, neighbour)
  expect(heard).toHaveLength(1)
  await count(heard, 1 + IN_BOTH_RINGS)
  neighbour.send(data(2, 40))
  await count(heard, 2 + IN_BOTH_RINGS)
})

test('and when it came to wait while its frames were being taken', async () => {
  let whileHeard = (): void => undefined
  const { hypervisor, port, heard, neighbour } = bench(() => whileHeard())
  const machine = await started(hypervisor, port(MAC))
  neighbour.send(data(0, 40))
  await count(heard, 1)
  whileHeard = () => {
    whileHeard = () => undefined
    fill(machine, neighbour)
  }
  neighbour.send(data(2, 40))
  await count(heard, 2 + IN_BOTH_RINGS)
  neighbour.send(data(3, 40))
  await count(heard, 3 + IN_BOTH_RINGS)
})

test('its console is answered beside a stream that never ends', async () => {
  const { hypervisor, port, neighbour } = bench(() => neighbour.send(data(1, 40)))
  const machine = await started(hypervisor, port(MAC))
  const lines: string[] = []
  machine.onEvent(event => {
    if (event.kind === 'console') lines.push(event.line)
  })
  for (let n = 0; n < 100; n += 1) neighbour.send(data(1, 40))
  machine.input('hello')
  await expect.poll(() => lines, { timeout: WITHIN_MS }).toContain('echo 1 hello')
})

test('bound to an IPv4 address it says nothing else', async () => {
  const { hypervisor, port, heard, neighbour } = bench()
  await started(hypervisor, port(MAC, ['10.0.0.1']))
  // From its own address to the neighbour's, or not from its own: the guest leaves addresses within frames as they are.
  const packet = (last: number): Uint8Array => {
    const bytes = Buffer.alloc(20)
    bytes[0] = 0x45
    bytes.set([10, 0, 0, last], 12)
    return frame(parseMac(MAC), parseMac(OTHER), ETHERTYPE.ipv4, bytes)
  }
  for (const each of [data(1, 40), packet(2), packet(1)]) neighbour.send(each)
  await count(heard, 1)
  expect(heard.map(each => each[HEADER_BYTES + 15])).toEqual([1])
})

test('its card goes with it when it moves', async () => {
  const { hypervisor, port, heard, neighbour } = bench()
  const [here, there] = [port(MAC), port(MAC)]
  const machine = await started(hypervisor, here)
  neighbour.send(data(1, 40))
  await count(heard, 1)
  const incoming = await hypervisor.receive(SPEC, [], [there])
  const outgoing = machine.send({ downtimeMs: 100, maxRounds: 5, whenDiverging: 'pause' })
  const loading = incoming.load(outgoing.stream)
  await outgoing.converged
  await outgoing.release(async () => null)
  await loading
  here.detach()
  neighbour.send(data(2, 40))
  const target = await incoming.run({ migration: 'm', vm: 'v', placementEpoch: 2 })
  machines.push(target)
  there.attach()
  neighbour.send(data(3, 40))
  await count(heard, 2)
  expect(behind(heard).map(text => text.slice(0, 7))).toEqual(['frame 1', 'frame 3'])
})
