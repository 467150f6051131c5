import { describe, expect, test } from 'vitest'
import type { Fault } from '../fault.ts'
import { History } from '../judge/history.ts'
import { judgeObjective } from '../judge/objectives.ts'
import { parsePlan } from '../plan/parse-plan.ts'
import type { RunResult } from '../run.ts'
import { escapeMarkdown, escapeXml } from './escape.ts'
import { html } from './html.ts'
import { jsonOf, unjudgedOf } from './json.ts'
import { junit, unjudgedJunit } from './junit.ts'
import { markdown } from './markdown.ts'
import { seedsHtml, seedsJunit, seedsReport } from './seeds.ts'
import { silences, timelineSvg } from './timeline.ts'

/** What would be markup wherever it is not escaped, and what no XML may contain. */
const NASTY = 'a <b> & "c" \'d\' \u0000\u001b[31m \ud800 ü'
const plan = {
  ...parsePlan(
    'p',
    'name: p\nsummary: s\nduration: 20s\nfaults: [{ at: 1s, kind: host-kill, host: host-a, for: 3s }]\nhold: { objectives: { outage: 2s, failover: lease + 2s } }\n',
  ),
  summary: NASTY,
}
const schedule: readonly Fault[] = [
  { id: 1, kind: 'host-kill', atMs: 1_000, lastsMs: 3_000, host: 'host-a' },
  { id: 2, kind: 'partition', atMs: 2_000, lastsMs: 6_000, host: 'host-b', peer: 'host-c', oneWay: true },
]

function result(): RunResult {
  const history = new History(['vm-1', 'vm-2'])
  let seq = 0
  const said = (now: number, kind: string, body: object, ids: object = {}): void => {
    seq += 1
    const stamps = { hlc: { wallMs: now, counter: 0 }, at: now, process: 'p', seq, level: 'decision', kind } as const
    history.observe({ ...stamps, ...ids, body: body as never }, now)
  }
  said(0, 'lease.granted', { leaseMs: 3_000 })
  for (const vm of ['vm-1', 'vm-2']) {
    said(0, 'vm.run', { instance: `${vm}/1`, how: 'start' }, { vm, host: 'host-a' })
    said(900, 'guest.acknowledged', { entry: 1 }, { vm, host: 'host-a' })
  }
  said(1_000, 'fault.begun', { id: 1, fault: 'host-kill', host: 'host-a' })
  said(2_000, 'fault.begun', { id: 2, fault: 'partition', host: 'host-b', peer: 'host-c', oneWay: true })
  said(4_000, 'fault.ended', { id: 1 })
  for (const vm of ['vm-1', 'vm-2']) {
    said(4_100, 'failover.start', { from: 'host-a', to: 'host-b', attested: false }, { vm })
    said(4_500, 'vm.run', { instance: `${vm}/2`, how: 'start' }, { vm, host: 'host-b' })
    for (let at = 5_000; at < 30_000; at += 100) said(at, 'guest.acknowledged', { entry: at }, { vm, host: 'host-b' })
  }
  said(20_000, 'faults.ended', { withinMs: 10_000, vms: [] })
  return {
    ...{ plan, seed: '7', kind: 'sim', schedule, hosts: ['host-a', 'host-b', 'host-c'], history, verdict: 'fail' },
    violations: [{ rule: 'VM1', message: NASTY, at: 4_600, records: [] }],
    objectives: plan.objectives.map(each => judgeObjective(each, history)),
    ...{ findings: [`${NASTY}\nand more`], lack: null, judged: { VM1: 10, IO1: 20 }, traceHash: 'f00' },
    ...{ faults: { 'host-kill': 1, partition: 1 }, migrations: { asked: 2, refused: 1 }, interrupted: false },
  }
}

