// Real machines that are moved while something breaks: an HBA, all paths, a leg of the mirror, the volume's owner, the agent at
// either end in each phase, the machine itself, a host that is cut off from everything. Each time one machine runs on, with every
// entry that its guest had called durable.

import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFailed } from 'vitest'
import { childrenBelow, type Running, Stellwerk } from '../processes/stellwerk.ts'
import { qemu, tinyImageFile } from './tiny-image.ts'

const LONG = 600_000
const PATIENT = { timeout: 300_000, interval: 200 }
const isLong = process.env['STELLWERK_LONG'] !== undefined
const HOSTS = ['host-a', 'host-b', 'host-c']

interface Vm {
  readonly state: string
  readonly host: string | null
}
interface Migration {
  readonly id: string
  readonly phase: string
}

describe.skipIf(qemu.missing || !isLong)(`a Linux guest that is moved while something breaks, on ${qemu.note}`, () => {
  const stellwerk = new Stellwerk('moved')
  let said: Running
  let events: Running

  beforeAll(async () => {
    const env = createEnvironment({ name: 'test', directory: join(stellwerk.directory, 'env'), store: memoryStore() })
    copyFileSync(await tinyImageFile(env.processes), join(stellwerk.directory, 'tiny.boot'))
    await env.close()
    const words = ['--hosts', '3', '--chaos', '--supervise', '--profile', 'production']
    await stellwerk.start('up', ...words).said(/^up after/)
  }, LONG)

  afterAll(() => stellwerk.remove(), LONG)

  afterEach(async () => {
    await stellwerk.run('chaos', 'heal')
    const { lines } = said
    expect(lines.filter(line => /damaged|disk error/.test(line))).toEqual([])
    // Whatever it had called durable it finds when it boots anew.
    let durable = 0
    for (const line of lines) {
      durable = Math.max(durable, Number(/^ack (\d+)$/.exec(line)?.[1] ?? 0))
      const found = /^recovered (\d+) (\w+)$/.exec(line)
      if (found !== null && found[1] !== '0') expect([Number(found[1]) >= durable, found[2]]).toEqual([true, 'intact'])
    }
  }, LONG)

  const vm = () => stellwerk.json<Vm>('vm', 'show', 'tux')
  const acknowledged = () => said.lines.flatMap(line => /^ack (\d+)$/.exec(line)?.[1] ?? []).map(Number)
  const boots = () => said.lines.filter(line => line.startsWith('recovered')).length
  const goesOn = async () => {
    const last = acknowledged().at(-1) ?? 0
    await expect.poll(() => acknowledged().at(-1) ?? 0, PATIENT).toBeGreaterThanOrEqual(last + 20)
  }
  const run = async (...words: string[]): Promise<void> => {
    const { code, lines } = await stellwerk.run(...words)
    expect([words, code, lines.slice(-3)]).toEqual([words, 0, expect.any(Array)])
  }
  const quiet = () =>
    expect
      .poll(async () => {
        const { hosts, volumes } = await stellwerk.json<{
          hosts: { [name: string]: { state: string } }
          volumes: { [name: string]: { state: string; legs?: { role: string }[] } }
        }>('status')
        const roles = (volumes['csv1']?.legs ?? []).map(({ role }) => role)
        return [...Object.values(hosts).map(({ state }) => state), volumes['csv1']?.state, ...new Set(roles)]
      }, PATIENT)
      .toEqual([...HOSTS.map(() => 'up'), 'serving', 'in-sync'])
  /** Where it is, where it is to go, and the third host. */
  const places = async () => {
    const source = (await vm()).host ?? ''
    const [target = '', other = ''] = HOSTS.filter(host => host !== source)
    return { source, target, other }
  }
  const migrate = (to: string) => stellwerk.json<Migration>('vm', 'migrate', 'tux', '--to', to)
  /** A migration has come so far, by the events since then. */
  const inPhase = (phase: string, from: number) =>
    expect
      .poll(() => events.lines.slice(from).some(line => line.includes(`tux: migration ${phase}`)), {
        ...PATIENT,
        interval: 5,
      })
      .toBe(true)
  const moved = async (to: string) => {
    onTestFailed(() => console.log([...events.lines.slice(-40), ...said.lines.slice(-5)].join('\n')))
    const over = await stellwerk.json<Migration>('vm', 'migrate', 'tux', '--to', to, '--wait')
    expect(over.phase).toBe('done')
    await goesOn()
    expect(await vm()).toMatchObject({ state: 'running', host: to })
  }
  const pidOf = (name: string) => childrenBelow(stellwerk.state).find(each => each.name === name)?.pid

  it('runs, and writes', { timeout: LONG }, async () => {
    const load = ['writesPerSecond=20', 'dirtyMiBPerSecond=10', 'workingSetMiB=8'].flatMap(each => ['--param', each])
    const vm = ['--guest', 'tiny.boot', '--disk', 'csv1:64MiB', '--host', 'host-a', ...load]
    await expect.poll(async () => (await stellwerk.run('vm', 'create', 'tux', ...vm)).code, PATIENT).toBe(0)
    said = stellwerk.console('tux')
    events = stellwerk.start('events', '--follow')
    await goesOn()
  })

  it('its host has lost an HBA', { timeout: LONG }, async () => {
    const { source, target } = await places()
    await run('chaos', 'cut', 'cable', source, '0')
    const before = boots()
    await moved(target)
    expect(boots()).toBe(before)
  })

  it('its host has lost both, and its requests go by another', { timeout: LONG }, async () => {
    const { source, target } = await places()
    await run('chaos', 'cut', 'cable', source, '0')
    await run('chaos', 'cut', 'cable', source, '1')
    await events.said(new RegExp(`redirected on ${source}`))
    const before = boots()
    await moved(target)
    expect(boots()).toBe(before)
  })

  it('a leg of its mirror is stale', { timeout: LONG }, async () => {
    const { target } = await places()
    await run('chaos', 'pause', 'storage', 'san-b')
    await events.said(/csv1: generation \d+: .*leg-1 stale/)
    const before = boots()
    await moved(target)
    expect(boots()).toBe(before)
    await run('chaos', 'heal')
    await quiet()
  })

  it('its volume’s owner dies meanwhile', { timeout: LONG }, async () => {
    const { target, other } = await places()
    await run('volume', 'own', 'csv1', other)
    await quiet()
    const before = boots()
    const owner = stellwerk.kill(`${other}/agent`)
    await moved(target)
    await owner
    expect(boots()).toBe(before)
    await quiet()
  })

  it.each(
    ['requested', 'precopy', 'switching', 'committed'].flatMap(phase =>
      ['source', 'target'].map(end => ({ phase, end })),
    ),
  )('the agent of the $end is killed when it is $phase', { timeout: LONG }, async ({ phase, end }) => {
    onTestFailed(() => console.log([...events.lines.slice(-60), ...said.lines.slice(-5)].join('\n')))
    await quiet()
    const { source, target } = await places()
    const [from, before] = [events.lines.length, boots()]
    const victim = `${end === 'source' ? source : target}/agent`
    await migrate(target)
    await inPhase(phase, from)
    await stellwerk.kill(victim)
    await goesOn()
    await quiet()
    expect((await vm()).state).toBe('running')
    // Only where it may have been given away is it not known who has it; then it boots at most once.
    if (phase === 'requested' || phase === 'precopy') expect(boots()).toBe(before)
    else expect(boots()).toBeLessThanOrEqual(before + 1)
    // Refused where it is not in quarantine.
    for (const host of HOSTS) await stellwerk.run('host', 'resume', host)
  })

  it('the machine itself is killed', { timeout: LONG }, async () => {
    const before = boots()
    process.kill(pidOf('tux/qemu') ?? 0, 'SIGKILL')
    await expect.poll(boots, PATIENT).toBe(before + 1)
    await goesOn()
  })

  it.each(['requested', 'precopy', 'switching'])(
    'the machine hangs when it is %s: it is ended, and runs once',
    {
      timeout: LONG,
    },
    async phase => {
      onTestFailed(() => console.log([...events.lines.slice(-60), ...said.lines.slice(-5)].join('\n')))
      await quiet()
      const { target } = await places()
      const [from, before] = [events.lines.length, boots()]
      const machine = pidOf('tux/qemu') ?? 0
      await migrate(target)
      await inPhase(phase, from)
      process.kill(machine, 'SIGSTOP')
      await expect.poll(() => childrenBelow(stellwerk.state).some(({ pid }) => pid === machine), PATIENT).toBe(false)
      await goesOn()
      await quiet()
      expect((await vm()).state).toBe('running')
      expect(childrenBelow(stellwerk.state).filter(({ name }) => name === 'tux/qemu')).toHaveLength(1)
      expect(boots()).toBeLessThanOrEqual(before + 1)
      if (phase === 'requested') expect(boots()).toBe(before + 1)
      for (const host of HOSTS) await stellwerk.run('host', 'resume', host)
    },
  )

  it('VM1: its host is cut off from everything: it runs elsewhere within lease + 3 s', { timeout: LONG }, async () => {
    onTestFailed(() => console.log([...events.lines.slice(-40), ...said.lines.slice(-5)].join('\n')))
    await quiet()
    const { source } = await places()
    const from = events.lines.length
    const cutAt = Date.now()
    await run('chaos', 'cut', 'host', source)
    const started = async () => events.lines.slice(from).find(line => /tux: started on/.test(line))
    await expect.poll(started, PATIENT).toBeDefined()
    const tookMs = Date.now() - cutAt
    console.log(`a host that is cut off: started elsewhere after ${tookMs} ms, lease 15000`)
    expect(await started()).not.toContain(`started on ${source}`)
    await goesOn()
    await run('chaos', 'heal')
    await quiet()
  })
})
