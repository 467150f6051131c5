// `stellwerk trace` as it is typed: what is asked for is shown, what there is not is said in one line, and new records come live.

import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { FAILED, OK } from '../command-line/command.ts'
import { typed } from '../command-line/testing/typed.ts'
import { follow } from '../trace/show-follow.ts'
import { openTrace } from '../trace/source.ts'
import { record, START_MS, writeSegment } from '../trace/testing/segments.ts'

let root = ''
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'stellwerk-trace-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

const run = (...words: readonly string[]) => typed(['trace', ...words], root)

async function refused(words: readonly string[], ...parts: readonly RegExp[]) {
  const { code, out, err } = await run(...words)
  expect({ out, lines: err.length }, err.join('\n')).toEqual({ out: [], lines: 1 })
  expect(code).not.toBe(OK)
  for (const part of parts) expect(err[0]).toMatch(part)
}

const at = (ms: number): Partial<TraceRecord> => ({ hlc: { wallMs: START_MS + ms, counter: 0 }, at: ms })
const message = (kind: 'sent' | 'received', body: object, more: Partial<TraceRecord> = {}): Partial<TraceRecord> => ({
  ...{ level: 'message', kind: `message.${kind}` },
  body: { kind: 'vm.start', from: 'coordinator/decider', to: 'host-a/agent', seq: 7, ...body },
  ...more,
})

/** The coordinator asks host-a to start web, which it does, and which leads to a write; before that, something unconnected. */
function story(): void {
  const asks = { process: 'coordinator', seq: 2 }
  writeSegment(root, 'coordinator', [
    record('coordinator', 1, {
      ...at(0),
      kind: 'decision.place',
      body: { subject: 'web', chose: 'host-a', why: 'free' },
    }),
    record('coordinator', 2, {
      ...at(10),
      ...message('sent', {}, { vm: 'web' }),
      cause: { process: 'coordinator', seq: 1 },
    }),
    record('coordinator', 3, {
      ...at(30),
      ...message('received', { from: 'host-a/agent', to: 'coordinator/decider', seq: 4, re: 7, bytes: 50 }),
      cause: { process: 'host-a/agent', seq: 4 },
    }),
  ])
  writeSegment(root, 'host-a/agent', [
    record('host-a/agent', 1, { ...at(5), kind: 'vm.halt', vm: 'mail', volume: 'csv1' }),
    record('host-a/agent', 2, { ...at(20), ...message('received', { bytes: 100 }, { vm: 'web' }), cause: asks }),
    record('host-a/agent', 3, { ...at(25), vm: 'web', host: 'host-a', cause: { process: 'host-a/agent', seq: 2 } }),
    record('host-a/agent', 4, {
      ...at(26),
      ...message('sent', { from: 'host-a/agent', to: 'coordinator/decider', seq: 4, re: 7 }),
      cause: { process: 'host-a/agent', seq: 2 },
    }),
    record('host-a/agent', 5, { ...at(60_000), level: 'io', kind: 'disk.invoke', vm: 'web', disk: 'd1' }),
  ])
}

const shown = async (...words: readonly string[]) => {
  const { code, out } = await run('show', '--from', root, '--json', ...words)
  expect(code).toBe(OK)
  return out.map(line => JSON.parse(line) as TraceRecord).map(({ process, seq }) => `${process}#${seq}`)
}

