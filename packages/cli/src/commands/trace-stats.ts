// `stellwerk trace stats`: messages and bytes by kind and by link, how long requests took, how evenly heartbeats came.

import { formatDate, formatTime } from '@stellwerk/protocol/trace/format-line.ts'
import { type CommandSpec, DIR, FAILED, JSON_OUT, OK } from '../command-line/command.ts'
import { table } from '../render/table.ts'
import { span } from '../trace/chart-text.ts'
import type { Histogram } from '../trace/histogram.ts'
import { checkNames, PROCESS, spanOf, TIMES } from '../trace/show-filter.ts'
import { FROM, openTrace } from '../trace/source.ts'
import { TraceStats } from '../trace/stats.ts'
import { type Damage, tolerant } from '../trace/tolerant.ts'

export const stats: CommandSpec = {
  words: 'trace stats',
  args: [],
  options: { dir: DIR, from: FROM, process: PROCESS, ...TIMES, json: JSON_OUT },
  summary: 'Messages by kind and by link, latencies, and the jitter of heartbeats',
  run: async (context, input) => {
    const source = await openTrace(context.directory(input), input.texts('from'))
    checkNames(source, input)
    const damage: Damage = { count: 0 }
    const names = input.texts('process')
    const filter = { kinds: ['message.sent', 'message.received'], ...(await spanOf(source, input)) }
    const found = new TraceStats()
    const options = { filter, ...tolerant(context, damage) }
    for await (const record of source.records(options, names.length === 0 ? undefined : names)) found.observe(record)
    const { terminal } = context
    if (input.flag('json')) terminal.out(JSON.stringify(asJson(found)))
    else for (const line of linesOf(found)) terminal.out(line)
    return damage.count === 0 ? OK : FAILED
  },
}

function figures(histogram: Histogram) {
  const exact = (value: number | null) => (value === null ? null : Number(value.toPrecision(4)))
  const { count, max } = histogram
  return { count, p50Ms: exact(histogram.quantile(0.5)), p99Ms: exact(histogram.quantile(0.99)), maxMs: exact(max) }
}

function asJson(found: TraceStats) {
  const { records, fromMs, toMs } = found
  return {
    ...{ records, fromMs, toMs },
    kinds: found.kinds().map(({ latency, ...rest }) => ({ ...rest, latency: figures(latency) })),
    links: found.links(),
    beats: found
      .beats()
      .map(({ interval, jitter, ...rest }) => ({ ...rest, interval: figures(interval), jitter: figures(jitter) })),
  }
}

const ms = (value: number | null): string => (value === null ? '-' : `${Number(value.toPrecision(3))} ms`)
const columns = (histogram: Histogram): string[] =>
  histogram.count === 0
    ? ['-', '-', '-']
    : [ms(histogram.quantile(0.5)), ms(histogram.quantile(0.99)), ms(histogram.max)]

function linesOf(found: TraceStats): string[] {
  const { records, fromMs, toMs } = found
  if (records === 0) return ['no message is in the trace']
  const seconds = Math.max(1, toMs - fromMs) / 1_000
  const rate = (count: number) => (count / seconds).toPrecision(3)
  const kinds = found
    .kinds()
    .map(({ kind, sent, received, bytes, replies, failed, latency }) => [
      ...[kind, String(sent), String(received), String(replies), String(failed), String(bytes), ...columns(latency)],
    ])
  const links = found
    .links()
    .map(({ from, to, received, bytes }) => [from, to, String(received), rate(received), String(bytes)])
  const beats = found
    .beats()
    .map(({ kind, from, to, interval, jitter }) => [
      ...[kind, from, to, String(interval.count + 1), ...columns(interval), ...columns(jitter)],
    ])
  const head = `${formatDate(fromMs)} ${formatTime(fromMs)} UTC, ${span(toMs - fromMs)}: ${records} records of messages`
  const times = ['P50', 'P99', 'MAX']
  return [
    ...[head, ''],
    ...table(['KIND', 'SENT', 'RECEIVED', 'REPLIES', 'FAILED', 'BYTES', ...times], kinds),
    ...['', ...table(['FROM', 'TO', 'MESSAGES', 'A SECOND', 'BYTES'], links)],
    ...(beats.length === 0
      ? []
      : ['', ...table(['BEATS', 'FROM', 'TO', 'COUNT', ...times, 'JITTER P50', 'P99', 'MAX'], beats)]),
  ]
}
