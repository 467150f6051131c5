// `stellwerk vm …`

import { createInterface } from 'node:readline'
import { CATALOG_NAMES } from '@stellwerk/agent/guests/catalog.ts'
import type { MigrationView, Status, VmView } from '@stellwerk/coordinator/view/schemas.ts'
import type { Address } from '@stellwerk/runtime/environment.ts'
import { describeError, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { type ApiClient, isAway, pathOf } from '../api-client/client.ts'
import { JOIN_TOKEN_FILE } from '../cluster/cluster-file.ts'
import { ConsoleFollower } from '../cluster/console-follower.ts'
import { clusterIn, tokenIn } from '../cluster/directory.ts'
import { type CommandSpec, DIR, FAILED, type Input, JSON_OUT, OK, type Terminal } from '../command-line/command.ts'
import { oneOf, parseCount, parseParameters, parseSize } from '../command-line/values.ts'
import { copyPhrase } from '../render/progress.ts'
import { vmLines } from '../render/status.ts'
import { rungPhrase } from '../render/storage-phrases.ts'
import { age, bytes } from '../render/units.ts'
import { untilInterrupted } from '../terminal/until-interrupted.ts'
import { LISTEN } from './kept-way.ts'
import { agentFacts } from './vm-agent.ts'
import { CLOUD_INIT_OPTIONS, cloudInitOf } from './vm-cloud-init.ts'
import { forwardCommand } from './vm-forward.ts'
import { guestNamed } from './vm-guest.ts'
import { forwardFacts, forwardsCommand, unforwardCommand } from './vm-lasting-forward.ts'
import { RESTART_OPTIONS, restartFacts, restartPolicyOf } from './vm-restart.ts'
import { showScreen } from './vm-screen.ts'

const POLL_MS = 100
/** So long lines wait for a link to the VM's host. */
const FOLLOW_MS = 3_000
/** So long the answer to the last line of a pipe is listened for. */
const ANSWER_MS = 1_000
const STOP_MAX_MS = 3_600_000

const create: CommandSpec = {
  words: 'vm create',
  args: ['NAME'],
  options: {
    dir: DIR,
    guest: {
      type: 'string',
      value: 'GUEST',
      help: `what it runs: ${CATALOG_NAMES.join(', ')} (default ledger), a module’s FILE.wasm, a boot image, or bios or uefi: what is on its disk`,
    },
    memory: { type: 'string', value: 'SIZE', help: 'default 64MiB, with a boot image 128MiB, by bios or uefi 1GiB' },
    param: { type: 'string', multiple: true, value: 'NAME=VALUE', help: 'of the guest' },
    disk: {
      type: 'string',
      multiple: true,
      value: 'VOLUME:SIZE',
      help: 'a thin disk on that volume, or VOLUME/SNAPSHOT: a clone; real machines may have several',
    },
    nic: {
      type: 'string',
      multiple: true,
      value: 'NETWORK[,mac=M][,ip=A]',
      help: 'a card in that network; ip: the only address its guest may use (repeat it for more)',
    },
    host: { type: 'string', value: 'H', help: 'the host to prefer' },
    priority: { type: 'string', value: 'N', help: 'higher is started first (default 0)' },
    hypervisor: { type: 'string', value: 'wasm|model|qemu', help: 'default wasm, or qemu for a boot image' },
    screen: { type: 'boolean', help: 'of a real machine: it has a screen, which vm console --vnc shows' },
    ...CLOUD_INIT_OPTIONS,
    ...RESTART_OPTIONS,
    stopped: { type: 'boolean', help: 'only define it' },
    json: JSON_OUT,
  },
  summary: 'Define a VM and start it',
  run: async (context, input) => {
    const named = input.text('guest') ?? 'ledger'
    const parameters = {
      ...parseParameters(input.texts('param')),
      ...(input.flag('screen') ? { screen: true } : {}),
      ...(await cloudInitOf(context.terminal, input)),
    }
    const memory = input.text('memory')
    const hypervisor = input.text('hypervisor')
    const guest = await guestNamed(context.terminal, named, {
      vm: input.args[0] ?? '',
      hypervisor: hypervisor === undefined ? null : oneOf('hypervisor', hypervisor, ['wasm', 'model', 'qemu'] as const),
      memoryBytes: memory === undefined ? null : parseSize('memory', memory),
      parameters,
    })
    const body = {
      name: input.args[0] ?? '',
      ...guest,
      parameters,
      disks: input.texts('disk').map(parseDisk),
      nics: input.texts('nic').map(parseNic),
      start: !input.flag('stopped'),
      priority: parseCount('priority', input.text('priority') ?? '0', 0, 1000),
      host: input.text('host') ?? null,
      restart: restartPolicyOf(input),
    }
    const answer = await (await context.api(input)).post(pathOf('vms'), body)
    tell(context.terminal, input, answer, `VM ${body.name} is defined${body.start ? ' and is being started' : ''}`)
    return OK
  },
}

function parseDisk(text: string): { volume: string; sizeBytes: number } | { volume: string; snapshot: string } {
  const slash = text.indexOf('/')
  if (slash > 0) return { volume: text.slice(0, slash), snapshot: text.slice(slash + 1) }
  const at = text.lastIndexOf(':')
  if (at > 0) return { volume: text.slice(0, at), sizeBytes: parseSize('disk', text.slice(at + 1)) }
  throw new StellwerkError('bad-disk', `"${text}" is no disk`, {
    where: '--disk',
    hint: 'say VOLUME:SIZE, csv1:1GiB, or VOLUME/SNAPSHOT',
  })
}

function parseNic(text: string): { network: string; mac?: string; addresses: string[] } {
  const [network = '', ...facts] = text.split(',')
  const addresses: string[] = []
  let mac: string | undefined
  for (const fact of facts) {
    const [name, value] = splitOnce(fact, '=')
    if (name === 'mac' && value !== '' && mac === undefined) mac = value
    else if (name === 'ip' && value !== '') addresses.push(value)
    else {
      throw new StellwerkError('bad-nic', `"${text}" is no network card`, {
        where: '--nic',
        hint: 'say NETWORK, or for example lan,mac=52:54:00:12:34:56,ip=10.0.0.7',
      })
    }
  }
  return { network, ...(mac === undefined ? {} : { mac }), addresses }
}

function splitOnce(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator)
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + separator.length)]
}

