// What is exported is what was on record: Wireshark's own reader finds it again, field by field, and the Perfetto file keeps the
// rules of its format.

import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { peer, peers } from '@stellwerk/runtime/testing/peers.ts'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type ExportFormat, exportTrace } from './export.ts'
import { openTrace } from './source.ts'
import { record, START_MS, writeSegment } from './testing/segments.ts'

const tshark = peer('tshark', 'tshark')
const LUA = fileURLToPath(new URL('../../../../tools/wireshark/stellwerk.lua', import.meta.url))
const execute = promisify(execFile)

let root = ''
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'stellwerk-export-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

const at = (ms: number, process: string, seq: number, kind: string, more: Partial<TraceRecord> = {}): TraceRecord =>
  record(process, seq, { at: 1_000 + ms, hlc: { wallMs: START_MS + ms, counter: 0 }, kind, ...more })

/** A message as both ends record it. */
const message = (kind: string, from: string, to: string, seq: number, more: object = {}) => ({
  level: 'message' as const,
  body: { kind, from, to, seq, ...more },
})

const AGENT = 'host-a/agent'
const MIGRATION = { vm: 'web-1', migration: 'm1' }
const ENDS = { source: 'host-a', target: 'host-b', epoch: 2 }
/** Longer than a packet takes. */
const LONG = 'x'.repeat(70_000)

/** A beat and its answer, an order that is lost, a migration, a fault, a death. */
function writeTrace(): void {
  const beat = message('cluster.beat', AGENT, 'coordinator/decider', 7)
  const heard = message('cluster.beat', AGENT, 'coordinator/decider', 7, { bytes: 321 })
  const answer = message('cluster.beat', 'coordinator/decider', AGENT, 4, { re: 7, code: 'stale-term' })
  const run = { vm: 'web-1', host: 'host-a', body: { epoch: 1, instance: 'i1', how: 'start' } }
  writeSegment(root, AGENT, [
    at(0, AGENT, 1, 'vm.run', run),
    at(10, AGENT, 2, 'message.sent', { host: 'host-a', ...beat }),
    at(19, AGENT, 3, 'message.received', { ...answer, cause: { process: 'coordinator', seq: 3 } }),
    // The network brought the answer once more.
    at(21, AGENT, 4, 'message.received', { ...answer, cause: { process: 'coordinator', seq: 3 } }),
    at(65, AGENT, 5, 'vm.halt', { ...run, body: { epoch: 1, instance: 'i1', how: 'released' } }),
  ])
  writeSegment(root, 'host-b/agent', [
    at(70, 'host-b/agent', 1, 'vm.run', { ...run, host: 'host-b', body: { epoch: 2, instance: 'i2', how: 'arrive' } }),
    at(80, 'host-b/agent', 2, 'disk.long', { body: { long: LONG } }),
  ])
  const input = { now: 1, wallMs: 2, input: { kind: 'beat', beat: { host: 'host-a', epoch: 5 } } }
  const order = { kind: 'order', key: 'k', host: 'host-b', message: 'migration.receive', body: { vm: 'web-1' } }
  const core = (kind: string, seq: number, value: object) =>
    at(14, 'coordinator', seq, kind, {
      level: 'message',
      cause: { process: 'coordinator', seq: 1 },
      body: { core: 'coordinator', value: value as never },
    })
  writeSegment(root, 'coordinator', [
    at(14, 'coordinator', 1, 'message.received', { host: 'host-a', ...heard, cause: { process: AGENT, seq: 2 } }),
    core('core.input', 2, input),
    at(15, 'coordinator', 3, 'message.sent', { ...answer, cause: { process: 'coordinator', seq: 1 } }),
    at(20, 'coordinator', 4, 'decision.migrate', { body: { subject: 'web-1', chose: 'to host-b' } }),
    at(21, 'coordinator', 5, 'migration.requested', { ...MIGRATION, body: ENDS }),
    core('core.output', 6, { changes: [], effects: [order] }),
    at(22, 'coordinator', 7, 'message.sent', {
      ...{ ...MIGRATION, cause: { process: 'coordinator', seq: 4 } },
      ...message('migration.receive', 'coordinator/decider', 'host-b/agent', 1),
    }),
    at(30, 'coordinator', 8, 'migration.precopy', { ...MIGRATION, body: ENDS }),
    at(60, 'coordinator', 9, 'migration.switching', { ...MIGRATION, body: ENDS }),
    at(66, 'coordinator', 10, 'migration.committed', { ...MIGRATION, body: ENDS }),
    at(71, 'coordinator', 11, 'migration.done', { ...MIGRATION, body: ENDS }),
  ])
  const fault = { fault: 'paths-lost', host: 'host-a', storage: 'san-a' }
  const death = { host: 'host-b', body: { process: 'host-b/agent', incarnation: 1 } }
  writeSegment(root, 'simulator', [
    at(5, 'simulator', 1, 'fault.begun', { body: { ...fault, lastsMs: 40 } }),
    at(45, 'simulator', 2, 'fault.ended', { body: fault }),
    at(90, 'simulator', 3, 'process.dead', death),
  ])
}

