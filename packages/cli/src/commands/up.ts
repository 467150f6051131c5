// `stellwerk up`: a cluster on this machine, until it is told to end. And `down`, which tells it.

import { join } from 'node:path'
import { answers } from '@stellwerk/coordinator/view/hosts.ts'
import type { Json } from '@stellwerk/runtime/environment.ts'
import { asError, errorCode, StellwerkError, type ToldError } from '@stellwerk/runtime/errors.ts'
import { createClock } from '@stellwerk/runtime/node/clock.ts'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { machineMemoryBytes } from '@stellwerk/runtime/node/machine-load.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { identifyProcess } from '@stellwerk/runtime/node/pid-record.ts'
import { createRandom } from '@stellwerk/runtime/node/random.ts'
import { createTimers } from '@stellwerk/runtime/node/timers.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import type { ApiClient } from '../api-client/client.ts'
import { parseBridge } from '../cluster/bridges.ts'
import { apiOf, filesOf, lookInto } from '../cluster/directory.ts'
import { parseExternal } from '../cluster/external-storages.ts'
import { HOST_MEMORY_BYTES, HOSTS_MAX } from '../cluster/layout.ts'
import { wishStarted } from '../cluster/start-wish.ts'
import { lookAtUp } from '../cluster/up-record.ts'
import {
  type CommandContext,
  type CommandSpec,
  DIR,
  FAILED,
  type Input,
  OK,
  type OptionSpec,
} from '../command-line/command.ts'
import { oneOf, parseCount, parseSize } from '../command-line/values.ts'
import { GUEST_OPTION, parseGuestChoice } from '../images/ledger-guest.ts'
import { PROCESS_ENTRY } from '../programs/process.ts'
import { RESTART_SIGNAL, runUp, type UpSettings } from '../programs/up.ts'
import { bytes } from '../render/units.ts'

const OPTIONS: { readonly [name: string]: OptionSpec } = {
  dir: DIR,
  hosts: { type: 'string', value: 'N', help: 'hosts of a new cluster (default 3)' },
  memory: { type: 'string', value: 'SIZE', help: 'what a new cluster’s hosts have for VMs (default 1GiB)' },
  profile: { type: 'string', value: 'lab|production', help: 'the times of a new cluster (default lab)' },
  external: {
    type: 'string',
    multiple: true,
    value: 'NAME=HOST:PORT',
    help: 'an NBD server as one more storage, one that knows no epochs; a second address for fabric-1 after a comma',
  },
  bridge: {
    type: 'string',
    multiple: true,
    value: 'NETWORK=BRIDGE',
    help: 'a network of the guests that is a Linux bridge of this machine’s, for root',
  },
  guests: { type: 'boolean', help: 'start three self-checking guests if there is no VM yet' },
  guest: GUEST_OPTION,
  supervise: { type: 'boolean', help: 'start again what has died' },
  chaos: {
    type: 'boolean',
    help: 'its processes can be told faults of networks, disks and clocks: see stellwerk chaos',
  },
  'trace-level': {
    type: 'string',
    value: 'message|io',
    help: 'what its processes record (default message); io, every request and step, costs a disk up to two thirds',
  },
  detach: {
    type: 'boolean',
    help: 'give the terminal back as soon as the cluster is up; exit status 1 where something of it is missing',
  },
}

/** The smallest guest fits. */
const MIN_HOST_MEMORY_BYTES = 16 * MIB

function hostMemory(input: Input): number {
  const memoryBytes = parseSize('memory', input.text('memory') ?? String(HOST_MEMORY_BYTES))
  const machineBytes = machineMemoryBytes()
  if (memoryBytes > machineBytes) {
    const here = bytes(machineBytes)
    throw new StellwerkError('bad-value', `a host can't have ${bytes(memoryBytes)}: this machine has ${here}`, {
      where: '--memory',
      hint: `say at most ${here}; 1GiB is the default`,
    })
  }
  if (memoryBytes >= MIN_HOST_MEMORY_BYTES) return memoryBytes
  throw new StellwerkError('bad-value', `${memoryBytes} bytes are too few for a host: no VM would fit`, {
    where: '--memory',
    hint: 'say at least 16MiB; 1GiB is the default',
  })
}

async function settingsOf(context: CommandContext, input: Input): Promise<UpSettings> {
  const guest = input.text('guest')
  return {
    directory: context.directory(input),
    hosts: parseCount('hosts', input.text('hosts') ?? '3', 1, HOSTS_MAX),
    memoryBytes: hostMemory(input),
    profile: oneOf('profile', input.text('profile') ?? 'lab', ['lab', 'production'] as const),
    external: input.texts('external').map(parseExternal),
    bridges: input.texts('bridge').map(parseBridge),
    supervise: input.flag('supervise'),
    guests:
      input.flag('guests') || guest !== undefined
        ? await parseGuestChoice(guest ?? 'wasm', context.terminal.cwd)
        : null,
    chaos: input.flag('chaos'),
    traceLevel: oneOf('trace-level', input.text('trace-level') ?? 'message', ['message', 'io'] as const),
  }
}

/** What is said of a new cluster is not silently ignored for one that is there. */
async function refuseOther(input: Input, { directory, hosts, memoryBytes, profile }: UpSettings): Promise<void> {
  const known = await lookInto(directory)
  if (known === null) return
  const refuse = (what: string, hint: string): never => {
    throw new StellwerkError('cluster-exists', `the cluster there has ${what}`, { where: directory, hint })
  }
  const isSaid = (option: string) => input.text(option) !== undefined
  if (isSaid('hosts') && known.hosts.length !== hosts) {
    const way = 'while it is up: npx stellwerk host add NAME, or host remove NAME'
    refuse(`${known.hosts.length} hosts, not ${hosts}`, `leave --hosts away; ${way}`)
  }
  if (isSaid('profile') && known.profile !== profile) {
    refuse(`the profile ${known.profile}, not ${profile}`, `leave --profile away, or ${ANOTHER}`)
  }
  const other = known.hosts.find(host => host.memoryBytes !== memoryBytes)
  if (isSaid('memory') && other !== undefined) {
    const has = `${bytes(other.memoryBytes)} on ${other.name}, not ${bytes(memoryBytes)}`
    refuse(has, `leave --memory away, or ${ANOTHER}`)
  }
}

