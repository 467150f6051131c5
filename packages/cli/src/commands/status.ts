// `stellwerk status`, `events`, `why`: looking, without touching.

import type { ClusterEvent, Status, Why } from '@stellwerk/coordinator/view/schemas.ts'
import { formatDate, formatTime } from '@stellwerk/protocol/trace/format-line.ts'
import { errorMessage } from '@stellwerk/runtime/errors.ts'
import { isAway, pathOf } from '../api-client/client.ts'
import { statusFromAgents } from '../cluster/agents-view.ts'
import { lookAtUp } from '../cluster/up-record.ts'
import {
  type CommandContext,
  type CommandSpec,
  DIR,
  FAILED,
  type Input,
  JSON_OUT,
  OK,
} from '../command-line/command.ts'
import { usageError } from '../command-line/parse.ts'
import { parseCount, parseDuration } from '../command-line/values.ts'
import { eventLine, statusLines } from '../render/status.ts'
import { table } from '../render/table.ts'
import { untilInterrupted } from '../terminal/until-interrupted.ts'
import { watch } from '../watch/watch.ts'

const WATCH_LEAST_MS = 200
const WATCH_MOST_MS = 3_600_000
const FOLLOW_POLL_MS = 100
const status: CommandSpec = {
  words: 'status',
  args: [],
  options: {
    dir: DIR,
    json: JSON_OUT,
    watch: { type: 'boolean', help: 'go on: a live picture on a terminal, elsewhere a block of lines for each change' },
    interval: { type: 'string', value: 'TIME', help: 'with --watch: how often to look without an event (default 1s)' },
  },
  summary: 'What can be lost; hosts, VMs, volumes and paths',
  run: async (context, input) => {
    const interval = input.text('interval')
    if (input.flag('watch')) {
      return watch(context, input, parseDuration('interval', interval ?? '1s', WATCH_LEAST_MS, WATCH_MOST_MS))
    }
    if (interval !== undefined) throw usageError(status, '--interval goes with --watch')
    return showStatus(context, input)
  },
}

async function showStatus(context: CommandContext, input: Input): Promise<number> {
  const { terminal } = context
  let found: Status
  try {
    found = await (await context.api(input)).status()
  } catch (error) {
    // Of a cluster elsewhere nobody here can say more.
    if (!isAway(error) || context.isRemote) throw error
    return showAgents(context, input, errorMessage(error))
  }
  if (input.flag('json')) terminal.out(JSON.stringify(found))
  else for (const line of statusLines(found)) terminal.out(line)
  return OK
}

/** The coordinator is away: the agents know what runs. */
async function showAgents(context: CommandContext, input: Input, why: string): Promise<number> {
  const { terminal } = context
  const directory = context.directory(input)
  const found = await statusFromAgents(directory)
  if (input.flag('json')) {
    terminal.out(JSON.stringify(found))
    return FAILED
  }
  const nobody = Object.values(found.hosts).every(host => host.state === 'unknown')
  if (nobody && (await lookAtUp(directory)) === null) {
    terminal.out('the cluster is down: neither the coordinator nor a host answers; start it: npx stellwerk up')
    return FAILED
  }
  terminal.out(`the coordinator is away (${why}); VMs run on where they are`)
  terminal.out('')
  const hosts = Object.values(found.hosts).map(host => [host.name, host.state, host.vms.join(' ') || '-'])
  for (const line of table(['HOST', 'STATE', 'VMS'], hosts)) terminal.out(line)
  terminal.out('')
  const vms = Object.values(found.vms).map(vm => [vm.name, vm.state, vm.host])
  for (const line of table(['VM', 'STATE', 'HOST'], vms)) terminal.out(line)
  return FAILED
}

const events: CommandSpec = {
  words: 'events',
  args: [],
  options: {
    dir: DIR,
    json: { type: 'boolean', help: 'for programs: one JSON object a line' },
    follow: { type: 'boolean', help: 'go on with what happens' },
    last: { type: 'string', value: 'N', help: 'only the last N (default 50)' },
  },
  summary: 'What happened, oldest first',
  run: async (context, input) => {
    const { terminal } = context
    const client = await context.api(input)
    const last = parseCount('last', input.text('last') ?? '50', 0, 2_000)
    const show = (event: ClusterEvent) => terminal.out(input.flag('json') ? JSON.stringify(event) : eventLine(event))
    const showPast = async (): Promise<number> => {
      const past = await client.events(0)
      for (const event of past.slice(past.length - Math.min(last, past.length))) show(event)
      return past.at(-1)?.seq ?? 0
    }
    if (!input.flag('follow')) {
      await showPast()
      return OK
    }
    let ended = false
    await untilInterrupted(async sleep => {
      // Followed first, so that nothing is missed between the past and what follows; what comes meanwhile is held.
      const held: ClusterEvent[] = []
      let seen: number | null = null
      const close = await client.follow(
        event => {
          if (seen === null) held.push(event)
          else show(event)
        },
        () => {
          ended = true
        },
      )
      const until = await showPast()
      seen = until
      for (const event of held) if (event.seq > until) show(event)
      while (!ended && (await sleep(FOLLOW_POLL_MS)));
      close()
    })
    if (!ended) return OK
    terminal.err('stellwerk: the coordinator has ended the stream of events; run it again when it is back')
    return FAILED
  },
}

const why: CommandSpec = {
  words: 'why',
  args: ['WHAT', 'NAME'],
  options: { dir: DIR, json: JSON_OUT },
  summary: 'Why a vm, host or volume is as it is, or is not',
  run: async (context, input) => {
    const { terminal } = context
    const [what = '', name = ''] = input.args
    const answer = (await (await context.api(input)).get(pathOf('why', what, name))) as Why
    if (input.flag('json')) {
      terminal.out(JSON.stringify(answer))
      return OK
    }
    for (const sentence of answer.now) terminal.out(sentence)
    if (answer.decisions.length > 0) terminal.out('')
    for (const decision of answer.decisions) {
      const when = `${formatDate(decision.wallMs)} ${formatTime(decision.wallMs)}`
      terminal.out(`${when}  ${decision.kind}: ${decision.chose}, because ${decision.why}`)
      for (const rejected of decision.rejected) terminal.out(`    not ${rejected.option}: ${rejected.why}`)
    }
    return OK
  },
}

export const commands: readonly CommandSpec[] = [status, events, why]
