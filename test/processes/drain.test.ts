// `stellwerk host drain` as an operator uses it before the maintenance of a host: its guests move live and lose nothing, its
// volume gets another owner, nothing more comes, its processes may end, and `host resume` takes it back.

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Running, Stellwerk } from './stellwerk.ts'

const LONG = 240_000
const PATIENT = { timeout: 90_000, interval: 300 }
const stellwerk = new Stellwerk('drain')

interface Host {
  readonly state: string
  readonly vms: readonly string[]
  readonly owns: readonly string[]
}
interface Vm {
  readonly host: string | null
  readonly state: string
  readonly epoch: number
}
const host = (name: string) => stellwerk.json<Host>('host', 'show', name)
const vm = (name: string) => stellwerk.json<Vm>('vm', 'show', name)
const acknowledged = (lines: readonly string[]) =>
  lines.flatMap(line => (/^ack \d+$/.test(line) ? [Number(line.slice(4))] : []))

describe('a host that is drained for its maintenance', () => {
  let said: Running
  let up: Running

  beforeAll(async () => {
    up = stellwerk.start('up', '--hosts', '3', '--profile', 'production')
    await up.said(/^up after/)
  }, LONG)

  afterAll(() => stellwerk.remove(), LONG)

  it('is empty afterwards, and no guest has missed a thing', { timeout: LONG }, async () => {
    for (const name of ['book', 'diary']) {
      const words = ['--guest', 'ledger', '--memory', '8MiB', '--disk', 'csv1:16MiB', '--host', 'host-a']
      expect((await stellwerk.run('vm', 'create', name, ...words)).code).toBe(0)
    }
    await expect.poll(async () => (await host('host-a')).vms, PATIENT).toEqual(['book', 'diary'])
    await expect.poll(async () => (await vm('book')).state, PATIENT).toBe('running')
    await stellwerk.run('volume', 'own', 'csv1', 'host-a')
    await expect.poll(async () => (await host('host-a')).owns, PATIENT).toEqual(['csv1'])
    said = stellwerk.console('book')
    await said.said(/^ack \d+/)
    const { code, lines } = await stellwerk.run('host', 'drain', 'host-a', '--wait')
    expect([code, lines.at(-1)]).toEqual([0, 'host host-a is drained'])
    await expect.poll(() => host('host-a'), PATIENT).toMatchObject({ state: 'drained', vms: [], owns: [] })
    for (const name of ['book', 'diary']) expect((await vm(name)).host).toMatch(/^host-[bc]$/)
    await expect.poll(() => acknowledged(said.lines).length, PATIENT).toBeGreaterThan(20)
    const entries = acknowledged(said.lines)
    expect(entries.every((entry, i) => i === 0 || entry === entries[i - 1]! + 1)).toBe(true)
    const refused = await stellwerk.run('vm', 'migrate', 'book', '--to', 'host-a')
    expect(refused).toEqual({ code: 1, lines: [expect.stringMatching(/it is being drained/)] })
    expect((await stellwerk.run('why', 'host', 'host-a')).lines.join('\n')).toMatch(
      /taken out of service.*left there: nothing/,
    )
  })

  it('is not missed while it is away, is drained when it is back, and serves again once it is resumed', {
    timeout: LONG,
  }, async () => {
    const before = await vm('book')
    await stellwerk.kill('host-a/agent')
    await expect.poll(async () => (await host('host-a')).state, PATIENT).toBe('down')
    expect((await stellwerk.run('host', 'add', 'host-a')).code).toBe(0)
    await expect.poll(async () => (await host('host-a')).state, PATIENT).toBe('drained')
    expect(await vm('book')).toMatchObject({ host: before.host, epoch: before.epoch })
    expect((await stellwerk.run('host', 'resume', 'host-a')).code).toBe(0)
    await expect.poll(async () => (await host('host-a')).state, PATIENT).toBe('up')
    const moved = await stellwerk.json<{ phase: string }>('vm', 'migrate', 'book', '--to', 'host-a', '--wait')
    expect(moved.phase).toBe('done')
    said.process.kill()
  })

  it('is told by the traces: the moves as charts, what a start led to, how long messages took', {
    timeout: LONG,
  }, async () => {
    interface Chart {
      readonly outcome: string
      readonly participants: readonly string[]
      readonly phases: readonly {
        readonly name: string
        readonly toMs: number | null
        readonly budgetMs: number | null
      }[]
      readonly steps: readonly { readonly kind: string; readonly what: string; readonly receivedMs?: number | null }[]
    }
    // What was just done may not be in the files yet.
    const back = async () => {
      const words = ['trace', 'list', '--migrations']
      const listed = await stellwerk.json<{ id: string; vm: string; target: string }[]>(...words)
      return listed.findLast(({ vm: name, target }) => name === 'book' && target === 'host-a')
    }
    await expect.poll(back, PATIENT).toBeDefined()
    const id = (await back())?.id ?? ''
    const charted = () => stellwerk.json<Chart>('trace', 'show', '--migration', id)
    await expect.poll(async () => (await charted()).outcome, PATIENT).toBe('committed and done')
    const chart = await charted()
    expect(chart.participants.slice(0, 3)).toEqual(['coordinator', expect.stringMatching(/^host-[bc]$/), 'host-a'])
    expect(chart.phases.map(({ name }) => name)).toEqual([
      ...['preparing', 'precopy', 'switching', 'finishing', 'downtime'],
    ])
    for (const { name, toMs, budgetMs } of chart.phases)
      expect([name, toMs, name === 'finishing' ? 1 : budgetMs]).not.toContain(null)
    const messages = chart.steps.filter(({ kind }) => kind === 'message')
    expect(messages.map(({ what }) => what)).toEqual(expect.arrayContaining(['migration.send', 'migration.switch']))
    expect(messages.filter(({ receivedMs }) => receivedMs === null)).toEqual([])
    const outages = await stellwerk.json<{ id: string; host: string }[]>('trace', 'list', '--outages')
    expect(outages.map(outage => outage.host)).toContain('host-a')
    const outage = outages.find(each => each.host === 'host-a')
    expect((await stellwerk.run('trace', 'show', '--outage', outage?.id ?? '')).code).toBe(0)
    const stats = await stellwerk.json<{ kinds: { kind: string; latency: { p50Ms: number } }[] }>('trace', 'stats')
    expect(stats.kinds.find(({ kind }) => kind === 'cluster.beat')?.latency.p50Ms).toBeGreaterThan(0)
  })

  it('is nothing that a start of the cluster waits for, and stays out of service over it', {
    timeout: LONG,
  }, async () => {
    expect((await stellwerk.run('host', 'drain', 'host-b', '--wait')).code).toBe(0)
    await stellwerk.run('down')
    await up.ended
    up = stellwerk.start('up')
    await up.said(/^up after/)
    expect(up.lines.filter(line => line.startsWith('missing: '))).toEqual([])
    expect(await host('host-b')).toMatchObject({ state: 'drained' })
  })
})