function tell(terminal: Terminal, input: Input, answer: unknown, line: string): void {
  terminal.out(input.flag('json') ? JSON.stringify(answer) : line)
}

/** The commands that say one thing about one VM. */
function order(
  verb: string,
  summary: string,
  call: (client: ApiClient, name: string, input: Input) => Promise<unknown>,
  done: string,
  options: CommandSpec['options'] = {},
): CommandSpec {
  return {
    words: `vm ${verb}`,
    args: ['NAME'],
    options: { dir: DIR, json: JSON_OUT, ...options },
    summary,
    run: async (context, input) => {
      const name = input.args[0] ?? ''
      const answer = await call(await context.api(input), name, input)
      tell(context.terminal, input, answer, `VM ${name} ${done}`)
      return OK
    },
  }
}

const start = order(
  'start',
  'It is to run',
  (client, name, input) => client.post(pathOf('vms', name, 'start'), { host: input.text('host') ?? null }),
  'is being started',
  { host: { type: 'string', value: 'H', help: 'the host to prefer' } },
)
const stop = order(
  'stop',
  'It is to be stopped: its guest is asked to shut down',
  (client, name, input) => client.post(pathOf('vms', name, 'stop'), stopOf(input)),
  'is being stopped',
  {
    timeout: { type: 'string', value: 'MS', help: 'how long its guest has for that, before it is killed' },
    force: { type: 'boolean', help: 'not asked: killed at once' },
  },
)

function stopOf(input: Input): { timeoutMs?: number; force?: boolean } {
  if (input.flag('force')) return { force: true }
  const text = input.text('timeout')
  return text === undefined ? {} : { timeoutMs: parseCount('timeout', text, 0, STOP_MAX_MS) }
}

const remove = order(
  'delete',
  'Stop it and delete it with its disks',
  (client, name) => client.delete(pathOf('vms', name)),
  'is being deleted',
)
const cancel = order(
  'cancel',
  'Cancel its migration',
  (client, name) => client.post(pathOf('vms', name, 'cancel')),
  'stays where it is',
)

