// `stellwerk trace check`: what the rules of docs/SPEC.md say of a recorded trace. Changes nothing.

import { formatLine } from '@stellwerk/protocol/trace/format-line.ts'
import { type CommandSpec, DIR, FAILED, JSON_OUT, OK, type Terminal } from '../command-line/command.ts'
import { table } from '../render/table.ts'
import { untilInterrupted } from '../terminal/until-interrupted.ts'
import { type CheckReport, checkTrace, type ToldViolation } from '../trace/check.ts'
import { type WatchOptions, watchTrace } from '../trace/check-follow.ts'
import { DOUBT_MS } from '../trace/check-losses.ts'
import { rulesNamed } from '../trace/check-rules.ts'
import { FROM, openTrace, type TraceSource } from '../trace/source.ts'
import { type Damage, tolerant } from '../trace/tolerant.ts'

/** Violations told in full; of the others only what they are. */
const TOLD_MAX = 5
/** Places where records are missing that are named one by one. */
const MISSING_MAX = 5
const BODY_CHARS = 160
const LOOK_MS = 100

export const check: CommandSpec = {
  words: 'trace check',
  args: [],
  options: {
    dir: DIR,
    from: FROM,
    rule: { type: 'string', multiple: true, value: 'R', help: 'only this rule of docs/SPEC.md: FEN1, IO3, …' },
    follow: { type: 'boolean', help: 'go on while the cluster runs, until a rule is broken or Ctrl-C' },
    json: JSON_OUT,
  },
  summary: 'Whether a recorded trace keeps the rules; with what led to it where one is broken',
  run: async (context, input) => {
    const { terminal } = context
    const named = input.texts('rule')
    const rules = rulesNamed(named)
    const source = await openTrace(context.directory(input), input.texts('from'))
    const damage: Damage = { count: 0 }
    const { onDamaged, onTruncated } = tolerant(context, damage)
    const options = { rules, onDamaged, onTruncated }
    const reopen = () => openTrace(context.directory(input), input.texts('from'))
    const report = input.flag('follow')
      ? await watched(terminal, source, { ...options, reopen })
      : await checkTrace(source, options)
    if (input.flag('json')) terminal.out(JSON.stringify(report))
    else tell(terminal, report)
    // Who asks for one rule wants to know: that it can't be told is no yes.
    const unanswered = named.length > 0 && report.rules.some(({ verdict }) => verdict === 'not-judged')
    return report.violations.length > 0 || damage.count > 0 || unanswered || !saysAnything(report) ? FAILED : OK
  },
}

/** A trace that is about nothing that a rule is about proves as little as none. */
function saysAnything({ rules }: CheckReport): boolean {
  return rules.some(({ verdict }) => verdict !== 'not-judged')
}

/** Says on the side what it does: its output is the report. */
async function watched(
  terminal: Terminal,
  source: TraceSource,
  options: Pick<WatchOptions, 'rules' | 'reopen' | 'onDamaged'>,
): Promise<CheckReport> {
  const watching = Promise.withResolvers<CheckReport>()
  await untilInterrupted(async sleep => {
    let isInterrupted = false
    let isOver = false
    const report = watchTrace(source, {
      ...options,
      onCaughtUp: records => terminal.err(`watching: ${records} records so far; Ctrl-C ends it`),
      onUnconfirmed: ({ rule, message }) => terminal.err(`not borne out by the whole trace: ${rule}: ${message}`),
      isOver: () => isInterrupted,
    }).finally(() => {
      isOver = true
    })
    report.then(watching.resolve, watching.reject)
    // Told below, when it is awaited.
    watching.promise.catch(() => undefined)
    while (!isOver && (await sleep(LOOK_MS)));
    isInterrupted = true
    await watching.promise
  })
  return watching.promise
}

function tell(terminal: Terminal, report: CheckReport): void {
  const { cluster, seed, processes, records, rules, violations, missing, doubtful } = report
  const of =
    seed === null ? (cluster === null ? 'a cluster' : `cluster ${cluster}`) : `the simulated run of seed ${seed}`
  terminal.out(`${records} records of ${of} (${processes.join(', ')}) against the rules of docs/SPEC.md`)
  terminal.out('')
  const judged = rules.filter(({ verdict }) => verdict !== 'not-judged')
  const rows = judged.map(({ rule, verdict, records: by, why }) => [rule, verdict, String(by), why ?? ''])
  if (rows.length > 0) for (const line of table(['RULE', 'VERDICT', 'RECORDS', ''], rows)) terminal.out(line)
  const others = rules.filter(({ verdict }) => verdict === 'not-judged')
  if (others.length > 0) {
    terminal.out('')
    terminal.out('Not judged:')
    for (const { rule, why } of others) terminal.out(`  ${rule.padEnd(5)} ${why}`)
  }
  for (const each of missing.slice(0, MISSING_MAX)) terminal.err(`stellwerk: ${each}`)
  if (missing.length > MISSING_MAX) terminal.err(`stellwerk: and ${missing.length - MISSING_MAX} more such places`)
  if (doubtful > 0) {
    const near = `records that are missing within ${DOUBT_MS / 1000} s of them, or a whole trace, may explain them`
    terminal.err(`stellwerk: ${doubtful} findings are not counted: ${near}`)
  }
  for (const [i, violation] of violations.entries()) {
    terminal.out('')
    terminal.out(`${violation.rule} is broken: ${violation.message}`)
    if (i < TOLD_MAX) for (const line of chainLines(violation, seed !== null)) terminal.out(line)
  }
  terminal.out('')
  if (!saysAnything(report)) {
    terminal.out('nothing could be judged: this trace keeps no rule, and breaks none')
    return
  }
  const kept = judged.filter(({ verdict }) => verdict === 'kept').length
  const broken = judged.length - kept
  terminal.out(
    violations.length === 0
      ? `no rule is broken: ${kept} kept, ${others.length} not judged`
      : `${violations.length} violations of ${broken} rules: ${kept} kept, ${others.length} not judged`,
  )
}

/** `>` marks what proves it; the others are what led there, each by the one before it in its process or by the message named. */
function chainLines({ chain }: ToldViolation, isSimulated: boolean): string[] {
  if (chain.length === 0) return []
  const lines = chain.map(({ record, proof }) => {
    // Hosts' clocks differ, which in a simulated run is known.
    const time = isSimulated ? `${(record.at / 1000).toFixed(4)} s ` : ''
    const cause = record.cause === undefined ? '' : ` ← ${record.cause.process} #${record.cause.seq}`
    return `  ${proof ? '>' : ' '} ${time}${formatLine(record, { maxBody: BODY_CHARS })}${cause}`
  })
  return ['  what led to it (> is the proof):', ...lines]
}