/** Tags that are balanced and nested, attributes that are quoted, and no bare `&` or `<`: what a parser would insist on. */
function misformed(xml: string): string | null {
  const open: string[] = []
  const rest = xml.replace(/^<\?xml [^?]*\?>|^<!DOCTYPE html>/, '').replace(/<style>[^<]*<\/style>/g, '')
  let at = 0
  for (const match of rest.matchAll(/<(\/?)([A-Za-z][\w-]*)((?:\s+[\w:-]+="[^"<]*")*)\s*(\/?)>/g)) {
    const between = rest.slice(at, match.index)
    if (/[<>]|&(?!(?:amp|lt|gt|quot|#39);)/.test(between)) return `bare markup in ${JSON.stringify(between)}`
    at = match.index + match[0].length
    const [, closing, name = '', attributes = '', empty] = match
    if (/&(?!(?:amp|lt|gt|quot|#39);)/.test(attributes)) return `a bare & in ${attributes}`
    if (closing === '/') {
      if (open.pop() !== name) return `</${name}> closes something else`
    } else if (empty !== '/') open.push(name)
  }
  if (rest.slice(at).trim() !== '') return `behind the end: ${rest.slice(at)}`
  return open.length === 0 ? null : `not closed: ${open.join(', ')}`
}

describe('the check of these tests itself', () => {
  test('takes what is well-formed and finds what is not', () => {
    expect(misformed('<a b="c"><d/>text &amp; more</a>')).toBe(null)
    for (const bad of ['<a><b></a></b>', '<a>', '<a b=c/>', '<a>&</a>', '<a>x < y</a>', '<a/>tail', '<a b="&"/>']) {
      expect(misformed(bad), bad).not.toBe(null)
    }
  })
})

describe('a report', () => {
  test('as JUnit XML is well-formed, with a case for each rule, each objective and what was found', () => {
    const xml = junit([result()])
    expect(misformed(xml)).toBe(null)
    expect(xml).toContain('<testsuites name="stellwerk chaos" tests="6" failures="3">')
    expect(xml).toContain('name="rule IO1"/>')
    expect(xml.match(/<failure /g)).toHaveLength(3)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that none of them is there
    expect(xml).not.toMatch(/[\u0000-\u0008\u001b]/)
  })

  test('of a run that never came to a judgement is a failure, and so is each seed that was not run', () => {
    const unjudged = unjudgedOf('p', 'local', '7', `no volume: ${NASTY}`)
    expect(unjudged).toMatchObject({ verdict: 'fail', findings: [expect.stringContaining('no volume')] })
    const xml = unjudgedJunit(unjudged)
    expect(misformed(xml)).toBe(null)
    expect(xml).toContain('<testsuites name="stellwerk chaos" tests="1" failures="1">')
    const seeds = seedsJunit(seedsReport('p', ['1', '2'], []), [], ['1', '2'])
    expect(misformed(seeds)).toBe(null)
    expect(seeds).toContain('tests="2" failures="2"')
    expect(seeds.match(/was not run/g)).toHaveLength(4)
  })

  test('as HTML is one well-formed page that needs nothing else', () => {
    const page = html(result(), 'stellwerk chaos run p --seed 7')
    expect(misformed(page)).toBe(null)
    expect(page).not.toMatch(/<script|<link|src=|@import|url\(/)
    expect(page.match(/http[^"]*/g)).toEqual(['http://www.w3.org/2000/svg'])
    for (const said of [
      'vm-1',
      'VM1',
      'failover',
      'host-kill host-a for 3s',
      'stellwerk chaos run p --seed 7',
      'f00',
    ]) {
      expect(page).toContain(said)
    }
  })

  test('its picture shows runs by host, faults, silences, failovers and what broke a rule', () => {
    const svg = timelineSvg(result())
    expect(misformed(svg)).toBe(null)
    expect(svg).toContain('<title>on host-a, 0.00 s to 1.00 s</title>')
    expect(svg).toContain('<title>on host-b, 4.50 s to 29.90 s</title>')
    expect(svg).toContain('<title>#1 host-kill host-a for 3s, 1.00 s to 4.00 s</title>')
    expect(svg).toContain('<title>#2 partition host-b → host-c for 6s, 2.00 s to 29.90 s</title>')
    expect(svg).toContain('<title>vm-2 acknowledged nothing for 4.10 s, from 0.90 s on</title>')
    expect(svg).toContain('<title>vm-1 is started on host-b: host-a is lost (4.10 s)</title>')
    expect(svg).toContain('<title>VM1: a &lt;b&gt; &amp; &quot;c&quot; &#39;d&#39; [31m  ü</title>')
    // Faults that overlap do not cover each other.
    const lanes = [...svg.matchAll(/y="(\d+)"[^>]*fill="#b8b8c0" stroke/g)].map(match => match[1])
    expect(new Set(lanes).size).toBe(2)
  })

  test('as Markdown has a table for each part, whose cells do not break it', () => {
    const text = markdown(result(), 'again')
    expect(text).toContain('# Chaos plan p on sim, seed 7')
    expect(text).toContain('| failover | nothing to measure | 5s | 0 | 2 | yes |')
    expect(text).toContain('| outage | 4100 ms | 2s | 2 | 0 | NO |')
    for (const line of text.split('\n').filter(each => each.startsWith('|'))) expect(line.endsWith('|')).toBe(true)
    // Escaped, it would make no table of what follows.
    expect(text).toMatch(/^\| --- \|/m)
    expect(text).not.toContain('\\---')
  })

  test('as Markdown shows what it says, and takes none of it for markup', () => {
    expect(escapeMarkdown('a_b _c_ *d* `e` [f](g) <h> ~i~ & \\\n j')).toBe(
      'a_b \\_c\\_ \\*d\\* \\`e\\` \\[f\\](g) \\<h\\> \\~i\\~ \\& \\\\ j',
    )
    expect(['# x', '- x', '12. x', '+1'].map(escapeMarkdown)).toEqual(['\\# x', '\\- x', '12\\. x', '\\+1'])
    expect(markdown(result(), 'again')).toContain('FAIL: a \\<b\\> \\& "c"')
  })

  test('of many seeds as HTML is one well-formed page, with what failed and how it is done again', () => {
    const one = { ...jsonOf(result()), failures: [NASTY], key: null }
    const report = seedsReport('p', ['7'], [one])
    const page = seedsHtml(report, [one], seed => `stellwerk chaos run p --seed ${seed}`)
    expect(misformed(page)).toBe(null)
    for (const said of ['Seed 7 failed', 'stellwerk chaos run p --seed 7', 'host-kill', 'outage', 'FAIL: p: 1 seeds']) {
      expect(page).toContain(said)
    }
  })

  test('as JSON has what programs rely on', () => {
    const json = JSON.parse(JSON.stringify(jsonOf(result())))
    expect(json).toMatchObject({
      verdict: 'fail',
      seed: '7',
      faults: { 'host-kill': 1, partition: 1 },
      objectives: [
        { name: 'outage', value: 4_100, limit: 2_000, ok: false },
        { name: 'failover', value: null, limit: 5_000, ok: true },
      ],
      violations: [{ rule: 'VM1', at: 4_600 }],
    })
  })
})

test('silences are those that are long, also at both ends', () => {
  expect(silences([600, 700, 1_300], 1_900)).toEqual([
    { from: 0, to: 600 },
    { from: 700, to: 1_300 },
    { from: 1_300, to: 1_900 },
  ])
  expect(silences([], 400)).toEqual([])
})

test('text is escaped once, and what no XML may contain is left out', () => {
  expect(escapeXml('<&>"\'')).toBe('&lt;&amp;&gt;&quot;&#39;')
  expect(escapeXml('a\u0000b\ud800c\u{1f600}')).toBe('abc\u{1f600}')
})