const list: CommandSpec = {
  words: 'vm list',
  args: [],
  options: { dir: DIR, json: JSON_OUT },
  summary: 'All VMs',
  run: async (context, input) => {
    const vms = (await (await context.api(input)).get(pathOf('vms'))) as Status['vms']
    if (input.flag('json')) context.terminal.out(JSON.stringify(vms))
    else for (const line of vmLines({ vms })) context.terminal.out(line)
    return OK
  },
}

const show: CommandSpec = {
  words: 'vm show',
  args: ['NAME'],
  options: { dir: DIR, json: JSON_OUT },
  summary: 'All about one VM',
  run: async (context, input) => {
    const vm = (await (await context.api(input)).get(pathOf('vms', input.args[0] ?? ''))) as VmView
    if (input.flag('json')) {
      context.terminal.out(JSON.stringify(vm))
      return OK
    }
    const facts: [string, string][] = [
      ['state', `${vm.state} (wanted: ${vm.desired}; said ${age(vm.ageMs)} ago)`],
      ['host', `${vm.host ?? '-'}${vm.preferredHost === null ? '' : ` (prefers ${vm.preferredHost})`}`],
      ['epoch', String(vm.epoch)],
      ['guest', `${vm.guest} on ${vm.hypervisor}, ${bytes(vm.memoryBytes)}`],
      ...(vm.cpu === null ? [] : ([['processor', vm.cpu]] satisfies [string, string][])),
      ...Object.entries(vm.parameters).map(([name, value]): [string, string] => [`  ${name}`, shown(value)]),
      ...vm.disks.map((disk): [string, string] => ['disk', `${disk.disk} on ${disk.volume}, ${bytes(disk.sizeBytes)}`]),
      ...vm.nics.map((nic): [string, string] => [
        'card',
        [`${nic.mac} in ${nic.network}`, ...nic.addresses].join(', '),
      ]),
      ...forwardFacts(vm),
      ...agentFacts(vm),
      ['priority', String(vm.priority)],
      ...restartFacts(vm),
    ]
    if (vm.whyNot !== null) facts.push(['not running', vm.whyNot])
    if (vm.why !== null) facts.push(['host says', vm.why])
    if (vm.storage !== null) facts.push(['storage', rungPhrase(vm.storage)])
    if (vm.migration !== null) facts.push(['migration', migrationLine(vm.migration)])
    for (const [name, value] of facts) context.terminal.out(`${name.padEnd(20)} ${value}`)
    return OK
  },
}

const migrate: CommandSpec = {
  words: 'vm migrate',
  args: ['NAME'],
  options: {
    dir: DIR,
    to: { type: 'string', value: 'H', help: 'where to (default: wherever is best)' },
    wait: { type: 'boolean', help: 'until it is over, showing how far it is' },
    json: JSON_OUT,
  },
  summary: 'Migrate it live',
  run: async (context, input) => {
    const { terminal } = context
    const name = input.args[0] ?? ''
    const client = await context.api(input)
    const answer = (await client.post(pathOf('vms', name, 'migrate'), { to: input.text('to') ?? null })) as {
      migration: string
      from: string
      to: string
    }
    if (!input.flag('wait')) {
      tell(terminal, input, answer, `VM ${name} is being migrated from ${answer.from} to ${answer.to}`)
      return OK
    }
    const over = await follow(client, answer.migration, terminal, input.flag('json'))
    if (over === null) return FAILED
    if (input.flag('json')) terminal.out(JSON.stringify(over))
    if (over.phase !== 'aborted') return OK
    throw new StellwerkError('migration-aborted', `VM ${name} stays on ${over.from}: ${over.reason ?? 'aborted'}`, {
      hint: `see: stellwerk why vm ${name}`,
    })
  },
}

/** Null: the user has had enough of looking; the migration goes on. */
async function follow(
  client: ApiClient,
  id: string,
  terminal: Terminal,
  quiet: boolean,
): Promise<MigrationView | null> {
  let over: MigrationView | null = null
  let last = ''
  await untilInterrupted(async sleep => {
    while (over === null && (await sleep(POLL_MS))) {
      const migration = await client.migration(id)
      const line = migrationLine(migration)
      if (line !== last && !quiet) terminal.out(line)
      last = line
      if (migration.phase === 'done' || migration.phase === 'aborted') over = migration
    }
  })
  return over
}