async function exported(format: ExportFormat): Promise<string> {
  const path = join(root, `out.${format}`)
  await exportTrace(await openTrace('/nowhere', [root]), { format, path, filter: {} })
  return path
}

describe('pcapng', () => {
  const wanted = peers(tshark)

  it.skipIf(wanted.missing)(`fields are named, filters work, hosts have names (${wanted.note})`, async () => {
    writeTrace()
    const path = await exported('pcapng')
    const fields = [
      'kind',
      'from',
      'to',
      're',
      'code',
      'bytes',
      'latency_ms',
      ...['lost', 'unsent', 'again'],
      'vm',
      'migration',
      'cause',
      'seq',
    ]
    const columns = [
      ...['frame.time_epoch', 'frame.comment', 'frame.interface_name', 'ip.src', 'ip.dst'],
      ...[...fields, 'host', 'level', 'body', 'body_bytes', 'process'].map(name => `stellwerk.${name}`),
    ]
    const shown = async (...filter: string[]) => {
      const script = ['-X', `lua_script:${LUA}`, '-r', path, ...filter]
      const args = [...script, '-T', 'fields', '-E', 'separator=/t', ...columns.flatMap(name => ['-e', name])]
      const { stdout } = await execute(tshark.path ?? '', args, { timeout: 60_000, maxBuffer: 2 ** 24 })
      return stdout
        .split('\n')
        .filter(line => line !== '')
        .map(line => {
          const values = line.split('\t')
          return Object.fromEntries(columns.map((name, i) => [name.replace('stellwerk.', ''), values[i]]))
        })
    }
    const all = await shown()
    expect(all.map(each => each['kind'])).toEqual([
      ...['vm.run', 'fault.begun', 'cluster.beat', 'cluster.beat', 'decision.migrate', 'migration.requested'],
      ...['cluster.beat', 'migration.receive', 'migration.precopy', 'fault.ended', 'migration.switching', 'vm.halt'],
      ...['migration.committed', 'vm.run', 'migration.done', 'disk.long', 'process.dead'],
    ])
    const [beat, answer, repeat] = all.filter(each => each['kind'] === 'cluster.beat')
    expect(beat).toMatchObject({
      ...{ 'frame.comment': 'host-a/agent → coordinator', 'frame.interface_name': AGENT, from: AGENT, lost: '0' },
      ...{ bytes: '321', latency_ms: '4', host: 'host-a', level: '1', seq: '2' },
    })
    expect(Number(beat?.['frame.time_epoch'])).toBeCloseTo((START_MS + 10) / 1000, 3)
    expect(JSON.parse(beat?.['body'] ?? '')).toEqual({ kind: 'beat', beat: { host: 'host-a', epoch: 5 } })
    expect(answer).toMatchObject({ re: '7', code: 'stale-term', cause: 'coordinator #1' })
    expect([answer?.['ip.src'], answer?.['ip.dst']]).toEqual([beat?.['ip.dst'], beat?.['ip.src']])
    expect([answer, repeat].map(each => [each?.['lost'], each?.['unsent'], each?.['again']])).toEqual([
      ['0', '0', '0'],
      ['0', '0', '1'],
    ])
    const long = all.find(each => each['kind'] === 'disk.long')
    expect(Number(long?.['body_bytes'])).toBe(JSON.stringify({ long: LONG }).length)
    const [lost, ...others] = await shown('-Y', 'stellwerk.lost == 1 && stellwerk.migration == "m1"')
    expect(others).toEqual([])
    expect(lost).toMatchObject({ kind: 'migration.receive', vm: 'web-1', body: '{"vm":"web-1"}' })
    // The body is taken apart as JSON, and can be filtered by what is in it.
    expect(await shown('-Y', 'json.value.string == "host-b" && stellwerk.level == 0')).toHaveLength(5)
    const { stdout } = await execute(tshark.path ?? '', ['-X', `lua_script:${LUA}`, '-r', path, '-N', 'n', '-c', '3'])
    expect(stdout).toMatch(/host-a\/agent → coordinator\s+STELLWERK \d+ cluster\.beat host=host-a/)
  })
})