describe('show', () => {
  beforeEach(story)

  test.each([
    [['--vm', 'web'], ['host-a/agent#3']],
    [
      ['--vm', 'web', '--level', 'io'],
      ['coordinator#2', 'host-a/agent#2', 'host-a/agent#3', 'host-a/agent#5'],
    ],
    [['--volume', 'csv1'], ['host-a/agent#1']],
    // A kind is looked for at every level.
    [['--kind', 'disk.*'], ['host-a/agent#5']],
    [['--disk', 'd1', '--level', 'io'], ['host-a/agent#5']],
    [['--process', 'coordinator'], ['coordinator#1']],
    [
      ['--level', 'message', '--last', '2'],
      ['host-a/agent#4', 'coordinator#3'],
    ],
    [
      ['--since', '1m', '--level', 'io'],
      [
        'coordinator#1',
        'host-a/agent#1',
        'coordinator#2',
        'host-a/agent#2',
        'host-a/agent#3',
        'host-a/agent#4',
        'coordinator#3',
        'host-a/agent#5',
      ],
    ],
    [['--since', '59s', '--level', 'io'], ['host-a/agent#5']],
    [['--until', '03:04:05.004'], ['coordinator#1']],
    [['--since', '2026-01-02T03:04:05.025Z'], ['host-a/agent#3']],
    [['--since', '2026-01-02 03:04:05.004', '--until', '2026-01-02 03:04:05.006'], ['host-a/agent#1']],
  ])('%j', async (words, records) => expect(await shown(...words)).toEqual(records))

  test('what led to a record, and what it led to', async () => {
    expect(await shown('--cause', 'coordinator#2')).toEqual([
      ...['coordinator#1', 'coordinator#2', 'host-a/agent#2', 'host-a/agent#3', 'host-a/agent#4', 'coordinator#3'],
    ])
    // Its answer is no consequence of the VM's start.
    expect(await shown('--cause', 'host-a/agent#3')).toEqual([
      ...['coordinator#1', 'coordinator#2', 'host-a/agent#2', 'host-a/agent#3'],
    ])
    const { out } = await run('show', '--from', root, '--cause', 'host-a/agent#3')
    expect(out.filter(line => line.startsWith('►'))).toEqual([expect.stringContaining('host-a/agent #3 vm.run')])
  })

  test('a number that several runs have is that of the last, unless an earlier time is asked for', async () => {
    const again = { ...at(70_000), kind: 'decision.admit' }
    writeSegment(root, 'coordinator', [record('coordinator', 1, again)], { number: 2 })
    const { out, err } = await run('show', '--from', root, '--cause', 'coordinator#1', '--json')
    expect(out.map(line => JSON.parse(line).kind)).toEqual(['decision.admit'])
    expect(err).toEqual([expect.stringMatching(/1 earlier runs of coordinator have a record 1, too; --until/)])
    expect(await shown('--cause', 'coordinator#1', '--until', '5s')).toContain('coordinator#3')
  })

  const from = () => ['show', '--from', root]
  test('words that nothing in the trace fits are named, with what there is', async () => {
    await refused([...from(), '--vm', 'nope'], /there is no vm "nope" \(--vm\); known: mail, web/)
    await refused([...from(), '--volume', 'csv9'], /there is no volume "csv9" .*known: csv1/)
    await refused([...from(), '--migration', 'm', '--format', 'lines'], /there is no migration "m" .*no record names/)
    await refused([...from(), '--migration', 'm'], /there is no migration "m" in the trace/)
    await refused([...from(), '--outage', 'host-a@1'], /there is no outage "host-a@1" .*it has none/)
    await refused([...from(), '--kind', 'vm.runs'], /there is no kind "vm.runs" .*vm\.run/)
    await refused([...from(), '--kind', 'wm.*'], /there is no kind "wm\.\*"/)
    await refused([...from(), '--process', 'host-z/agent'], /there is no process "host-z\/agent" .*coordinator/)
    await refused([...from(), '--host', 'host-z'], /there is no host "host-z"/)
    await refused([...from(), '--cause', 'coordinator#99'], /coordinator has no record 99/)
  })

  test('words that make no sense are named', async () => {
    await refused([...from(), '--since', 'yesterday'], /"yesterday" is no time \(--since\); say 5m/)
    await refused([...from(), '--until', '25:00'], /"25:00" is no time \(--until\)/)
    await refused([...from(), '--since', '5s', '--until', '10s'], /nothing lies between/)
    await refused([...from(), '--cause', 'coordinator'], /"coordinator" names no record .*PROCESS#NUMBER/)
    await refused([...from(), '--kind', 'vm*'], /not a kind to filter by/)
    await refused([...from(), '--cause', 'a#1', '--outage', 'x'], /--cause does not go with --outage/)
    await refused([...from(), '--migration', 'x', '--follow'], /--migration does not go with --follow .*--format lines/)
    await refused([...from(), '--format', 'mermaid'], /--format does not go with records/)
    await refused(
      [...from(), '--migration', 'x', '--host', 'host-a'],
      /--migration does not go with --host .*--format lines/,
    )
    await refused([...from(), '--outage', 'x', '--since', '5s'], /--outage does not go with --since/)
    await refused([...from(), '--cause', 'coordinator#1', '--kind', 'vm.run'], /--cause does not go with --kind/)
    await refused(['show', '--from', join(root, 'x')], /no such file or directory/)
    await refused(['list', '--migrations', '--outages'], /does not go with/)
  })

  test('nothing that fits all of the words at once is no error', async () => {
    const { code, out, err } = await run('show', '--from', root, '--vm', 'mail', '--kind', 'disk.invoke')
    expect([code, out, err]).toEqual([OK, [], ['stellwerk: no record is as asked for']])
  })

  test('what is damaged is said once, and the rest is shown', async () => {
    const path = join(root, 'host-a/agent/trace/00000001.trace')
    const bytes = readFileSync(path)
    bytes[bytes.length - 100]! ^= 1
    bytes[150]! ^= 1
    writeFileSync(path, bytes)
    const { code, out, err } = await run('show', '--from', root, '--cause', 'coordinator#1', '--json')
    expect(code).toBe(FAILED)
    expect(err).toEqual([expect.stringMatching(/a damaged trace record.*host-a\/agent/)])
    expect(out.length).toBeGreaterThanOrEqual(2)
  })
})

test('new records come within a second, in order, from new segments and new processes too', async () => {
  story()
  const source = await openTrace('', [root])
  const heard: { readonly id: string; readonly afterMs: number }[] = []
  let writtenAt = 0
  const write = () => {
    writtenAt = performance.now()
    writeSegment(root, 'host-a/agent', [record('host-a/agent', 6, at(70_000))], { number: 2 })
    writeSegment(root, 'coordinator', [record('coordinator', 4, at(69_000))], { number: 2 })
    setTimeout(() => writeSegment(root, 'san-a', [record('san-a', 1, at(71_000))]), 300)
  }
  const started = performance.now()
  await follow(source, {
    last: 1,
    reopen: () => openTrace('', [root]),
    onRecord: ({ process, seq }) => {
      heard.push({ id: `${process}#${seq}`, afterMs: performance.now() - writtenAt })
      if (heard.length === 1) setTimeout(write, 50)
    },
    isOver: () => heard.length >= 4 || performance.now() - started > 15_000,
  })
  expect(heard.map(({ id }) => id)).toEqual(['host-a/agent#5', 'coordinator#4', 'host-a/agent#6', 'san-a#1'])
  expect(heard[2]?.afterMs).toBeLessThan(1_500)
}, 30_000)

/** All that following gives until no more comes for a second. */
async function followed(...from: readonly string[]): Promise<string[]> {
  const heard: string[] = []
  let lastAt = performance.now()
  await follow(await openTrace('', from), {
    last: 100,
    reopen: () => openTrace('', from),
    onRecord: ({ process, seq }) => {
      heard.push(`${process}#${seq}`)
      lastAt = performance.now()
      if (heard.length === 3) writeSegment(root, 'host-a/agent', [record('host-a/agent', 6, at(70_000))], { number: 3 })
    },
    isOver: () => performance.now() - lastAt > 1_000,
  })
  return heard
}

test('from a single segment on, and of segments with other names what they hold', async () => {
  writeSegment(root, 'host-a/agent', [record('host-a/agent', 1, at(1))])
  const second = [record('host-a/agent', 4, at(4)), record('host-a/agent', 5, at(5))]
  const path = writeSegment(root, 'host-a/agent', second, { number: 2 })
  const copy = writeSegment(root, 'san-a', [record('san-a', 1, at(6))])
  const renamed = join(root, 'copy-of-san-a.trace')
  renameSync(copy, renamed)
  expect(await followed(path, renamed)).toEqual(['host-a/agent#4', 'host-a/agent#5', 'san-a#1', 'host-a/agent#6'])
}, 30_000)

test('stats: messages, bytes and latencies are those that the trace has', async () => {
  story()
  const { out, code } = await run('stats', '--from', root, '--json')
  expect(code).toBe(OK)
  const { records, kinds, links } = JSON.parse(out[0] ?? '')
  expect(records).toBe(4)
  expect(kinds).toEqual([
    {
      ...{ kind: 'vm.start', sent: 1, received: 1, bytes: 150, replies: 1, failed: 0 },
      latency: { count: 1, p50Ms: 20, p99Ms: 20, maxMs: 20 },
    },
  ])
  expect(links).toEqual([
    { from: 'coordinator', to: 'host-a/agent', received: 1, bytes: 100 },
    { from: 'host-a/agent', to: 'coordinator', received: 1, bytes: 50 },
  ])
  const text = (await run('stats', '--from', root)).out.join('\n')
  expect(text).toMatch(/vm\.start +1 +1 +1 +0 +150 +20 ms +20 ms +20 ms/)
})

describe('diff', () => {
  const sides = () => [join(root, 'a'), join(root, 'b')] as const
  const both = (process: string, records: readonly TraceRecord[], others: readonly TraceRecord[]) => {
    const [a, b] = sides()
    writeSegment(a, process, records, { cluster: 'x' })
    writeSegment(b, process, others, { cluster: 'y' })
  }
  const run3 = [1, 2, 3].map(seq => record('san-a', seq, { body: { epoch: seq } }))

  test('of the same says so', async () => {
    both('san-a', run3, run3)
    expect(await run('diff', ...sides())).toEqual({ code: OK, out: ['the same: 3 records'], err: [] })
  })

  test('tells the first that differs, in what, and what stands around it', async () => {
    both('san-a', run3, [...run3.slice(0, 2), record('san-a', 3, { body: { epoch: 9 } })])
    both('coordinator', [record('coordinator', 1, at(0))], [])
    const { code, out } = await run('diff', ...sides(), '--context', '1')
    expect(code).toBe(FAILED)
    expect(out[0]).toBe('they part first in san-a, after 2 records that are the same: body.epoch')
    expect(out.slice(3, 6).map(line => line.replace(/^(.) .*#(\d).*(\{.*)$/, '$1 $2 $3'))).toEqual([
      ...['  2 {"epoch":2}', '- 3 {"epoch":3}', '+ 3 {"epoch":9}'],
    ])
    expect(out.at(-1)).toMatch(/coordinator is only in .*\/a$/)
  })

  test('without times only what happened counts; an end is a difference', async () => {
    const later = run3.map(each => ({ ...each, ...at(each.seq + 500) }))
    both('san-a', run3, later)
    expect((await run('diff', ...sides())).code).toBe(FAILED)
    expect((await run('diff', ...sides(), '--ignore-times')).code).toBe(OK)
    const [a] = sides()
    writeSegment(a, 'san-a', [record('san-a', 4)], { number: 2, cluster: 'x' })
    const { out } = await run('diff', ...sides(), '--ignore-times', '--json')
    const found = JSON.parse(out[0] ?? '')
    expect(found).toMatchObject({ isSame: false, same: 3, differences: [{ process: 'san-a', same: 3, b: [] }] })
    await refused(['diff', a, join(root, 'nowhere')], /no such file or directory/)
    await refused(['diff', ...sides(), '--process', 'x'], /there is no process "x" .*san-a/)
  })
})

describe('export', () => {
  const words = (...more: readonly string[]) => [
    'export',
    '--from',
    root,
    '--format',
    'ndjson',
    '--out',
    'out',
    ...more,
  ]
  const exported = () => readFileSync(join(root, 'out'), 'utf8').trim().split('\n')

  test('takes the same words as show', async () => {
    writeSegment(root, 'a', [
      record('a', 1, at(0)),
      record('a', 2, { ...at(5), vm: 'web' }),
      record('a', 3, { ...at(2_000), vm: 'web', disk: 'd-1' }),
    ])
    writeSegment(root, 'b', [record('b', 1, { ...at(3_000), vm: 'web' })])
    expect(await run(...words('--vm', 'web', '--process', 'a', '--since', '03:04:06', '--disk', 'd-1'))).toMatchObject({
      code: OK,
      out: [expect.stringMatching(/^1 records as ndjson/)],
    })
    expect(exported()).toHaveLength(1)
  })

  test('of what is not there leaves no file', async () => {
    writeSegment(root, 'a', [record('a', 1, { vm: 'web' })])
    await refused(words('--vm', 'nope'), /no vm "nope"/, /known: web/)
    await refused(words('--process', 'nope'), /no process "nope"/, /known: a/)
    await refused(words('--since', 'noon'), /"noon" is no time/)
    expect(existsSync(join(root, 'out'))).toBe(false)
  })

  test('tells of damage once', async () => {
    const path = writeSegment(
      root,
      'a',
      [1, 2, 3].map(seq => record('a', seq, { body: { note: 'damage me' } })),
    )
    const bytes = readFileSync(path)
    bytes[bytes.indexOf('damage me')]! ^= 1
    writeFileSync(path, bytes)
    const { code, err } = await run(...words())
    expect(code).toBe(FAILED)
    expect(err.filter(line => /damaged/.test(line))).toHaveLength(1)
    expect(exported()).toHaveLength(2)
  })
})

test('to-scenario takes times as show does', async () => {
  writeSegment(root, 'coordinator', [record('coordinator', 1, { level: 'message', kind: 'core.input', body: FED })])
  const words = (since: string) => ['to-scenario', '--from', root, '--out', 'scenario', '--since', since]
  await refused(words('noon'), /"noon" is no time/, /say 5m/)
  await refused(words('5m'), /fed nothing in that time/)
  expect(existsSync(join(root, 'scenario'))).toBe(false)
})

/** Without a snapshot before it nobody can tell what it led to. */
const FED = { core: 'coordinator', value: { now: 1, wallMs: START_MS, input: { kind: 'tick' } } }

test('a trace by which nothing can be judged is no pass', async () => {
  writeSegment(root, 'host-a/guardian', [record('host-a/guardian', 1, { ...at(0), kind: 'place' })])
  const { code, out } = await run('check', '--from', root)
  expect([code, out.at(-1)]).toEqual([FAILED, expect.stringMatching(/^nothing could be judged/)])
})

test('a record that a kill cut off is told in one line, and what is before it is shown and judged', async () => {
  const granted = { kind: 'extent.granted', volume: 'csv1', disk: 'd', body: { extent: 1, zero: true, offset: 0 } }
  const path = writeSegment(root, 'coordinator', [
    record('coordinator', 1, { ...at(0), ...granted }),
    record('coordinator', 2, { ...at(1), kind: 'decision.fence' }),
  ])
  truncateSync(path, readFileSync(path).length - 5)
  const cut = expect.stringMatching(/00000001\.trace ends within a record, at byte \d+, as a kill leaves it/)
  expect(await run('show', '--from', root)).toEqual({ code: OK, out: [expect.stringContaining('granted')], err: [cut] })
  const unsaid = expect.stringMatching(/who took part is not known/)
  expect(await run('check', '--from', root)).toMatchObject({ code: OK, err: [cut, unsaid] })
})
