// Exports in the simulated cluster: a tool writes by NBD while hosts, links, storages and the coordinator fail. The rules'
// monitors judge the disk's history and the export's right to serve, as they do for guests.

import type { BlockDevice, BlockError } from '@stellwerk/block/device.ts'
import { connectNbd } from '@stellwerk/block/nbd/client.ts'
import { exportOf } from '@stellwerk/coordinator/core/exports.ts'
import type { CheckAnswer } from '@stellwerk/protocol/messages/volume-check.ts'
import { createMonitors } from '@stellwerk/protocol/monitors/all-monitors.ts'
import type { Environment, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { SimRandom } from '@stellwerk/runtime/sim/random.ts'
import { GIB, MIB } from '@stellwerk/runtime/units.ts'
import { expect, it } from 'vitest'
import { FAULTS as ALL_FAULTS } from '../../packages/cli/src/simulation/faults.ts'
import { COORDINATOR_HOST, World } from '../../packages/cli/src/simulation/world.ts'
import { startWithVolume, TIMEOUT } from './support.ts'

/** There is no storage without epochs here, and no QEMU; and of the only leg's sectors that can't be read a check tells, rightly. */
const ELSEWHERE: ReadonlySet<string> = new Set(['qemu-kill', 'qemu-pause', 'sector-errors'])
const FAULTS = ALL_FAULTS.filter(kind => kind.external !== true && !ELSEWHERE.has(kind.name))

const HOSTS = ['host-a', 'host-b', 'host-c']
const SETTLE_MS = 20_000
const SOCKET = '/run/export.sock'
const DISK_BYTES = 8 * MIB
const BLOCK = 4096

interface Run {
  readonly world: World
  readonly records: TraceRecord[]
  readonly monitors: ReturnType<typeof createMonitors>
  readonly random: SimRandom
  /** Requests that were answered well, by the tool's account. */
  answered: number
  /** Of its fast zeroes: those that were written. */
  zeroed: number
  /** What the volume's owner found, each time that it answered. */
  readonly checks: CheckAnswer[]
}

/** A cluster with a VM that acknowledges for a while and is stopped then, so that its disk can be exported. */
async function begin(
  seed: string,
  legs: readonly string[] = ['san-a'],
  external: readonly string[] = [],
): Promise<Run> {
  const settings = { seed, hosts: HOSTS, storages: ['san-a', 'san-b'], settings: {}, hostMemoryBytes: 4 * GIB }
  const world = new World({ ...settings, external })
  const monitors = createMonitors({ fen2: { driftFraction: world.settings.drift } })
  const run: Run = {
    world,
    records: [],
    monitors,
    random: new SimRandom(`exports/${seed}`),
    answered: 0,
    zeroed: 0,
    checks: [],
  }
  world.sim.onRecord(record => {
    monitors.observe(record, world.sim.now)
    if (record.level === 'decision') run.records.push(record)
  })
  world.sim.program('tool', (env: Environment) => write(env, run))
  await startWithVolume(world, legs)
  world.command({
    kind: 'vm-create',
    name: 'vm-1',
    spec: { hypervisor: 'model', guest: 'ledger', memoryBytes: 256 * MIB, parameters: {} },
    disks: [{ volume: 'csv1', sizeBytes: DISK_BYTES }],
    start: true,
    priority: 0,
    host: null,
  })
  expect(await world.sim.runUntil(() => vm(world)?.placement?.phase === 'running', SETTLE_MS)).toBe(true)
  await world.sim.runFor(2_000)
  world.command({ kind: 'vm-stop', name: 'vm-1' })
  expect(await world.sim.runUntil(() => vm(world)?.placement === null, SETTLE_MS)).toBe(true)
  return run
}

const vm = (world: World) => world.coordinator?.state.vms.get('vm-1')
const exported = ({ world }: Run) => exportOf(world.coordinator!.state, 'csv1', 'vm-1-0')

async function serve(run: Run, id: string): Promise<string> {
  const { world } = run
  let code = ''
  const command = { kind: 'disk-export', id, volume: 'csv1', disk: 'vm-1-0', readOnly: false } as const
  world.command({ ...command, host: null, socket: SOCKET, port: 0 }, result => {
    code = result.code
  })
  expect(await world.sim.runUntil(() => exported(run)?.placement?.phase === 'running', SETTLE_MS)).toBe(true)
  expect(code).toBe('')
  return exported(run)?.placement?.host ?? ''
}

/** Writes past the ledger's log and reads back what it wrote, until its connection is gone; then it dials again. */
async function write(env: Environment, run: Run): Promise<void> {
  const io = { origin: 'tool', deadlineAt: null }
  const pause = (ms: number) => new Promise<void>(resolve => env.timers.after(ms, resolve))
  for (let turn = 0; ; turn++) {
    try {
      const stream = await env.network.dialStream({ network: 'local', host: SOCKET, port: 0 })
      const disk = await connectNbd(stream, { exportName: '', timers: env.timers })
      for (;;) {
        const at = DISK_BYTES / 2 + run.random.int(64) * BLOCK
        const data = new Uint8Array(BLOCK).fill(1 + (turn % 255))
        await disk.write(at, [data], { fua: true }, io)
        const read = Buffer.concat(await disk.read(at, BLOCK, io))
        expect(read.equals(Buffer.from(data))).toBe(true)
        run.answered += 2
        if (turn % 3 === 0) await zeroFast(disk, at, data, run)
        turn += 1
        await pause(20)
      }
    } catch (error) {
      // Refused, or cut off: the export is not there now.
      if (typeof (error as Partial<BlockError>).code !== 'string') throw error
      await pause(100)
    }
  }
}

/** They may be refused where they would not be fast: then nothing has changed. */
async function zeroFast(disk: BlockDevice, at: number, written: Uint8Array, run: Run): Promise<void> {
  const io = { origin: 'tool', deadlineAt: null }
  const isZeroed = await disk.zero(at, written.length, { fua: true, fast: true }, io).then(
    () => true,
    (error: BlockError) => {
      if (error.errno !== 'ENOTSUP') throw error
      return false
    },
  )
  if (isZeroed) run.zeroed += 1
  const read = Buffer.concat(await disk.read(at, written.length, io))
  expect(read.equals(isZeroed ? Buffer.alloc(written.length) : Buffer.from(written))).toBe(true)
}

/** The volume is proved while it is in use, whatever else happens; who does not answer proves nothing. */
function check({ world, checks }: Run): void {
  const { coordinator, sim } = world
  const process = sim.host(COORDINATOR_HOST).process('coordinator')
  if (coordinator === null || process === null) return
  sim.enter(process, () => {
    coordinator.askOwner('csv1', 'volume.check', { volume: 'csv1' }).then(
      answer => checks.push(answer as CheckAnswer),
      () => undefined,
    )
  })
}

function sound({ monitors, world, checks }: Run): void {
  expect(checks.flatMap(({ findings }) => findings.filter(({ severity }) => severity !== 'degraded'))).toEqual([])
  expect([...monitors.violations, ...monitors.finish(world.sim.now)]).toEqual([])
}

it(
  'an export that loses its right to run neither writes nor answers until it has it again (FEN2)',
  async () => {
    const run = await begin('export-freeze')
    const { world, records } = run
    const host = await serve(run, 'e1')
    world.sim.host(host).spawn('tool', 'tool', null)
    await world.sim.runFor(2_000)
    expect(run.answered).toBeGreaterThan(20)
    // Its guardian takes note of no deadline any more: storage would take its writes, but its right to run ends.
    const guardian = world.sim.host(host).process(`${host}/guardian`)
    guardian?.pause()
    await world.sim.runFor(5_000)
    const frozen = records.findLast(record => record.kind === 'vm.halt' && record.vm === 'export-e1')
    expect(frozen?.body).toMatchObject({ how: 'frozen' })
    const before = run.answered
    await world.sim.runFor(2_000)
    expect(run.answered).toBe(before)
    guardian?.resume()
    await world.sim.runFor(5_000)
    expect(exported(run)?.placement?.host).toBe(host)
    expect(run.answered).toBeGreaterThan(before)
    sound(run)
  },
  TIMEOUT.timeout,
)

it(
  'an export whose host crashes is fenced and freed, and its VM starts on what it wrote',
  async () => {
    const run = await begin('export-crash')
    const { world, records } = run
    const host = await serve(run, 'e1')
    world.sim.host(host).spawn('tool', 'tool', null)
    await world.sim.runFor(2_000)
    let refused = ''
    world.command({ kind: 'vm-start', name: 'vm-1', host: null }, ({ code }) => {
      refused = code
    })
    await world.sim.runFor(200)
    expect(refused).toBe('disk-exported')
    world.sim.host(host).crash({ unsynced: 'lost' })
    expect(await world.sim.runUntil(() => exported(run) === null, SETTLE_MS)).toBe(true)
    world.command({ kind: 'vm-start', name: 'vm-1', host: null })
    expect(await world.sim.runUntil(() => vm(world)?.placement?.phase === 'running', SETTLE_MS)).toBe(true)
    expect(records.some(record => record.kind === 'decision.fenced')).toBe(true)
    await world.sim.runFor(2_000)
    sound(run)
  },
  TIMEOUT.timeout,
)

it(
  'fast zeroes that only one leg of a mirror can serve are written, and neither is given up for them (MIR1)',
  async () => {
    const run = await begin('export-zeroes', ['san-a', 'nas'], ['nas'])
    const { world } = run
    const volume = () => world.coordinator!.state.volumes.get('csv1')!
    const { generation } = volume()
    world.sim.host(await serve(run, 'e1')).spawn('tool', 'tool', null)
    await world.sim.runFor(5_000)
    expect(run.zeroed).toBeGreaterThan(10)
    expect(volume()).toMatchObject({ generation, legs: [{ role: 'in-sync' }, { role: 'in-sync' }] })
    sound(run)
  },
  TIMEOUT.timeout,
)

const SEEDS = ['e-1', 'e-2', 'e-3', 'e-4', 'e-5', 'e-6']

it.each(SEEDS)(
  'under any faults the rules hold, and the VM runs in the end (seed %s)',
  async seed => {
    const run = await begin(seed)
    const { world, random } = run
    for (const host of HOSTS) world.sim.host(host).spawn('tool', 'tool', null)
    for (let round = 0; round < 6; round++) {
      if (world.coordinator !== null && exported(run) === null) {
        const command = {
          kind: 'disk-export',
          id: `r${round}`,
          volume: 'csv1',
          disk: 'vm-1-0',
          readOnly: false,
        } as const
        world.command({ ...command, host: null, socket: SOCKET, port: 0 })
      }
      await world.sim.runFor(1_000 + random.int(2_000))
      check(run)
      const kind = FAULTS[random.int(FAULTS.length)]!
      const host = (world.coordinator === null ? null : exported(run))?.placement?.host ?? HOSTS[random.int(3)]!
      const end = kind.begin({ world, random, host, storage: 'san-a', struck: () => undefined, inPhase: null })
      await world.sim.runFor(kind.lasts[0] + random.int(kind.lasts[1] - kind.lasts[0]))
      end()
      for (const each of HOSTS) {
        const machine = world.sim.host(each)
        if (machine.powered && !machine.process('tool')?.alive) machine.spawn('tool', 'tool', null)
      }
      if (random.chance(0.3)) world.command({ kind: 'disk-unexport', volume: 'csv1', disk: 'vm-1-0' })
    }
    world.sim.network.healAll()
    for (const host of world.sim.hosts) {
      host.resume()
      host.disk.healAll()
      host.setClockRate(1)
    }
    world.startStorage('san-a')
    world.startStorage('san-b')
    world.startCoordinator()
    for (const host of HOSTS) world.startHost(host)
    await world.sim.runFor(20_000)
    expect(run.answered).toBeGreaterThan(0)
    expect(run.checks.length).toBeGreaterThan(0)
    world.command({ kind: 'disk-unexport', volume: 'csv1', disk: 'vm-1-0' })
    expect(await world.sim.runUntil(() => exported(run) === null, SETTLE_MS)).toBe(true)
    world.command({ kind: 'vm-start', name: 'vm-1', host: null })
    expect(await world.sim.runUntil(() => vm(world)?.placement?.phase === 'running', SETTLE_MS)).toBe(true)
    await world.sim.runFor(2_000)
    sound(run)
  },
  TIMEOUT.timeout,
)
