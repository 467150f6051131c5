// `stellwerk chaos kill|pause|resume|cut|inject|status|heal`: single faults of a running cluster, each in its journal, and how
// all of it is put right again.

import { join } from 'node:path'
import { describeError, errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { scratchDirectories } from '@stellwerk/runtime/node/scratch-directory.ts'
import { cut, describeFault, isPause, killed, NUMBERS, OPTION_OF, ofKind, paused } from '../chaos/act-words.ts'
import type { Breaking, NotHealed } from '../chaos/breaking.ts'
import { openProject, projectOf } from '../chaos/compose/running-project.ts'
import type { Fault } from '../chaos/fault.ts'
import { type Broken, isBroken } from '../chaos/local/journal.ts'
import { refusal } from '../chaos/local/rules-of.ts'
import { openRunning } from '../chaos/local/running-cluster.ts'
import { SCRATCH_PREFIX } from '../chaos/run-records.ts'
import { filesOf } from '../cluster/directory.ts'
import {
  type CommandContext,
  type CommandSpec,
  DIR,
  FAILED,
  type Input,
  JSON_OUT,
  OK,
  type OptionSpec,
} from '../command-line/command.ts'
import { table } from '../render/table.ts'
import { age } from '../render/units.ts'
import { untilInterrupted } from '../terminal/until-interrupted.ts'

const SECONDS: OptionSpec = { type: 'string', value: 'S', help: 'put it right after so long; Ctrl-C does so at once' }
const NETWORK: OptionSpec = { type: 'string', value: 'N', help: 'cluster, fabric-0, fabric-1 or guest (default: all)' }
const ONE_WAY: OptionSpec = { type: 'boolean', help: 'only what goes from the host to the other' }
const COMPOSE: OptionSpec = { type: 'string', value: 'PROJECT', help: 'the containers of that compose project instead' }
const COMMON = { dir: DIR, compose: COMPOSE, json: JSON_OUT, seconds: SECONDS }
const SECONDS_MAX = 86_400

/** What is to be broken, for as long as the work lasts. */
async function within<T>(
  context: CommandContext,
  input: Input,
  work: (breaking: Breaking, isUp: boolean, wall: () => number) => Promise<T>,
): Promise<T> {
  const { breaker, env, isUp } = await opened(context, input)
  try {
    return await work(breaker, isUp, () => env.clock.wall())
  } finally {
    await env.close()
  }
}

/** Processes of this machine in a directory, or containers of a project, whose journal lies where it is called. */
async function opened(context: CommandContext, input: Input) {
  const project = input.text('compose')
  if (project === undefined) return openRunning(context.directory(input))
  return { ...(await openProject(journalOf(context, input, project), project)), isUp: true }
}

function journalOf(context: CommandContext, input: Input, project: string): string {
  const isNamed = input.text('dir') !== undefined
  return isNamed ? context.directory(input) : join(context.terminal.cwd, '.stellwerk-compose', project)
}

function act(context: CommandContext, input: Input, fault: Fault): Promise<number> {
  // Containers have refusals of their own.
  const refused = input.text('compose') === undefined ? refusal(fault) : null
  if (refused !== null) throw refused
  const seconds = secondsOf(input)
  const { terminal } = context
  const isJson = input.flag('json')
  return within(context, input, async (breaking, isUp) => {
    if (!isUp) {
      throw new StellwerkError('not-running', 'no cluster runs there', {
        where: context.directory(input),
        hint: 'start it: npx stellwerk up --chaos --detach',
      })
    }
    if (isPause(fault)) await refuseTwice(breaking, fault)
    const broken = await breaking.inject(fault)
    const { id } = broken.fault
    if (isJson) terminal.out(JSON.stringify(broken.fault))
    else terminal.out(`fault ${id}: ${describeFault(fault)}`)
    if (seconds === null) {
      if (!isJson) terminal.out('it stays so until: npx stellwerk chaos heal')
      return OK
    }
    await untilInterrupted(async sleep => void (await sleep(seconds * 1_000)))
    await breaking.heal(id)
    if (!isJson) terminal.out(`fault ${id} is healed`)
    return OK
  })
}

/** What stands still already would go on when either is over. */
async function refuseTwice(breaking: Breaking, fault: Fault): Promise<void> {
  const earlier = (await breaking.journal.read()).find(broken => isSame(broken.fault, fault))
  if (earlier === undefined) return
  throw new StellwerkError('already-paused', `it stands still already, by fault ${earlier.fault.id}`, {
    where: describeFault(fault),
    hint: 'resume it first: npx stellwerk chaos resume',
  })
}

function secondsOf(input: Input): number | null {
  const text = input.text('seconds')
  if (text === undefined) return null
  const seconds = Number(text)
  if (text.trim() !== '' && seconds > 0 && seconds <= SECONDS_MAX) return seconds
  throw new StellwerkError('bad-number', `"${text}" is no time`, {
    where: '--seconds',
    hint: `say more than 0, at most ${SECONDS_MAX}`,
  })
}

const kill: CommandSpec = {
  words: 'chaos kill',
  args: ['WHAT', 'NAME?'],
  options: COMMON,
  summary: 'SIGKILL: host NAME (nothing attests it), agent NAME (its guardian does), storage NAME, or coordinator',
  run: (context, input) => act(context, input, killed(input.args[0] ?? '', input.args[1])),
}

const pause: CommandSpec = {
  words: 'chaos pause',
  args: ['WHAT', 'NAME?'],
  options: COMMON,
  summary: 'SIGSTOP: host NAME, storage NAME, or coordinator',
  run: (context, input) => act(context, input, paused(input.args[0] ?? '', input.args[1])),
}

const resume: CommandSpec = {
  words: 'chaos resume',
  args: ['WHAT', 'NAME?'],
  options: { dir: DIR, compose: COMPOSE, json: JSON_OUT },
  summary: 'SIGCONT of what `chaos pause` has stopped',
  run: (context, input) => {
    const wanted = paused(input.args[0] ?? '', input.args[1])
    return within(context, input, async breaking => {
      const found = (await breaking.journal.read()).filter(({ fault }) => isSame(fault, wanted))
      if (found.length === 0) {
        throw new StellwerkError('not-paused', `there is no ${describeFault(wanted)}`, {
          hint: 'see: npx stellwerk chaos status',
        })
      }
      for (const { fault } of found) await breaking.heal(fault.id)
      tell(context, input, found, [])
      return OK
    })
  },
}

function isSame(a: Fault, b: Fault): boolean {
  return a.kind === b.kind && a.host === b.host && a.storage === b.storage
}

const cutOff: CommandSpec = {
  words: 'chaos cut',
  args: ['WHAT', 'NAME', 'OTHER?'],
  options: { ...COMMON, network: NETWORK, 'one-way': ONE_WAY },
  summary: 'Nothing passes: host H, link H PEER, cable H FABRIC (one HBA’s), or fabric FABRIC',
  run: (context, input) => {
    const [what = '', name, other] = input.args
    const options = scopeOf(input)
    return act(context, input, cut(what, name, other, options))
  },
}

function scopeOf(input: Input) {
  const network = input.text('network')
  return { ...(network === undefined ? {} : { network }), oneWay: input.flag('one-way') }
}

const NUMBER_HELP = {
  chance: 'from 0 to 1',
  delayMs: 'milliseconds',
  jitterMs: 'up to so many milliseconds more',
  mibPerSecond: 'MiB/s',
  byMs: 'milliseconds, also negative (--by=-5000)',
} as const

const inject: CommandSpec = {
  words: 'chaos inject',
  args: ['FAULT'],
  options: {
    ...COMMON,
    host: { type: 'string', value: 'H', help: 'whom it hits' },
    peer: { type: 'string', value: 'P', help: 'the other side: a host, a storage, coordinator' },
    storage: { type: 'string', value: 'S', help: 'whose disk it hits' },
    fabric: { type: 'string', value: '0|1', help: 'which fabric' },
    network: NETWORK,
    'one-way': ONE_WAY,
    ...Object.fromEntries(
      NUMBERS.map(field => [OPTION_OF[field], { type: 'string', value: 'N', help: NUMBER_HELP[field] } as const]),
    ),
  },
  summary:
    'Any fault that a plan can name: delay, loss, duplicate, slow-link, disk-slow, disk-full, io-error, clock-jump, …',
  run: (context, input) => {
    return act(
      context,
      input,
      ofKind(input.args[0] ?? '', field => input.text(OPTION_OF[field]), scopeOf(input)),
    )
  },
}

const status: CommandSpec = {
  words: 'chaos status',
  args: [],
  options: { dir: DIR, compose: COMPOSE, json: JSON_OUT },
  summary: 'What is broken at the moment',
  run: (context, input) =>
    within(context, input, async (breaking, _isUp, wall) => {
      const broken = await breaking.journal.read()
      if (input.flag('json'))
        context.terminal.out(JSON.stringify(broken.map(({ fault, since }) => ({ ...fault, since }))))
      else if (broken.length === 0) context.terminal.out('nothing is broken')
      else {
        const rows = broken.map(({ fault, since }) => [`${fault.id}`, describeFault(fault), age(wall() - since)])
        for (const line of table(['ID', 'FAULT', 'SINCE'], rows)) context.terminal.out(line)
      }
      return OK
    }),
}

const heal: CommandSpec = {
  words: 'chaos heal',
  args: ['ID?'],
  options: { dir: DIR, compose: COMPOSE, json: JSON_OUT },
  summary: 'Put right what is broken, also what a run that was killed has left; safe to repeat',
  run: async (context, input) => {
    const [id] = input.args
    const project = input.text('compose')
    const named = input.text('dir') !== undefined || context.terminal.variables['STELLWERK_DIR'] !== undefined
    const outcomes: Outcome[] = []
    if (project !== undefined) outcomes.push(await healIn(journalOf(context, input, project), id, project))
    // A number is one of a certain cluster's.
    else if (named || id !== undefined) outcomes.push(await healIn(context.directory(input), id, null))
    else outcomes.push(...(await healWhatIsThere(context.directory(input))))
    const healed = outcomes.flatMap(each => each.healed)
    const left = outcomes.flatMap(each => each.left)
    tell(context, input, healed, left)
    for (const line of outcomes.flatMap(({ notes }) => notes)) {
      if (input.flag('json')) context.terminal.err(line)
      else context.terminal.out(line)
    }
    for (const error of outcomes.flatMap(({ failed }) => failed)) context.terminal.err(`NOT healed: ${error}`)
    return outcomes.every(each => each.left.length + each.failed.length === 0) ? OK : FAILED
  },
}

/** Of one cluster. */
interface Outcome {
  readonly healed: readonly Broken[]
  readonly left: readonly NotHealed[]
  /** What is worth knowing besides. */
  readonly notes: readonly string[]
  /** Why it could not be looked at. */
  readonly failed: readonly string[]
}

/** The cluster here, and what killed runs have left: those have no other names than their directories'. */
async function healWhatIsThere(here: string): Promise<Outcome[]> {
  const directories = await scratchDirectories(SCRATCH_PREFIX)
  const outcomes: Outcome[] = []
  for (const directory of [here, ...directories]) {
    try {
      const project = directory === here ? null : await projectOf(directory)
      if (project !== null && !(await isBroken(filesOf(directory)))) {
        if (await leavesContainers(directory, project))
          outcomes.push({ healed: [], left: [], notes: [noteOf(project)], failed: [] })
        continue
      }
      const outcome = await healIn(directory, undefined, project)
      const notes = project === null ? [] : [noteOf(project)]
      // What a run that failed has left for a look, with nothing broken, is not worth a word.
      if (directory === here || outcome.healed.length + outcome.left.length > 0) outcomes.push(outcome)
      outcomes.push({ healed: [], left: [], notes, failed: [] })
    } catch (error) {
      // Whoever has the cluster here in hand is to be told of; of runs' leftovers those are not.
      if (directory === here ? errorCode(error) === 'no-cluster' : NOTHING_THERE.has(errorCode(error))) continue
      // One that can't be looked at keeps no other from being healed.
      outcomes.push({ healed: [], left: [], notes: [], failed: [`${directory}: ${describeError(error)}`] })
    }
  }
  return outcomes
}

/** Of a run that has ended: one that goes on has its project in hand. */
async function leavesContainers(directory: string, project: string): Promise<boolean> {
  try {
    const { env } = await openProject(directory, project)
    await env.close()
    return true
  } catch (error) {
    if (NOTHING_THERE.has(errorCode(error)) || errorCode(error) === 'no-docker') return false
    throw error
  }
}

function noteOf(project: string): string {
  return `a run left containers: docker-compose -p ${project} down -v takes them away`
}

const NOTHING_THERE: ReadonlySet<string> = new Set([...['no-cluster', 'run-under-way', 'foreign-state', 'no-project']])

async function healIn(directory: string, id: string | undefined, project: string | null): Promise<Outcome> {
  const { breaker, env, isUp } =
    project === null ? await openRunning(directory) : { ...(await openProject(directory, project)), isUp: true }
  try {
    const before = await breaker.journal.read()
    const left = id === undefined ? await breaker.healAll() : await healNamed(breaker, id, before)
    const after = await breaker.journal.read()
    const healed = before.filter(({ fault }) => !after.some(other => other.fault.id === fault.id))
    const notes = isUp ? [] : [`the cluster in ${directory} is down: its next start starts all of it`]
    return { healed, left, notes, failed: [] }
  } finally {
    await env.close()
  }
}

async function healNamed(breaking: Breaking, id: string, broken: readonly Broken[]): Promise<readonly NotHealed[]> {
  const found = broken.find(({ fault }) => String(fault.id) === id)
  if (found === undefined) {
    throw new StellwerkError('unknown-fault', `there is no fault ${id}`, { hint: 'see: npx stellwerk chaos status' })
  }
  try {
    await breaking.heal(found.fault.id)
    return []
  } catch (error) {
    return [{ broken: found, why: describeError(error) }]
  }
}

function tell({ terminal }: CommandContext, input: Input, healed: readonly Broken[], left: readonly NotHealed[]): void {
  if (input.flag('json')) {
    const body = {
      healed: healed.map(({ fault }) => fault),
      left: left.map(({ broken, why }) => ({ ...broken.fault, why })),
    }
    terminal.out(JSON.stringify(body))
    return
  }
  if (healed.length + left.length === 0) terminal.out('nothing is broken')
  for (const { fault } of healed) terminal.out(`healed: ${describeFault(fault)}`)
  for (const { broken, why } of left) terminal.err(`NOT healed: ${describeFault(broken.fault)}: ${why}`)
}

export const commands: readonly CommandSpec[] = [kill, pause, resume, cutOff, inject, status, heal]
