// `stellwerk container ROLE`: what a container of docker-compose.yml runs. It finds its name and the others by itself; the tokens
// lie in a volume that all of them share, made at the first start.

import { join } from 'node:path'
import { startGuardian } from '@stellwerk/agent/guardian/guardian.ts'
import { LEVELS } from '@stellwerk/protocol/trace/segment-format.ts'
import type { Environment, TraceLevel } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { ownNames } from '@stellwerk/runtime/node/own-names.ts'
import { makeScratchDirectory, removeScratchDirectory } from '@stellwerk/runtime/node/scratch-directory.ts'
import { ApiClient } from '../api-client/client.ts'
import { API_TOKEN_FILE, JOIN_TOKEN_FILE, readToken, takeToken } from '../cluster/cluster-file.ts'
import { filesOf } from '../cluster/directory.ts'
import { FABRICS } from '../cluster/layout.ts'
import { type CommandSpec, OK, type Terminal } from '../command-line/command.ts'
import { oneOf, parseSize } from '../command-line/values.ts'
import { type ContainerName, containerName } from '../container/container-name.ts'
import { firstUse } from '../container/first-use.ts'
import {
  API,
  API_LISTEN,
  agentAt,
  agentListen,
  COORDINATOR,
  COORDINATOR_LISTEN,
  MACHINE_IMAGE,
  STORAGES,
  storageRecord,
} from '../container/layout.ts'
import { comeBack, leaveFirst } from '../container/leaving.ts'
import { ledgerGuest } from '../images/ledger-guest.ts'
import { runCoordinator } from '../programs/coordinator.ts'
import { type OpenedProcess, openProcess } from '../programs/process.ts'
import { keep, runStorage, STORAGE_FILES } from '../programs/run.ts'

const TOKENS_MS = 120_000
const HEALTHY_MS = 300_000
const POLL_MS = 200
/** So often a host that is back looks whether it may take VMs again. */
const COME_BACK_TRIES = 240

interface Facts {
  /** Of the command itself: what it runs has one of its own. */
  readonly env: Environment
  readonly cluster: string
  readonly state: string
  readonly secrets: string
  readonly traceLevel: TraceLevel
}

function factsOf(env: Environment, { variables }: Terminal): Facts {
  return {
    env,
    cluster: variables['STELLWERK_CLUSTER'] ?? 'stellwerk',
    state: variables['STELLWERK_STATE'] ?? '/var/lib/stellwerk',
    secrets: variables['STELLWERK_SECRETS'] ?? '/run/stellwerk',
    traceLevel: oneOf('STELLWERK_TRACE', variables['STELLWERK_TRACE'] ?? 'message', LEVELS),
  }
}

const sleepOf =
  ({ timers }: Environment) =>
  (ms: number): Promise<void> =>
    new Promise(resolve => timers.after(ms, resolve))

async function tokens(terminal: Terminal, { env, secrets }: Facts): Promise<number> {
  for (const file of [JOIN_TOKEN_FILE, API_TOKEN_FILE]) await takeToken(filesOf(secrets), file, env.random)
  terminal.out('the tokens are there')
  return OK
}

/** Made at the first start, which may be under way. */
async function tokenOf({ env, secrets }: Facts, file: string): Promise<string> {
  const { clock } = env
  for (const until = clock.now() + TOKENS_MS; clock.now() < until; await sleepOf(env)(POLL_MS)) {
    const token = await readToken(filesOf(secrets), file)
    if (token !== null) return token
  }
  throw new StellwerkError('no-token', `there is no ${file} after ${TOKENS_MS / 1000} s`, {
    where: join(secrets, file),
    hint: 'stellwerk container tokens makes it: has it run, and shares that volume?',
  })
}

async function apiOf(facts: Facts): Promise<ApiClient> {
  return new ApiClient({ ...API, token: await tokenOf(facts, API_TOKEN_FILE) })
}

const open = (name: string, { state, cluster, traceLevel }: Facts, stateNeededBy?: string): OpenedProcess =>
  openProcess(name, { root: state, cluster, logLevel: 'info', traceLevel, config: null }, stateNeededBy)

/** Resolves never: the process ends by a signal. */
function serving(terminal: Terminal, name: string): Promise<number> {
  terminal.out(`${name} serves`)
  return untilSignal()
}

const untilSignal = () => new Promise<number>(() => undefined)

