// The network that moves with a VM: two Linux guests on different hosts talk over one TCP connection while one of them is
// moved back and forth, and find each other again when a host's agent has died. What is wrong with a card is refused in a line.

import { copyFileSync, existsSync, readdirSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { afterAll, beforeAll, describe, expect, it, onTestFailed } from 'vitest'
import { type Running, Stellwerk } from '../processes/stellwerk.ts'
import { qemu, tinyImageFile } from './tiny-image.ts'

const LONG = 600_000
const PATIENT = { timeout: 300_000, interval: 300 }
/** Migrations under one connection; the long tests make the twenty of the plan. */
const MOVES = process.env['STELLWERK_LONG'] === '1' ? 20 : 3
const stellwerk = new Stellwerk('lan')

interface Vm {
  readonly state: string
  readonly host: string | null
  readonly nics: readonly { readonly network: string; readonly mac: string }[]
}
const vm = (name: string) => stellwerk.json<Vm>('vm', 'show', name)
const echoes = (lines: readonly string[]) =>
  lines.flatMap(line => /^echo (\d+) gap (\d+)$/.exec(line)?.slice(1).map(Number) ?? []).filter((_, i) => i % 2 === 0)
/** The longest that the one who talks has waited for an answer. */
const longestGapMs = (lines: readonly string[]) =>
  Math.max(...lines.map(line => Number(/^echo \d+ gap (\d+)$/.exec(line)?.[1] ?? 0)))
const acknowledged = (lines: readonly string[]) =>
  lines.flatMap(line => /^ack (\d+)$/.exec(line)?.[1] ?? []).map(Number)
const list = (directory: string) => (existsSync(directory) ? readdirSync(directory) : [])
const lost = (lines: readonly string[]) => lines.filter(line => line.startsWith('talk lost'))

describe.skipIf(qemu.missing)(`two Linux guests in one network on ${qemu.note}`, () => {
  let heard: Running

  beforeAll(async () => {
    const env = createEnvironment({ name: 'test', directory: join(stellwerk.directory, 'env'), store: memoryStore() })
    copyFileSync(await tinyImageFile(env.processes), join(stellwerk.directory, 'tiny.boot'))
    await env.close()
    await stellwerk.start('up', '--hosts', '2').said(/^up after/)
  }, LONG)

  afterAll(() => stellwerk.remove(), LONG)

  const create = (name: string, host: string, ...more: string[]) => {
    const words = ['--guest', 'tiny.boot', '--memory', '96MiB', '--host', host]
    return expect.poll(async () => (await stellwerk.run('vm', 'create', name, ...words, ...more)).code, PATIENT).toBe(0)
  }
  const idle = ['--param', 'writesPerSecond=0']
  /** It writes its ledger, and dirties memory. */
  const busy = ['--disk', 'csv1:64MiB', '--param', 'writesPerSecond=10', '--param', 'dirtyMiBPerSecond=5']
  const upTo = (count: number) =>
    expect.poll(() => echoes(heard.lines).at(-1) ?? 0, PATIENT).toBeGreaterThanOrEqual(count)

  it('a card that cannot be is refused in one line', { timeout: LONG }, async () => {
    await create(
      'web',
      'host-a',
      '--nic',
      'lan,mac=52:54:00:00:00:01,ip=10.0.0.1',
      '--param',
      'ip=10.0.0.1/24',
      ...busy,
    )
    const cases: [string, RegExp][] = [
      ['lan,mac=52:54:00:00:00:01', /the MAC 52:54:00:00:00:01 is that of VM "web"/],
      ['lan,mac=ff:ff:ff:ff:ff:ff', /no MAC address of a port/],
      ['lan,mac=52:54', /no MAC address of a port/],
      ['lan,ip=10.0.0.300', /"10\.0\.0\.300" is no IPv4 address/],
      ['lan,10.0.0.1', /is no network card.*say NETWORK/],
      ['/etc', /no name for a network|name/],
    ]
    for (const [nic, said] of cases) {
      const { code, lines } = await stellwerk.run('vm', 'create', 'bad', '--guest', 'tiny.boot', '--nic', nic)
      expect([nic, code, lines]).toEqual([nic, 1, [expect.stringMatching(said)]])
    }
    expect(Object.keys(await stellwerk.json<object>('vm', 'list'))).toEqual(['web'])
  })

  it('VM2: a guest that writes, dirties memory and serves HTTP moves again and again; one TCP connection is held, and no byte lost', {
    timeout: LONG,
  }, async () => {
    onTestFailed(async () =>
      console.log([...heard.lines.slice(-20), ...(await stellwerk.run('events')).lines.slice(-30)].join('\n')),
    )
    const talk = ['--param', 'ip=10.0.0.2/24', '--param', 'talkTo=10.0.0.1']
    await create('client', 'host-b', '--nic', 'lan', ...talk, ...idle)
    heard = stellwerk.console('client')
    expect((await vm('client')).nics).toMatchObject([{ network: 'lan', mac: expect.stringMatching(/^52:54:00:/) }])
    await upTo(100)
    const ledger = stellwerk.console('web')
    await expect.poll(() => acknowledged(ledger.lines).length, PATIENT).toBeGreaterThan(0)
    const toWeb = stellwerk.start('vm', 'forward', 'web', '80')
    const port = Number(/^127\.0\.0\.1:(\d+) /.exec(await toWeb.said(/leads to/))?.[1])
    const [before, from] = [lost(heard.lines).length, heard.lines.length]
    for (let move = 0; move < MOVES; move += 1) {
      const to = move % 2 === 0 ? 'host-b' : 'host-a'
      const over = await stellwerk.json<{ phase: string }>('vm', 'migrate', 'web', '--to', to, '--wait')
      expect(over.phase).toBe('done')
      await upTo((echoes(heard.lines).at(-1) ?? 0) + 100)
      const written = acknowledged(ledger.lines).at(-1) ?? 0
      const page = await (await fetch(`http://127.0.0.1:${port}/`)).text()
      expect(Number(/^entries (\d+)/m.exec(page)?.[1])).toBeGreaterThanOrEqual(written)
    }
    expect(lost(heard.lines).slice(before)).toEqual([])
    const entries = acknowledged(ledger.lines)
    expect(entries.length).toBeGreaterThan(MOVES)
    expect(entries.every((entry, n) => n === 0 || entry === entries[n - 1]! + 1)).toBe(true)
    expect(ledger.lines.filter(line => /recovered|damaged|disk error/.test(line))).toEqual([])
    console.log(`${MOVES} moves: no answer for ${longestGapMs(heard.lines.slice(from))} ms at most`)
    for (const each of [toWeb, ledger]) {
      each.process.kill('SIGINT')
      await each.ended
    }
    // As fast as it goes, to the other's sink.
    heard.process.stdin?.write('push 10.0.0.1 1000\n')
    expect(await heard.said(/^pushed [1-9]\d* in \d+$/)).toBeDefined()
  })

  it('a forward leads from a host to a guest, and one connection through it is held over a migration', {
    timeout: LONG,
  }, async () => {
    const refusals: [string[], RegExp][] = [
      [['none', '80'], /no VM "none"/],
      [['client', '80'], /which address VM "client" has.*--address/],
      [['web', '0'], /"0" is no number/],
      [['web', '80', '--listen', 'here'], /no number|no IPv4 address/],
      [['web', '80', '--host', 'host-z'], /host "host-z" can open no way to guests: it is not up/],
      [['web', '80', '--address', '10.0.0'], /no IPv4 address/],
    ]
    for (const [words, said] of refusals) {
      const { code, lines } = await stellwerk.run('vm', 'forward', ...words)
      expect([words, code, lines]).toEqual([words, 1, [expect.stringMatching(said)]])
    }
    const way = stellwerk.start('vm', 'forward', 'web', '7')
    const toWeb = stellwerk.start('vm', 'forward', 'web', '80')
    const portOf = (line: string) => Number(/^127\.0\.0\.1:(\d+) on host-[ab] leads to web, /.exec(line)?.[1])
    const [port, webPort] = await Promise.all([way, toWeb].map(async each => portOf(await each.said(/leads to/))))
    const again = await stellwerk.run('vm', 'forward', 'web', '7', '--listen', String(port))
    expect(again).toEqual({ code: 1, lines: [expect.stringMatching(/does not let it listen there/)] })

    const socket = connect(port ?? 0, '127.0.0.1')
    const echoed = async (text: string): Promise<void> => {
      const came: Buffer[] = []
      const listen = (chunk: Buffer) => came.push(chunk)
      socket.on('data', listen)
      socket.write(text)
      await expect.poll(() => Buffer.concat(came).toString(), PATIENT).toBe(text)
      socket.off('data', listen)
    }
    await echoed('before')
    const to = (await vm('web')).host === 'host-a' ? 'host-b' : 'host-a'
    const over = await stellwerk.json<{ phase: string }>('vm', 'migrate', 'web', '--to', to, '--wait')
    expect(over.phase).toBe('done')
    await echoed('behind')
    socket.destroy()
    const page = await fetch(`http://127.0.0.1:${webPort}/`)
    expect([page.status, (await page.text()).length > 0]).toEqual([200, true])

    for (const each of [way, toWeb]) {
      each.process.kill('SIGINT')
      expect((await each.ended).code).toBe(0)
    }
    await expect(fetch(`http://127.0.0.1:${webPort}/`)).rejects.toThrow()
    // Nothing of the gateway stays when nobody needs it.
    const gateways = () => ['host-a', 'host-b'].flatMap(host => list(join(stellwerk.state, host, 'agent', 'gateways')))
    await expect.poll(gateways, PATIENT).toEqual([])
  })

  it('a guest that restarts elsewhere is found at its new place', { timeout: LONG }, async () => {
    const { host } = await vm('web')
    // The other guest is to live on: it is on the host that is left alone.
    const left = host === 'host-a' ? 'host-b' : 'host-a'
    if ((await vm('client')).host !== left) {
      const over = await stellwerk.json<{ phase: string }>('vm', 'migrate', 'client', '--to', left, '--wait')
      expect(over.phase).toBe('done')
    }
    await stellwerk.kill(`${host}/agent`)
    const before = echoes(heard.lines).at(-1) ?? 0
    await upTo(before + 100)
    expect((await vm('web')).state).toBe('running')
    expect(lost(heard.lines).filter(line => line.includes('damaged'))).toEqual([])
    heard.process.kill()
  })
})
