// `stellwerk vm console NAME`: its guest's serial port as a terminal, or what it says and lines for it to read, heard from the hosts
// themselves. A VM that is stopped has none; for one that is to run and does not yet it waits, and says so.

import type { Status, VmView } from '@stellwerk/coordinator/view/schemas.ts'
import type { Address } from '@stellwerk/runtime/environment.ts'
import { describeError, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { type ApiClient, isAway, pathOf } from '../api-client/client.ts'
import { JOIN_TOKEN_FILE } from '../cluster/cluster-file.ts'
import { ConsoleFollower } from '../cluster/console-follower.ts'
import { clusterIn, tokenIn } from '../cluster/directory.ts'
import {
  type CommandContext,
  type CommandSpec,
  DIR,
  FAILED,
  type Input,
  OK,
  type Terminal,
} from '../command-line/command.ts'
import { untilInterrupted } from '../terminal/until-interrupted.ts'
import { ConsoleLines } from './console-lines.ts'
import type { ConsoleMode, ConsoleParts } from './console-mode.ts'
import { ConsoleTerminal } from './console-terminal.ts'
import { LISTEN } from './kept-way.ts'
import { showScreen } from './vm-screen.ts'

/** A coordinator that has not answered by then is as good as away; and nobody who wants to leave waits for it. */
const ANSWER_MS = 3_000
/** How often it is looked where the VM is. */
const LOOK_MS = 1_000
/** So long lines wait for a link to the VM's host. */
const FOLLOW_MS = 3_000
/** What passes by itself on the way to a guest that executes. */
const COMING = new Set(['waiting', 'lost', 'starting'])

export const consoleCommand: CommandSpec = {
  words: 'vm console',
  args: ['NAME'],
  options: {
    dir: DIR,
    vnc: { type: 'boolean', help: 'its screen instead, for a VNC viewer: opens a port of its host and prints it' },
    listen: { ...LISTEN, help: `with --vnc: ${LISTEN.help}` },
    json: { type: 'boolean', help: 'with --vnc: JSON on stdout' },
  },
  summary: 'Its console; Ctrl-] leaves a terminal, Ctrl-C lines',
  run: async (context, input) => {
    if (input.flag('vnc')) return showScreen(context, input)
    if (input.flag('json') || input.text('listen') !== undefined) {
      throw new StellwerkError('usage', '--json and --listen are for screens', { hint: 'say --vnc, too' })
    }
    return showConsole(context, input)
  },
}

type Seen = Pick<VmView, 'name' | 'state' | 'desired' | 'host' | 'why' | 'whyNot'>

/**
 * What a console of this VM waits for, or null: it is there. Throws `not-running` where waiting would be in vain: nothing of it runs,
 * and nothing is about to.
 */
export function consoleWait({ name, state, desired, host, why, whyNot }: Seen): string | null {
  if (host === null && (desired !== 'running' || !COMING.has(state))) {
    const is = state === 'failed' ? `was given up: ${why ?? 'no reason given'}` : `is ${state}`
    throw new StellwerkError('not-running', `VM "${name}" ${is}: it has no console`, {
      hint: state === 'deleting' ? 'see: stellwerk vm list' : `start it: stellwerk vm start ${name}`,
    })
  }
  if (!COMING.has(state)) return null
  if (host !== null) return `VM "${name}" is being started on host ${host}`
  return `VM "${name}" is not placed yet: ${whyNot ?? why ?? `see stellwerk why vm ${name}`}`
}

async function showConsole(context: CommandContext, input: Input): Promise<number> {
  const { terminal } = context
  const name = input.args[0] ?? ''
  const client = await context.api(input)
  const vm = (await client.get(pathOf('vms', name))) as VmView
  let waits = consoleWait(vm)
  if (waits !== null) terminal.err(`stellwerk: waiting: ${waits}`)
  const { cluster } = (await client.get(pathOf('config'))) as { cluster: string }
  const directory = context.isRemote ? terminal.cwd : context.directory(input)
  const token = context.isRemote ? remoteJoinToken(terminal) : await localJoinToken(directory)
  const env = createEnvironment({ name: 'console', directory, store: memoryStore(), logLevel: 'silent' })
  const followed = Promise.withResolvers<void>()
  const leave = (): void => void process.emit('SIGINT')
  const mode = modeOf(vm, { name, env, client, terminal, heard: followed.promise, leave })
  const follower = new ConsoleFollower({
    ...{ env, cluster, token },
    ...mode.hears,
    onMachines: (_, machines) => {
      if (machines.some(machine => machine.vm === name && machine.state !== 'starting')) followed.resolve()
    },
  })
  let isPlaced = false
  const placed = (): void => {
    if (!isPlaced) env.timers.after(FOLLOW_MS, () => followed.resolve())
    isPlaced = true
  }
  if (waits === null) placed()
  /** A VM that stops while one looks at it may be started again: that is told, and is no end. */
  const look = (seen: VmView | undefined): void => {
    const now = waitNow(name, seen)
    if (now !== null && now.why !== waits) mode.say(`stellwerk: waiting: ${now.why}`)
    waits = now?.why ?? null
    if (now === null) placed()
    // Lines that wait for it are refused as such.
    else if (now.inVain) followed.resolve()
  }
  await untilInterrupted(async sleep => {
    mode.begin(follower)
    // Hosts may come and go while one looks; and so may the coordinator, while what the guest says comes from its host.
    let away = false
    do {
      const status = await Promise.race([statusOrAway(client), sleep(ANSWER_MS).then(() => null)])
      if (status === null && !away) mode.say(`stellwerk: ${AWAY}${mode.whileAway}`)
      away = status === null
      if (status === null) continue
      const hosts = Object.values(status.hosts)
      follower.follow(hosts.map(host => ({ name: host.name, control: addressOf(host.address) })))
      look(status.vms[name])
    } while (await sleep(LOOK_MS))
  })
  await mode.end()
  follower.stop()
  await env.close()
  return mode.isRefused ? FAILED : OK
}

/** A guest with a serial port has a terminal, for who has one. */
function modeOf({ hypervisor }: VmView, parts: ConsoleParts): ConsoleMode {
  const { screen } = parts.terminal
  if (hypervisor === 'qemu' && screen?.hasKeyboard === true) return new ConsoleTerminal(parts, screen)
  return new ConsoleLines(parts)
}

/** As `consoleWait`, while one looks; `inVain`: nothing of it is about to run. */
function waitNow(name: string, seen: Seen | undefined): { readonly why: string; readonly inVain: boolean } | null {
  if (seen === undefined) return { why: `there is no VM "${name}" any more`, inVain: true }
  try {
    const why = consoleWait(seen)
    return why === null ? null : { why, inVain: false }
  } catch (error) {
    return { why: describeError(error), inVain: true }
  }
}

const AWAY = 'the coordinator does not answer: the console goes on'

/** Null: it does not answer now. */
async function statusOrAway(client: ApiClient): Promise<Status | null> {
  try {
    return await client.status()
  } catch (error) {
    if (isAway(error)) return null
    throw error
  }
}

async function localJoinToken(directory: string): Promise<string> {
  await clusterIn(directory)
  return tokenIn(directory, JOIN_TOKEN_FILE)
}

/** Consoles are heard from the hosts themselves, which take the join token and not the API's. */
function remoteJoinToken(terminal: Terminal): string {
  const token = terminal.variables['STELLWERK_JOIN_TOKEN']
  if (token !== undefined && token !== '') return token
  throw new StellwerkError('no-token', 'the join token is missing: a console is heard from the hosts themselves', {
    where: 'STELLWERK_JOIN_TOKEN',
    hint: "set it to the `token` of the coordinator's configuration",
  })
}

function addressOf(text: string): Address {
  const at = text.lastIndexOf(':')
  return { network: 'cluster', host: text.slice(0, at).replace(/^\[|\]$/g, ''), port: Number(text.slice(at + 1)) }
}
