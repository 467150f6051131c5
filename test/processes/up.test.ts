// `stellwerk up` as a user types it: real processes, in a directory of its own. That it leaves nothing behind is judged by
// pid, and that it recovers by what the guests wrote. With the patient profile: a test machine may be slow for seconds.

import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { checkEntry, LOG_START, ledgerTag } from '@stellwerk/agent/guests/ledger-format.ts'
import { connectNbd } from '@stellwerk/block/nbd/client.ts'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { peer, peers } from '@stellwerk/runtime/testing/peers.ts'
import { afterAll, describe, expect, it } from 'vitest'
import { alive, Stellwerk } from './stellwerk.ts'
import { WatchedTerminal } from './watched-terminal.ts'

const stellwerk = new Stellwerk('up')
const { directory, state, started } = stellwerk
const start = (...words: string[]) => stellwerk.start(...words)
const run = (...words: string[]) => stellwerk.run(...words)
const json = <T>(...words: string[]) => stellwerk.json<T>(...words)
const LONG = 240_000
const terminal = peers(peer('script', 'bsdutils'))
const PATIENT = { timeout: 60_000, interval: 200 }

interface Named {
  [name: string]: { state: string; host?: string | null; epoch?: number }
}
interface Status {
  canLose: { summary: string }
  hosts: Named
  vms: Named
  volumes: Named
  paths: Named
}

afterAll(async () => {
  await stellwerk.remove()
})

