// Chaos on this machine, at length: every fault that a plan can name, one after the other, with its effect seen in the cluster's
// own records; single acts from the command line; and what is left of a run that was killed.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Status } from '@stellwerk/coordinator/view/schemas.ts'
import { identifyProcess } from '@stellwerk/runtime/node/pid-record.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { FAULT_KINDS, type Fault } from '../../packages/cli/src/chaos/fault.ts'
import { monitorsOn, rulesOn } from '../../packages/cli/src/chaos/judge/rules.ts'
import { LocalTarget } from '../../packages/cli/src/chaos/local/local-target.ts'
import { alive, Stellwerk } from '../processes/stellwerk.ts'

const LONG = 600_000
const LIVELY_MS = 10_000
const SETUP = {
  seed: '1',
  cluster: { hosts: ['host-a', 'host-b', 'host-c'], storages: ['san-a', 'san-b'] },
  workload: { vms: 3, memoryBytes: 16 * MIB, dirtyBytesPerSecond: MIB / 2, writesPerSecond: 20 },
}

type Drawn = Omit<Fault, 'id' | 'atMs'> & {
  /** A record that it leads to: its kind, and what its text has. */
  readonly seen?: readonly [kind: string, text?: RegExp]
  readonly restMs?: number
}

const FAULTS: readonly Drawn[] = [
  { kind: 'agent-kill', host: 'host-a', lastsMs: 2_000, seen: ['process.dead', /host-a/] },
  { kind: 'host-kill', host: 'host-b', lastsMs: 4_000, seen: ['host.verdict', /host-b.*(gone|isolated|suspect)/] },
  // Back before its lease has run out: its guardian attests the end of what ran there.
  { kind: 'host-kill', host: 'host-a', lastsMs: 300, seen: ['process.dead', /host-a\/guardian/], restMs: 6_000 },
  { kind: 'host-pause', host: 'host-c', lastsMs: 6_000, seen: ['host.verdict', /host-c/], restMs: 4_000 },
  { kind: 'host-restart', host: 'host-a', lastsMs: 1_000, restMs: 4_000 },
  { kind: 'coordinator-kill', lastsMs: 1_000 },
  { kind: 'coordinator-pause', lastsMs: 2_000 },
  { kind: 'storage-kill', storage: 'san-a', lastsMs: 4_000, seen: ['decision.generation', /san-a/], restMs: 4_000 },
  { kind: 'storage-pause', storage: 'san-b', lastsMs: 5_000, seen: ['decision.generation', /san-b/], restMs: 5_000 },
  { kind: 'host-isolate', host: 'host-b', lastsMs: 6_000, seen: ['host.fenced', /host-b/], restMs: 5_000 },
  { kind: 'partition', host: 'host-a', peer: 'coordinator', network: 'cluster', oneWay: true, lastsMs: 3_000 },
  {
    kind: 'ports-closed',
    host: 'host-b',
    peer: 'san-a',
    network: 'fabric-0',
    lastsMs: 4_000,
    seen: ['hba.failed', /host-b.*fabric-0/],
  },
  { kind: 'loss', host: 'host-a', chance: 0.1, lastsMs: 2_000 },
  { kind: 'delay', host: 'host-b', delayMs: 20, jitterMs: 10, lastsMs: 2_000 },
  { kind: 'duplicate', host: 'host-c', chance: 0.3, lastsMs: 3_000 },
  { kind: 'slow-link', host: 'host-a', network: 'cluster', mibPerSecond: 4, lastsMs: 2_000 },
  { kind: 'cable-pull', host: 'host-c', fabric: 0, lastsMs: 4_000, seen: ['hba.failed', /host-c.*fabric-0/] },
  { kind: 'fabric-down', fabric: 1, lastsMs: 4_000, seen: ['hba.failed', /fabric-1/], restMs: 3_000 },
  { kind: 'disk-slow', storage: 'san-a', delayMs: 80, jitterMs: 40, lastsMs: 3_000 },
  { kind: 'io-error', storage: 'san-a', chance: 0.5, lastsMs: 3_000, restMs: 5_000 },
  { kind: 'disk-full', storage: 'san-b', lastsMs: 3_000, restMs: 5_000 },
  { kind: 'corrupt-block', storage: 'san-b', lastsMs: 500, seen: ['scrub.found'] },
  { kind: 'clock-jump', host: 'host-a', byMs: 288_000, lastsMs: 2_000 },
]

