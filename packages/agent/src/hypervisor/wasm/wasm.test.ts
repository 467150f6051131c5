// The wasm hypervisor on real threads and real time: the common contract, and what only it has.

import { Fen2Monitor } from '@stellwerk/protocol/monitors/fen2.ts'
import type { Violation } from '@stellwerk/protocol/monitors/monitor.ts'
import type { TraceEvent, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { compareHlc } from '@stellwerk/runtime/hlc.ts'
import { createClock } from '@stellwerk/runtime/node/clock.ts'
import { createCompute } from '@stellwerk/runtime/node/compute.ts'
import { createTimers } from '@stellwerk/runtime/node/timers.ts'
import { createTraceSink } from '@stellwerk/runtime/trace-sink.ts'
import { afterEach, expect, test } from 'vitest'
import { encodeEntry, LOG_START, ledgerTag, SCRATCH_BYTES, unitOffset, unitsOf } from '../../guests/ledger-format.ts'
import type { Machine, MachineEvent, MachineSpec } from '../hypervisor.ts'
import { hypervisorContract } from '../testing/contract.ts'
import { MemoryDisk } from '../testing/memory-disk.ts'
import { buildModule, SPIN, storeWord } from '../testing/module-builder.ts'
import { createRealEnvironment } from '../testing/real-environment.ts'
import { checkWasmDefinition } from './guest-image.ts'
import { WasmHypervisor } from './hypervisor.ts'
import { BLOCK, CONSOLE_OUT, NETWORK_OUT } from './layout.ts'
import { WasmMachine } from './machine.ts'

const until = async (predicate: () => boolean, limitMs: number): Promise<boolean> => {
  const clock = createClock()
  const end = clock.now() + limitMs
  while (!predicate()) {
    if (clock.now() > end) return false
    await new Promise(resolve => createTimers(clock).after(2, () => resolve(undefined)))
  }
  return true
}

hypervisorContract({
  name: 'wasm',
  open: async () => ({ env: createRealEnvironment(createCompute()), until, close: async () => undefined }),
  hypervisor: options => new WasmHypervisor(options),
  spec: (vm, load) => ({
    vm,
    hypervisor: 'wasm',
    guest: 'ledger',
    memoryBytes: 4 << 20,
    parameters: { writesPerSecond: 100, dirtyMiBPerSecond: load === 'heavy' ? 200 : 1 },
    identity: { epoch: 3, instance: 'i-1' },
  }),
  hopelessBytesPerEntry: 256 * 1024,
})

const machines: Machine[] = []

afterEach(async () => {
  await Promise.all(machines.splice(0).map(machine => machine.kill()))
})

interface Told {
  readonly machine: Machine
  readonly events: MachineEvent[]
  readonly lines: string[]
}

function listen(machine: Machine): Told {
  const told: Told = { machine, events: [], lines: [] }
  machines.push(machine)
  machine.onEvent(event => {
    told.events.push(event)
    if (event.kind === 'console') told.lines.push(event.line)
  })
  return told
}

const MEMORY_BYTES = 2 << 20
const PAUSE_MS = 400

function setUp(files: ReadonlyMap<string, Uint8Array> = new Map()) {
  const env = createRealEnvironment(createCompute(), files)
  const evidence: TraceEvent[] = []
  const hypervisor = new WasmHypervisor({
    env,
    mayExecute: () => true,
    until: () => Number.POSITIVE_INFINITY,
    evidence: event => evidence.push(event),
  })
  const spec = (guest: string, more: Partial<MachineSpec> = {}): MachineSpec => ({
    vm: 'v',
    hypervisor: 'wasm',
    guest,
    memoryBytes: MEMORY_BYTES,
    parameters: {},
    ...more,
  })
  return { env, hypervisor, spec, evidence }
}

async function eventually(what: string, predicate: () => boolean): Promise<void> {
  if (!(await until(predicate, 20_000))) throw new Error(`did not happen in time: ${what}`)
}

test('MIG3: exported globals and the guest clock move with the guest; the clock stands still on the way', async () => {
  const { hypervisor, spec } = setUp()
  const source = listen(await hypervisor.create(spec('echo'), [], []))
  source.machine.start()
  for (const word of ['one', 'two']) source.machine.input(word)
  await eventually('two answers', () => source.lines.length >= 3)
  expect(source.lines).toEqual(['boot', 'echo 1 one', 'echo 2 two'])
  const whole = createClock()
  const start = whole.now()
  source.machine.input('status')
  await eventually('its clock', () => source.lines.length >= 4)
  const clock = (line: string | undefined) => Number(/clock (\d+)/.exec(line ?? '')?.[1])
  const before = clock(source.lines[3])

  const incoming = await hypervisor.receive(spec('echo'), [], [])
  const outgoing = source.machine.send({ downtimeMs: 100, maxRounds: 5, whenDiverging: 'abort' })
  const loading = incoming.load(outgoing.stream)
  await outgoing.converged
  await outgoing.release(async () => null)
  await loading
  await until(() => false, PAUSE_MS)
  const target = listen(await incoming.run({ migration: 'm', vm: 'v', placementEpoch: 2 }))
  target.machine.input('three')
  target.machine.input('status')
  await eventually('two answers', () => target.lines.length >= 2)
  expect(target.lines[0]).toBe('echo 4 three')
  const after = clock(target.lines[1])
  expect(after).toBeGreaterThanOrEqual(before)
  // Less than passed outside by at least most of the pause that it slept through.
  expect(after - before).toBeLessThan(whole.now() - start - PAUSE_MS / 2)
})

test('a guest asked to shut down answers what it was given before, and ends, though it slept', async () => {
  const { hypervisor, spec } = setUp()
  const { machine, lines, events } = listen(await hypervisor.create(spec('echo'), [], []))
  machine.start()
  await eventually('it has booted', () => lines.length >= 1)
  for (const word of ['one', 'two']) machine.input(word)
  expect(machine.shutdown()).toBe(true)
  await eventually('it halted', () => events.some(event => event.kind === 'halted'))
  expect(lines).toEqual(['boot', 'echo 1 one', 'echo 2 two'])
})

test('what it was asked goes with a guest that is migrated', async () => {
  const { hypervisor, spec } = setUp()
  const source = listen(await hypervisor.create(spec('echo'), [], []))
  source.machine.start()
  await eventually('it has booted', () => source.lines.length >= 1)
  const incoming = await hypervisor.receive(spec('echo'), [], [])
  const outgoing = source.machine.send({ downtimeMs: 100, maxRounds: 5, whenDiverging: 'abort' })
  const loading = incoming.load(outgoing.stream)
  await outgoing.converged
  await source.machine.freeze('so that it hears of it at the target')
  expect(source.machine.shutdown()).toBe(true)
  await outgoing.release(async () => null)
  await loading
  const target = listen(await incoming.run({ migration: 'm', vm: 'v', placementEpoch: 2 }))
  await eventually('it halted', () => target.events.some(event => event.kind === 'halted'))
})

/** A guest that is busy all the time; while its lease runs out, the agent's own thread stands still for longer than that. */
async function outlastLease(deadline: (leaseEnd: number) => number) {
  const env = createRealEnvironment(createCompute())
  const fen2 = new Fen2Monitor()
  const violations: Violation[] = []
  let leaseEnd = Number.POSITIVE_INFINITY
  let steps = 0
  const grant = (leaseMs: number): void => {
    leaseEnd = env.clock.now() + leaseMs
    judge({ level: 'message', kind: 'lease.granted', body: { epoch: 1, leaseMs } })
  }
  const judge = (event: TraceEvent): void => {
    if (event.kind === 'guest.step') steps += 1
    const found = fen2.observe({ host: 'host-a', ...event } as TraceRecord, env.clock.now())
    if (found !== null) violations.push(found)
  }
  const hypervisor = new WasmHypervisor({
    env,
    mayExecute: () => env.clock.now() < leaseEnd,
    until: () => deadline(leaseEnd),
    evidence: judge,
  })
  const { spec } = setUp()
  const busy = spec('ledger', { parameters: { dirtyMiBPerSecond: 100 }, identity: { epoch: 1, instance: 'i' } })
  const told = listen(await hypervisor.create(busy, [], []))
  grant(60_000)
  told.machine.start()
  await eventually('it has booted', () => told.lines.length >= 2)
  grant(600)
  // Longer than the agent takes to look at it again.
  await until(() => false, 250)
  while (env.clock.now() < leaseEnd + 600);
  await eventually('it freezes by itself', () => told.events.some(event => event.kind === 'frozen'))
  return { ...told, violations, steps: () => steps, renew: () => grant(60_000) }
}

test('FEN2: no step begins past the deadline, though the agent stands still; it goes on with a later one', async () => {
  const { machine, steps, violations, renew } = await outlastLease(leaseEnd => leaseEnd)
  expect(violations).toEqual([])
  const before = steps()
  renew()
  machine.thaw()
  await eventually('it runs again', () => steps() > before)
  expect(violations).toEqual([])
})

test('FEN2 sees a guest whose thread pays no heed to the deadline', async () => {
  const { violations } = await outlastLease(() => Number.POSITIVE_INFINITY)
  expect(violations.map(({ rule }) => rule)).toContain('FEN2')
})

test('VM2: what a host says after it slept in the middle is stamped before it asked for the right to say it', async () => {
  const { env: quiet, spec } = setUp()
  const env = { ...quiet, trace: createTraceSink('host-a', quiet.clock, null) }
  let asked = env.trace.stamp()
  const late: string[] = []
  const hypervisor = new WasmHypervisor({
    env,
    mayExecute: () => {
      asked = env.trace.stamp()
      return true
    },
    until: () => Number.POSITIVE_INFINITY,
    evidence: () => undefined,
  })
  const { machine, lines } = listen(await hypervisor.create(spec('echo'), [], []))
  machine.onEvent(event => {
    if (event.kind === 'console' && compareHlc(event.said, asked) >= 0) late.push(event.line)
  })
  machine.start()
  machine.input('word')
  await eventually('it answers', () => lines.length >= 2)
  expect(late).toEqual([])
})

test('an idle guest executes nothing at all', async () => {
  const { hypervisor, spec, evidence } = setUp()
  const { machine, lines } = listen(await hypervisor.create(spec('echo'), [], []))
  machine.start()
  await eventually('it has booted', () => lines.length >= 1)
  await until(() => false, 300)
  const steps = evidence.length
  await until(() => false, 500)
  expect(evidence.length).toBe(steps)
  machine.input('there?')
  await eventually('it wakes', () => lines.length >= 2)
})

test('a log of 100,000 entries is read back and checked at boot', async () => {
  const { env, hypervisor, spec } = setUp()
  const disk = new MemoryDisk(env.timers, 72 << 20)
  const entries = 100_000
  let previous = 0
  for (let entry = 1; entry <= entries; entry++) {
    const start = LOG_START + unitOffset(entry) * 512
    previous = encodeEntry(
      disk.bytes.subarray(start, start + unitsOf(entry) * 512),
      entry,
      ledgerTag('v'),
      previous,
      512,
    )
  }
  const { machine, lines } = listen(await hypervisor.create(spec('ledger'), [disk], []))
  machine.start()
  await eventually('the first new entry', () => lines.length >= 3)
  expect(lines).toEqual(['boot', 'recovered 100000 intact', 'ack 100001'])
})

test('a full log is said and ends nothing', async () => {
  const { env, hypervisor, spec } = setUp()
  const disk = new MemoryDisk(env.timers, LOG_START + SCRATCH_BYTES + 10 * 512)
  const parameters = { writesPerSecond: 500 }
  const first = listen(await hypervisor.create(spec('ledger', { parameters }), [disk], []))
  first.machine.start()
  await eventually('the log is full', () => first.lines.some(line => line === 'log full after 8'))
  expect(first.machine.state).toBe('running')
  await first.machine.kill()
  const second = listen(await hypervisor.create(spec('ledger', { parameters }), [disk], []))
  second.machine.start()
  await eventually('it is still', () => second.lines.length >= 3)
  expect(second.lines).toEqual(['boot', 'recovered 8 intact', 'log full after 8'])
})

test('memory damaged behind the back of the ledger guest is noticed by it', async () => {
  const { hypervisor, spec } = setUp()
  const machine = await hypervisor.create(spec('ledger', { parameters: { dirtyMiBPerSecond: 50 } }), [], [])
  const { lines } = listen(machine)
  machine.start()
  await eventually('it has booted', () => lines.length >= 2)
  await until(() => false, 100)
  await machine.freeze('test')
  if (!(machine instanceof WasmMachine)) throw new Error('not a wasm machine')
  machine.memory[MEMORY_BYTES - 2000]! ^= 1
  machine.thaw()
  await eventually('it notices', () => lines.some(line => line.startsWith('memory damaged page')))
})

test('a guest that never ends its step is killed all the same', async () => {
  const { hypervisor, spec } = setUp(new Map([['spin.wasm', buildModule(SPIN)]]))
  const { machine } = listen(await hypervisor.create(spec('spin.wasm'), [], []))
  machine.start()
  await until(() => false, 50)
  expect(await machine.kill()).toEqual({ vm: 'v' })
})

test('a guest that breaks a ring crashes, whatever it writes there', async () => {
  for (const [address, value] of [
    [BLOCK.submitted, 1000],
    [CONSOLE_OUT.produced, 100_000],
    [CONSOLE_OUT.produced, 8192],
    [NETWORK_OUT.produced, -1],
  ] as const) {
    const { hypervisor, spec } = setUp(new Map([['bad.wasm', buildModule(storeWord(address, value))]]))
    const { machine, events } = listen(await hypervisor.create(spec('bad.wasm'), [], []))
    machine.start()
    await eventually('it crashed', () => events.some(event => event.kind === 'crashed'))
    expect(machine.state).toBe('dead')
  }
})

test('guests, memory sizes and parameters that make no sense are refused with what to do', async () => {
  const { hypervisor, spec } = setUp(new Map([['rubbish.wasm', Buffer.from('rubbish')]]))
  const refused = (wrong: MachineSpec) => hypervisor.create(wrong, [], [])
  await expect(refused(spec('ledgre'))).rejects.toMatchObject({
    code: 'bad-guest',
    hint: expect.stringContaining('ledger'),
  })
  await expect(refused(spec('rubbish.wasm'))).rejects.toMatchObject({ code: 'bad-guest' })
  for (const memoryBytes of [0, 65_536, MEMORY_BYTES + 1, 2 ** 40]) {
    const wrong = spec('echo', { memoryBytes })
    await expect(refused(wrong)).rejects.toMatchObject({ code: 'bad-memory-size' })
    expect(() => checkWasmDefinition(wrong, 0, 0)).toThrow(expect.objectContaining({ code: 'bad-memory-size' }))
  }
  for (const parameters of [
    { dirtyRate: 1 },
    { writesPerSecond: -1 },
    { writesPerSecond: 'many' },
    { dirtyMiBPerSecond: 1e30 },
    { workingSetMiB: Number.NaN },
  ]) {
    const wrong = spec('ledger', { parameters })
    await expect(refused(wrong)).rejects.toMatchObject({ code: 'bad-parameter' })
    expect(() => checkWasmDefinition(wrong, 0, 0)).toThrow(expect.objectContaining({ code: 'bad-parameter' }))
  }
  // Also of a module that only the hosts look into.
  const long = spec(`sha256:${'0'.repeat(64)}`, { parameters: { text: 'x'.repeat(3_000) } })
  expect(() => checkWasmDefinition(long, 0, 0)).toThrow(expect.objectContaining({ code: 'bad-parameter' }))
  expect(() => checkWasmDefinition(spec('ledger'), 2, 0)).toThrow(expect.objectContaining({ code: 'bad-machine' }))
  checkWasmDefinition(spec('ledger'), 1, 0)
})