describe('stellwerk up', () => {
  let cluster = ''

  it('brings up a cluster whose guests acknowledge; status finds it', { timeout: LONG }, async () => {
    const up = start('up', '--guests', '--hosts', '2', '--profile', 'production')
    await up.said(/^up after/)
    const status = await json<Status>('status')
    expect(status.canLose.summary).toBe('can lose: 1 host yes · 1 storage yes')
    expect(Object.keys(status.hosts)).toEqual(['host-a', 'host-b'])
    expect(Object.keys(status.vms)).toEqual(['ledger-1', 'ledger-2', 'ledger-3'])
    expect(Object.keys(status.volumes)).toEqual(['csv1'])
    for (const table of [status.hosts, status.vms, status.volumes, status.paths]) {
      for (const entry of Object.values(table)) expect(entry.state).toMatch(/^(up|running|serving|standby)$/)
    }
    expect(Object.keys(status.paths)).toContain('host-a/fabric-0/san-a')
    expect(up.lines.filter(line => /recovered 0 intact/.test(line))).toHaveLength(3)
    for (const token of ['api-token', 'join-token']) expect(statSync(join(state, token)).mode & 0o777).toBe(0o600)
    cluster = readFileSync(join(state, 'cluster.json'), 'utf8')

    const second = await run('up')
    expect(second.code).toBe(1)
    expect(second.lines).toEqual([
      expect.stringMatching(/a cluster already runs there: it is in use by up \(pid \d+\)/),
    ])
  })

  it('migrates a guest live, and refuses what can’t be', { timeout: LONG }, async () => {
    const before = await json<Status>('status')
    const from = before.vms['ledger-1']?.host ?? ''
    const to = from === 'host-a' ? 'host-b' : 'host-a'
    const over = await json<{ phase: string; to: string; statistics: Record<string, number> }>(
      'vm',
      'migrate',
      'ledger-1',
      '--to',
      to,
      '--wait',
    )
    expect(over).toMatchObject({ phase: 'done', to })
    expect(over.statistics['pagesSent']).toBeGreaterThan(0)
    const vm = await json<Named[string]>('vm', 'show', 'ledger-1')
    expect(vm).toMatchObject({ state: 'running', host: to })
    expect(vm.epoch).toBeGreaterThan(before.vms['ledger-1']?.epoch ?? 0)
    const same = await run('vm', 'migrate', 'ledger-1', '--to', to)
    expect(same).toEqual({ code: 1, lines: [expect.stringMatching(/already on host "host-.".*name another host/)] })
    const why = await run('why', 'vm', 'ledger-1')
    expect(why.lines.join('\n')).toMatch(/migrate: to host-. at placement epoch \d+, because it was asked for/)
  })

  it.skipIf(terminal.missing)(
    `is watched on a terminal (${terminal.note}): drawn in place, in any size, also without its coordinator`,
    {
      timeout: LONG,
    },
    async () => {
      const watch = new WatchedTerminal(stellwerk, { columns: 100, rows: 30 }, ['status', '--watch'])
      await watch.shows(/^can lose: 1 host yes · 1 storage yes\n.*2 of 2 hosts up · 3 of 3 VMs running/)
      expect(watch.screen.isAlternate).toBe(true)
      expect(watch.screen.lines.at(-1)).toMatch(/^q ends/)

      const { host } = await json<Named[string]>('vm', 'show', 'ledger-2')
      expect((await run('vm', 'migrate', 'ledger-2')).code).toBe(0)
      await watch.shows(/LAST DECISIONS.*ledger-2: migration done/s)
      await watch.shows(new RegExp(`\nledger-2 +running +running +${host === 'host-a' ? 'host-b' : 'host-a'} `))

      await watch.resize({ columns: 60, rows: 14 })
      await watch.shows(/^can lose: 1 host yes · 1 storage yes\n.*\nHOST/)
      watch.type('/ledger-3\r')
      await watch.shows(/now "ledger-3"/)
      expect(watch.screen.text).not.toContain('ledger-1 ')
      watch.type('\u001b')
      await watch.shows(/q ends · \/ only what has a text ·/)

      stellwerk.signal('coordinator', 'SIGSTOP')
      await watch.shows(/^can lose: not known now; .*\nthe coordinator is away for .*\n(.*\n)*host-a +up/)
      stellwerk.signal('coordinator', 'SIGCONT')
      await watch.shows(/^can lose: 1 host yes · 1 storage yes\n/)
      watch.type('q')
      expect(await watch.ended).toBe(0)
      expect([watch.screen.isAlternate, watch.screen.isCursorShown, watch.screen.wraps]).toEqual([false, true, true])
      expect(watch.screen.text).toMatch(/ icanon .* echo /s)
    },
  )

  it('and into a pipe: a block, or a JSON object a line, for each change', { timeout: LONG }, async () => {
    const [blocks, objects] = [start('status', '--watch'), start('status', '--watch', '--json', '--interval', '300ms')]
    await Promise.all([blocks.said(/^LAST DECISIONS/), objects.said(/^\{/)])
    expect((await run('vm', 'stop', 'ledger-3')).code).toBe(0)
    await blocks.said(/^ledger-3 +stopped +stopped/)
    await objects.said(/"name":"ledger-3","state":"stopped"/)
    expect((await run('vm', 'start', 'ledger-3')).code).toBe(0)
    await expect.poll(async () => (await json<Named[string]>('vm', 'show', 'ledger-3')).state, PATIENT).toBe('running')
    for (const { process, ended } of [blocks, objects]) {
      process.kill('SIGINT')
      expect(await ended).toEqual({ code: 0, signal: null })
    }
    expect(blocks.lines.filter(line => line.startsWith('--- ')).length).toBeGreaterThanOrEqual(2)
    expect(blocks.lines.join('\n')).not.toContain('\u001b')
    const states = objects.lines.map(line => (JSON.parse(line) as Status).vms['ledger-3']?.state)
    expect([states[0], states.includes('stopped')]).toEqual(['running', true])
  })

  it('ends in order at Ctrl-C: no process is left', { timeout: LONG }, async () => {
    const [up] = started
    const pids = stellwerk.pids()
    expect(alive(pids)).toHaveLength(7)
    up?.kill('SIGINT')
    await new Promise(resolve => up?.on('close', resolve))
    expect(up?.exitCode).toBe(0)
    expect(alive(pids)).toEqual([])
    const check = await run('volume', 'check', 'csv1')
    expect([check.code, check.lines.at(-1)]).toEqual([0, 'csv1 is sound'])
  })

  it('exports a disk of the cluster that is down, to be read, by NBD', { timeout: LONG }, async () => {
    const exported = start('disk', 'export', 'csv1', 'ledger-1-0')
    await exported.said(/^nbd:\/\//)
    const port = Number(/:(\d+)\//.exec(exported.lines[0] ?? '')?.[1])
    const env = createEnvironment({ name: 'test', directory, store: memoryStore(), logLevel: 'silent' })
    const stream = await env.network.dialStream({ network: 'cluster', host: '127.0.0.1', port })
    const disk = await connectNbd(stream, { exportName: 'ledger-1-0', timers: env.timers })
    const io = { origin: 'test', deadlineAt: null }
    const first = Buffer.concat(await disk.read(LOG_START, 512, io))
    expect(checkEntry(first, 1, ledgerTag('ledger-1'), null)).not.toBe(null)
    await expect(disk.write(LOG_START, [new Uint8Array(512)], {}, io)).rejects.toMatchObject({ errno: 'EPERM' })
    expect(Buffer.concat(await disk.read(disk.size - 4096, 4096, io)).length).toBe(4096)
    await disk.close()
    await env.close()
    exported.process.kill('SIGINT')
    expect(await exported.ended).toEqual({ code: 0, signal: null })
    const unknown = await run('disk', 'export', 'csv1', 'nobody')
    expect(unknown).toEqual({
      code: 1,
      lines: [expect.stringMatching(/no disk "nobody" .*it has ledger-1-0, ledger-2-0/)],
    })
  })

  it('recovers the same cluster and guests, from their first entry on; down ends it', { timeout: LONG }, async () => {
    const up = start('up')
    await up.said(/^up after/)
    expect(up.lines).toContainEqual(expect.stringMatching(/^recovering the cluster/))
    expect(readFileSync(join(state, 'cluster.json'), 'utf8')).toBe(cluster)
    for (const vm of ['ledger-1', 'ledger-2', 'ledger-3']) {
      await up.said(new RegExp(`${vm} on host-. says: recovered [1-9]\\d* intact`))
    }
    const status = await json<Status>('status')
    for (const vm of Object.values(status.vms)) expect(vm.state).toBe('running')
    const pids = stellwerk.pids()
    expect((await run('down')).lines).toEqual(['the cluster is down'])
    expect((await up.ended).code).toBe(0)
    expect(alive(pids)).toEqual([])
  })

  it('killed with -9, takes its processes with it; the next start recovers', { timeout: LONG }, async () => {
    const up = start('up', '--detach')
    expect(await up.ended).toEqual({ code: 0, signal: null })
    const { pid } = JSON.parse(readFileSync(join(state, 'up.json'), 'utf8')) as { pid: number }
    const pids = stellwerk.pids()
    expect(alive(pids).length).toBeGreaterThanOrEqual(7)
    process.kill(pid, 'SIGKILL')
    await expect.poll(() => alive(pids), { timeout: 20_000 }).toEqual([])
    const again = start('up')
    await again.said(/^up after/)
    await again.said(/ledger-1 on host-. says: recovered [1-9]\d* intact/)
    again.process.kill('SIGTERM')
    expect((await again.ended).code).toBe(0)
  })
})