test('every fault has its effect, is healed, breaks no rule and loses nothing', { timeout: LONG }, async () => {
  expect(new Set(FAULTS.map(({ kind }) => kind))).toEqual(new Set(FAULT_KINDS))
  // What a failure has left is worth a look.
  let held = false
  const target = new LocalTarget({ keep: () => !held })
  const times: { readonly id: number; readonly from: number; to: number }[] = []
  try {
    await target.setUp(SETUP)
    for (const [i, { seen: _seen, restMs = 2_000, ...drawn }] of FAULTS.entries()) {
      const fault: Fault = { ...drawn, id: i + 1, atMs: target.now() }
      const time = { id: fault.id, from: target.now(), to: 0 }
      await target.inject(fault)
      await target.until(target.now() + fault.lastsMs, () => false)
      await target.heal(fault)
      await target.until(target.now() + restMs, () => false)
      time.to = target.now()
      times.push(time)
    }
    await target.healAll(LIVELY_MS)
    await target.until(target.now() + 1.1 * LIVELY_MS, () => false)
    expect(await target.finish()).toEqual([])
    const monitors = monitorsOn('local', rulesOn('local'), undefined)
    const wanted = new Map(FAULTS.flatMap(({ kind, seen }, i) => (seen === undefined ? [] : [[i + 1, { kind, seen }]])))
    const missing = new Map(wanted)
    for await (const { record, now } of target.records()) {
      monitors.observe(record)
      const text = JSON.stringify({ process: record.process, host: record.host, body: record.body })
      for (const [id, { seen }] of missing) {
        const time = times[id - 1]
        const within = time !== undefined && now >= time.from && now <= time.to
        if (within && record.kind === seen[0] && (seen[1] ?? /./).test(text)) missing.delete(id)
      }
    }
    expect(monitors.finish()).toEqual([])
    expect([...missing.values()]).toEqual([])
    held = true
  } finally {
    await target.close()
  }
})