function migrationLine(migration: MigrationView): string {
  const { progress, statistics } = migration
  const { rounds, bytesSent } = statistics as Record<string, number | undefined>
  const parts = [`${migration.vm}: ${migration.from} → ${migration.to}: ${migration.phase}`]
  if (progress !== null) parts.push(`${progress.percent} %`, copyPhrase(progress))
  else if (rounds !== undefined) parts.push(`${rounds} rounds`, `${bytes(bytesSent ?? 0)} sent`)
  if (migration.reason !== null) parts.push(migration.reason)
  return parts.join(', ')
}

const consoleOf: CommandSpec = {
  words: 'vm console',
  args: ['NAME'],
  options: {
    dir: DIR,
    vnc: { type: 'boolean', help: 'its screen instead, for a VNC viewer: opens a port of its host and prints it' },
    listen: { ...LISTEN, help: `with --vnc: ${LISTEN.help}` },
    json: { type: 'boolean', help: 'with --vnc: JSON on stdout' },
  },
  summary: 'What it says, and lines for it to read; Ctrl-C leaves it',
  run: async (context, input) => {
    if (input.flag('vnc')) return showScreen(context, input)
    if (input.flag('json') || input.text('listen') !== undefined) {
      throw new StellwerkError('usage', '--json and --listen are for screens', { hint: 'say --vnc, too' })
    }
    const { terminal } = context
    const name = input.args[0] ?? ''
    const client = await context.api(input)
    await client.get(pathOf('vms', name))
    const { cluster } = (await client.get(pathOf('config'))) as { cluster: string }
    const directory = context.isRemote ? terminal.cwd : context.directory(input)
    const token = context.isRemote ? remoteJoinToken(terminal) : await localJoinToken(directory)
    const env = createEnvironment({ name: 'console', directory, store: memoryStore(), logLevel: 'silent' })
    const followed = Promise.withResolvers<void>()
    const follower = new ConsoleFollower({
      env,
      cluster,
      token,
      onLine: line => {
        if (line.vm === name) terminal.out(line.line)
      },
      onMachines: (_, machines) => {
        if (machines.some(machine => machine.vm === name)) followed.resolve()
      },
    })
    env.timers.after(FOLLOW_MS, () => followed.resolve())
    // What is typed, or piped in, waits until the answer can be heard; then it goes in the order in which it came.
    let sending: Promise<void> = followed.promise
    let hasSent = false
    let isRefused = false
    const reader = createInterface({ input: process.stdin })
    reader.on('line', line => {
      hasSent = true
      sending = sending
        .then(() => client.post(pathOf('vms', name, 'input'), { line }))
        .then(
          () => undefined,
          (error: unknown) => {
            isRefused = true
            terminal.err(`stellwerk: the line was not taken: ${describeError(error)}`)
          },
        )
    })
    const closed = new Promise<void>(resolve => reader.once('close', () => resolve()))
    await untilInterrupted(async sleep => {
      void closed.then(async () => {
        await sending
        if (hasSent) await new Promise<void>(resolve => env.timers.after(ANSWER_MS, resolve))
        process.emit('SIGINT')
      })
      // Hosts may come and go while one looks; and so may the coordinator, while what the guest says comes from its host.
      let away = false
      do {
        const status = await statusOrAway(client)
        if (status === null && !away) terminal.err(`stellwerk: ${AWAY}`)
        away = status === null
        const hosts = Object.values(status?.hosts ?? {})
        if (!away) follower.follow(hosts.map(host => ({ name: host.name, control: addressOf(host.address) })))
      } while (await sleep(1_000))
    })
    reader.close()
    follower.stop()
    await env.close()
    return isRefused ? FAILED : OK
  },
}

const AWAY = 'the coordinator does not answer: the console goes on, but takes no input until it does'

/** Null: it does not answer now. */
async function statusOrAway(client: ApiClient): Promise<Status | null> {
  try {
    return await client.status()
  } catch (error) {
    if (isAway(error)) return null
    throw error
  }
}

/** What cloud-init is told is a text of many lines. */
function shown(value: unknown): string {
  const text = String(value)
  return text.includes('\n') ? `${bytes(Buffer.byteLength(text))} of text` : text
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

export const commands: readonly CommandSpec[] = [
  ...[create, start, stop, remove, list, show, migrate, cancel],
  ...[consoleOf, forwardCommand, forwardsCommand, unforwardCommand],
]