const ANOTHER = 'make another cluster, with --dir'

/** A cluster that is up and has lost a process without `--supervise` gets it back. False: nothing is missing, or all is. */
async function restartMissing(directory: string): Promise<boolean> {
  const running = (await lookInto(directory)) === null ? null : await lookAtUp(directory)
  if (running === null) return false
  const client = await apiOf(directory)
  if (await isWhole(client)) return false
  await wishStarted(filesOf(directory), 'all', createRandom().id())
  process.kill(running.pid, RESTART_SIGNAL)
  const clock = createClock()
  const timers = createTimers(clock)
  const until = clock.now() + RESTART_MS
  while (!(await isWhole(client))) {
    if (clock.now() > until) {
      throw new StellwerkError('not-healthy', 'what is missing did not come back', {
        where: directory,
        hint: 'see: npx stellwerk status; and the logs in the cluster’s directory',
      })
    }
    await new Promise<void>(resolve => timers.after(DOWN_POLL_MS, resolve))
  }
  return true
}

async function isWhole(client: ApiClient): Promise<boolean> {
  try {
    const { hosts, paths } = await client.status()
    // The way over a peer rests while it is not needed, and one that is slow or disabled lacks no process. An external
    // storage is not this cluster's to start.
    const own = Object.values(paths).filter(({ fabric, epochs }) => fabric !== 'redirected' && epochs)
    const served = own.every(({ state }) => state === 'up' || state === 'slow' || state === 'disabled')
    return served && Object.values(hosts).every(({ state }) => answers(state))
  } catch (error) {
    if (errorCode(error) !== 'coordinator-away') throw error
    return false
  }
}

const up: CommandSpec = {
  words: 'up',
  args: [],
  options: OPTIONS,
  summary: 'Start (or recover) a cluster on this machine and show it until Ctrl-C ends it',
  run: async (context, input) => {
    const settings = await settingsOf(context, input)
    await refuseOther(input, settings)
    if (await restartMissing(settings.directory)) {
      context.terminal.out('the cluster was up without some of its processes: they were started again')
      return OK
    }
    return input.flag('detach') ? detach(context, settings) : runUp(settings, context.terminal)
  },
}

const DOWN_POLL_MS = 50
const RESTART_MS = 60_000

type FromDetached = { kind: 'up'; lines: string[]; isWhole: boolean } | { kind: 'failed'; error: ToldError }

/** The same, in a process that stays when this one has ended. */
async function detach(context: CommandContext, settings: UpSettings): Promise<number> {
  await lookInto(settings.directory)
  const env = createEnvironment({
    name: 'launch',
    directory: join(settings.directory, 'launch'),
    entry: PROCESS_ENTRY,
    outputDirectory: join(settings.directory, 'output'),
    store: memoryStore(),
    logLevel: 'warn',
  })
  const child = env.processes.spawn({ program: 'up', name: 'up', config: settings as unknown as Json })
  const said = await new Promise<FromDetached>((resolve, reject) => {
    child.onMessage(message => resolve(message as unknown as FromDetached))
    child.onExit(() =>
      reject(
        new StellwerkError('process-ended', 'the cluster ended before it was up', {
          where: settings.directory,
          hint: 'see its directory’s log and output',
        }),
      ),
    )
  })
  if (said.kind === 'failed') throw asError(said.error)
  for (const line of said.lines) context.terminal.out(line)
  context.terminal.out(`the cluster runs on (pid ${child.pid}); end it with: npx stellwerk down`)
  // Whoever goes on by the exit status takes it for the whole cluster.
  return said.isWhole ? OK : FAILED
}

const DOWN_MS = 60_000

const down: CommandSpec = {
  words: 'down',
  args: [],
  options: { dir: DIR },
  summary: 'End the cluster on this machine in order',
  run: async (context, input) => {
    const directory = context.directory(input)
    const running = await lookAtUp(directory)
    if (running === null) {
      throw new StellwerkError('not-running', 'no cluster runs there', {
        where: directory,
        hint: 'name its directory with --dir or STELLWERK_DIR',
      })
    }
    const env = createEnvironment({ name: 'down', directory, store: memoryStore(), logLevel: 'silent' })
    try {
      process.kill(running.pid, 'SIGTERM')
    } catch (error) {
      // It ended by itself in between.
      if (errorCode(error) !== 'ESRCH') throw error
    }
    for (let waited = 0; stillRuns(running); waited += DOWN_POLL_MS) {
      if (waited > DOWN_MS) {
        throw new StellwerkError('still-running', `the cluster did not end within ${DOWN_MS / 1000} s`, {
          where: `pid ${running.pid}`,
          hint: 'see its log; kill -9 does no harm to what was acknowledged',
        })
      }
      await new Promise<void>(resolve => env.timers.after(DOWN_POLL_MS, resolve))
    }
    context.terminal.out('the cluster is down')
    return OK
  },
}

function stillRuns(running: { readonly pid: number; readonly startTicks: number }): boolean {
  return identifyProcess(running.pid)?.startTicks === running.startTicks
}

export const commands: readonly CommandSpec[] = [up, down]