describe('on the command line', () => {
  let stellwerk: Stellwerk
  beforeEach(() => {
    stellwerk = new Stellwerk('chaos-acts')
    stellwerk.environment['TMPDIR'] = stellwerk.directory
  })
  afterEach(() => stellwerk.remove())

  const status = () => stellwerk.json<Status>('status')
  const say = async (...words: string[]) => {
    const { code, lines } = await stellwerk.run('chaos', ...words)
    expect([words, code, lines]).toEqual([words, 0, lines])
    return lines.join('\n')
  }

  test('a cluster that is up is broken act by act, says so, and one heal puts all of it right', {
    timeout: LONG,
  }, async () => {
    await stellwerk.run('up', '--detach', '--profile', 'lab', '--chaos', '--guests')
    expect(await say('status')).toBe('nothing is broken')
    await say('kill', 'agent', 'host-a')
    await say('pause', 'host', 'host-b')
    // The end of either would be the end of both.
    expect((await stellwerk.run('chaos', 'pause', 'host', 'host-b')).lines.join('\n')).toMatch(/stands still already/)
    expect((await stellwerk.run('chaos', 'inject', 'clock-jump', '--storage', 'san-a')).lines.join('\n')).toMatch(
      /clock-jump has no --storage/,
    )
    await say('cut', 'cable', 'host-c', '0')
    await say('kill', 'storage', 'san-a')
    expect((await say('status')).split('\n').map(line => line.trim().split(/\s{2,}/)[1])).toEqual([
      'FAULT',
      'agent-kill of host-a',
      'host-pause of host-b',
      'cable-pull of host-c on fabric-0',
      'storage-kill of san-a',
    ])
    await expect
      .poll(async () => (await status()).paths['host-c/fabric-0/san-b']?.state, { timeout: 60_000 })
      .not.toBe('up')
    await expect.poll(async () => (await status()).hosts['host-b']?.state, { timeout: 60_000 }).not.toBe('up')
    expect(await say('heal')).toMatch(/healed: storage-kill of san-a/)
    expect(await say('heal')).toBe('nothing is broken')
    const whole = async () => {
      const { hosts, vms, volumes } = await status()
      const legs = Object.values(volumes).flatMap(volume => volume.legs.map(({ role }) => role))
      return [...Object.values(hosts), ...Object.values(vms)].map(({ state }) => state).concat(legs)
    }
    const all = ['up', 'up', 'up', 'running', 'running', 'running', 'in-sync', 'in-sync']
    await expect.poll(whole, { timeout: 120_000, interval: 500 }).toEqual(all)
    expect(await say('pause', 'coordinator', '--seconds', '1')).toMatch(/is healed/)
    await stellwerk.run('down')
  })

  test('without the switch, networks are left alone, with a hint; a process can still be killed', {
    timeout: LONG,
  }, async () => {
    await stellwerk.run('up', '--detach', '--profile', 'lab', '--hosts', '1')
    await say('kill', 'storage', 'san-a')
    await say('kill', 'storage', 'san-b')
    expect(await say('heal', '1')).toMatch(/healed: storage-kill of san-a/)
    // What another fault has taken stays as it is.
    expect(await say('status')).toMatch(/storage-kill of san-b/)
    const path = async (storage: string) => (await status()).paths[`host-a/fabric-0/${storage}`]?.state
    await expect.poll(() => path('san-a'), { timeout: 60_000 }).toBe('up')
    expect(await path('san-b')).not.toBe('up')
    expect(await say('heal')).toMatch(/healed: storage-kill of san-b/)
    const { code, lines } = await stellwerk.run('chaos', 'cut', 'host', 'host-a')
    expect([code, lines.join()]).toEqual([1, expect.stringMatching(/up --chaos/)])
    expect(await say('status')).toBe('nothing is broken')
    await say('kill', 'agent', 'host-a')
    expect(await say('heal')).toMatch(/healed: agent-kill/)
    await stellwerk.run('down')
  })

  test('a run that was killed with everything broken leaves no process and nothing broken behind a heal', {
    timeout: LONG,
  }, async () => {
    const target = join(import.meta.dirname, '../../packages/cli/src/chaos/local/local-target.ts')
    const program = `
      import { LocalTarget } from ${JSON.stringify(target)}
      const target = new LocalTarget()
      await target.setUp(${JSON.stringify(SETUP)})
      await target.inject({ id: 1, kind: 'host-pause', atMs: 0, lastsMs: 0, host: 'host-a' })
      await target.inject({ id: 2, kind: 'storage-pause', atMs: 0, lastsMs: 0, storage: 'san-a' })
      await target.inject({ id: 3, kind: 'host-isolate', atMs: 0, lastsMs: 0, host: 'host-b' })
      console.log('broken')
      setInterval(() => undefined, 1_000)`
    const driver = spawn(process.execPath, ['--input-type=module', '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, ...stellwerk.environment },
    })
    await once(driver.stdout, 'data')
    const [scratch = ''] = readdirSync(stellwerk.directory).filter(name => name.startsWith('stellwerk-chaos-'))
    const directory = join(stellwerk.directory, scratch)
    // It is under way: nobody else touches it.
    const early = await stellwerk.run('chaos', 'heal', '--dir', directory)
    expect([early.code, early.lines.join()]).toEqual([1, expect.stringMatching(/a run has that cluster in hand/)])
    driver.kill('SIGKILL')
    await once(driver, 'exit')
    const pids = stellwerk.pidsBelow(directory)
    await expect.poll(() => alive(pids).length, { timeout: 30_000 }).toBeLessThanOrEqual(3)
    // What stands still can't notice that its parent is gone.
    expect(alive(pids).length).toBe(3)
    const healed = await stellwerk.run('chaos', 'heal')
    expect([healed.code, healed.lines.join('\n')]).toEqual([
      0,
      expect.stringMatching(/healed: host-pause of host-a[\s\S]*healed: storage-pause of san-a[\s\S]*its next start/),
    ])
    await expect.poll(() => alive(pids), { timeout: 60_000 }).toEqual([])
    expect(JSON.parse(readFileSync(join(directory, 'chaos', 'journal.json'), 'utf8')).broken).toEqual([])
    expect(identifyProcess(driver.pid ?? 0)).toBeNull()
  })
})