interface Event {
  readonly ph: string
  readonly name: string
  readonly ts: number
  readonly pid: number
  readonly tid: number
  readonly id?: number
  readonly args?: { readonly name?: string; readonly record?: string }
}

describe('perfetto', () => {
  it('is sorted, its slices are balanced, its arrows have both ends, and each track its name', async () => {
    writeTrace()
    const { traceEvents } = JSON.parse(readFileSync(await exported('perfetto'), 'utf8')) as { traceEvents: Event[] }
    const timed = traceEvents.filter(({ ph }) => ph !== 'M')
    expect(timed.map(({ ts }) => ts)).toEqual(timed.map(({ ts }) => ts).sort((a, b) => a - b))
    const groups = new Map<number, string>()
    const tracks = new Map<string, string>()
    for (const { ph, name, pid, tid, args } of traceEvents) {
      if (ph !== 'M') expect(tracks.has(`${pid} ${tid}`)).toBe(true)
      else if (name === 'process_name') groups.set(pid, args?.name ?? '')
      else if (name === 'thread_name') tracks.set(`${pid} ${tid}`, `${groups.get(pid)}: ${args?.name}`)
    }
    const open = new Map<string, Event[]>()
    const slices: string[] = []
    for (const event of timed) {
      const track = `${event.pid} ${event.tid}`
      const stack = open.get(track) ?? []
      open.set(track, stack)
      if (event.ph === 'B') stack.push(event)
      if (event.ph !== 'E') continue
      const begun = stack.pop()
      expect(begun?.name).toBe(event.name)
      slices.push(`${tracks.get(track)}: ${event.name} ${(begun?.ts ?? 0) / 1000}–${event.ts / 1000}`)
    }
    expect([...open.values()].flat()).toEqual([])
    expect(slices).toEqual([
      'migrations: m1: prepare 21–30',
      'faults: paths-lost host-a san-a: paths-lost 5–45',
      'migrations: m1: pre-copy 30–60',
      ...['VMs: web-1: on host-a 0–65', 'VMs by host: host-a: web-1: web-1 0–65'],
      'migrations: m1: switch-over 60–66',
      ...['migrations: m1: finish 66–71', 'migrations: m1: web-1: host-a → host-b 21–71'],
      ...['VMs: web-1: on host-b 70–90', 'VMs by host: host-b: web-1: web-1 70–90'],
    ])
    const arrows = (ph: string) => timed.filter(event => event.ph === ph)
    expect(arrows('s').map(({ id }) => id)).toEqual(arrows('f').map(({ id }) => id))
    expect(arrows('s')).toHaveLength(2)
    for (const end of [...arrows('s'), ...arrows('f')]) {
      const { pid, tid, ts, name } = end
      expect(timed).toContainEqual(expect.objectContaining({ ph: 'X', pid, tid, ts, name }))
    }
    // A decision is a mark on the track of what it is about.
    const marks = timed.filter(({ ph, name }) => ph === 'i' && name === 'decision.migrate')
    expect(marks.map(({ pid, tid }) => tracks.get(`${pid} ${tid}`))).toEqual(['VMs: web-1', 'processes: coordinator'])
  })
})

describe('ndjson', () => {
  it('is one record a line, merged', async () => {
    writeTrace()
    const lines = readFileSync(await exported('ndjson'), 'utf8')
      .trimEnd()
      .split('\n')
    const records = lines.map(line => JSON.parse(line) as TraceRecord)
    const source = await openTrace('/nowhere', [root])
    expect(records).toEqual(await Array.fromAsync(source.records()))
  })
})

it('a file that is there stays as it is, and a failed export leaves none', async () => {
  writeTrace()
  const path = join(root, 'out')
  writeFileSync(path, 'mine')
  const source = await openTrace('/nowhere', [root])
  await expect(exportTrace(source, { format: 'ndjson', path, filter: {} })).rejects.toMatchObject({
    ...{ code: 'file-exists', where: path, hint: expect.any(String) },
  })
  expect(readFileSync(path, 'utf8')).toBe('mine')
  const other = join(root, 'other')
  const kinds = ['v*m']
  await expect(exportTrace(source, { format: 'ndjson', path: other, filter: { kinds } })).rejects.toThrow()
  expect(existsSync(other)).toBe(false)
})