async function coordinator(terminal: Terminal, facts: Facts): Promise<number> {
  const token = await tokenOf(facts, JOIN_TOKEN_FILE)
  const apiToken = await tokenOf(facts, API_TOKEN_FILE)
  const opened = open('coordinator', facts)
  const running = await runCoordinator(opened, {
    coordinator: {
      cluster: facts.cluster,
      token,
      profile: 'lab',
      listen: COORDINATOR_LISTEN,
      storages: STORAGES.map(name => storageRecord(name)),
    },
    api: API_LISTEN,
    apiToken,
    startsHosts: false,
  })
  keep(opened, running)
  return serving(terminal, 'coordinator')
}

async function storage(terminal: Terminal, facts: Facts): Promise<number> {
  const name = oneOf('STELLWERK_STORAGE', terminal.variables['STELLWERK_STORAGE'] ?? '', STORAGES)
  const credential = await tokenOf(facts, JOIN_TOKEN_FILE)
  const opened = open(name, facts, STORAGE_FILES)
  const running = await runStorage(opened.env, { ...storageRecord(name, true), cluster: facts.cluster, credential })
  keep(opened, running)
  return serving(terminal, name)
}

/** The engine may give the container its name a moment after it began. */
async function ownName({ env }: Facts): Promise<ContainerName> {
  const { clock } = env
  for (const until = clock.now() + TOKENS_MS; ; await sleepOf(env)(POLL_MS)) {
    try {
      return containerName(await ownNames())
    } catch (error) {
      if (clock.now() > until) throw error
    }
  }
}

async function agent(terminal: Terminal, facts: Facts): Promise<number> {
  const { host, onCluster, onGuest } = await ownName(facts)
  const token = await tokenOf(facts, JOIN_TOKEN_FILE)
  const api = await apiOf(facts)
  const opened = open(`${host}/guardian`, facts)
  const sleep = sleepOf(facts.env)
  const log = (message: string): void => opened.env.log.info({ host }, message)
  const refused = Promise.withResolvers<never>()
  const parts = {
    cluster: facts.cluster,
    token,
    host,
    coordinator: COORDINATOR,
    supervise: true,
    agent: {
      listen: agentListen.control,
      ...(onGuest === null ? {} : { guest: agentListen.guest }),
      advertised: agentAt(onCluster, onGuest),
      memoryBytes: parseSize('STELLWERK_MEMORY', terminal.variables['STELLWERK_MEMORY'] ?? '256MiB'),
      hbas: FABRICS,
      hypervisors: ['wasm', 'qemu'] as const,
    },
  }
  await startGuardian(
    opened.env,
    parts,
    error => refused.reject(error),
    () => leaveFirst({ api, host, now: () => facts.env.clock.now(), sleep, log }),
  )
  void comeBack({ api, host, sleep, log }, COME_BACK_TRIES)
  terminal.out(`${host} starts`)
  return Promise.race([untilSignal(), refused.promise])
}

async function guests(terminal: Terminal, facts: Facts): Promise<number> {
  const api = await apiOf(facts)
  const { env } = facts
  const now = (): number => env.clock.now()
  const hypervisor = oneOf('STELLWERK_GUESTS', terminal.variables['STELLWERK_GUESTS'] ?? 'wasm', [
    'wasm',
    'qemu',
  ] as const)
  const choice = { hypervisor, file: hypervisor === 'qemu' ? MACHINE_IMAGE : null }
  const guest = await ledgerGuest(choice, env.processes)
  const log = (message: string): void => terminal.out(message)
  await firstUse({ api, guest, now, sleep: sleepOf(env), timeoutMs: HEALTHY_MS, log })
  terminal.out('the cluster is up, and its guests run')
  return OK
}

const ROLES: { readonly [role: string]: (terminal: Terminal, facts: Facts) => Promise<number> } = {
  tokens,
  coordinator,
  storage,
  agent,
  guests,
}

const container: CommandSpec = {
  words: 'container',
  args: ['ROLE'],
  options: { state: { type: 'string', value: 'DIR', help: 'where its state is kept (default $STELLWERK_STATE)' } },
  summary:
    'What a container of docker-compose.yml runs: coordinator, storage or agent; tokens and guests make what there is at first',
  run: async ({ terminal }, input) => {
    const role = ROLES[oneOf('ROLE', input.args[0] ?? '', Object.keys(ROLES))]!
    const scratch = await makeScratchDirectory('stellwerk-container-')
    const env = createEnvironment({ name: 'container', directory: scratch, store: memoryStore(), logLevel: 'silent' })
    try {
      const facts = factsOf(env, terminal)
      return await role(terminal, { ...facts, state: input.text('state') ?? facts.state })
    } finally {
      await env.close()
      await removeScratchDirectory(scratch)
    }
  },
}

export const commands: readonly CommandSpec[] = [container]
