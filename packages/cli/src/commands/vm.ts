// `stellwerk vm …`

import { CATALOG_NAMES } from '@stellwerk/agent/guests/catalog.ts'
import type { MigrationView, Status, VmView } from '@stellwerk/coordinator/view/schemas.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { type ApiClient, pathOf } from '../api-client/client.ts'
import { type CommandSpec, DIR, FAILED, type Input, JSON_OUT, OK, type Terminal } from '../command-line/command.ts'
import { oneOf, parseCount, parseParameters, parseSize } from '../command-line/values.ts'
import { copyPhrase } from '../render/progress.ts'
import { vmLines } from '../render/status.ts'
import { rungPhrase } from '../render/storage-phrases.ts'
import { age, bytes } from '../render/units.ts'
import { untilInterrupted } from '../terminal/until-interrupted.ts'
import { agentFacts } from './vm-agent.ts'
import { CLOUD_INIT_OPTIONS, cloudInitOf } from './vm-cloud-init.ts'
import { consoleCommand } from './vm-console.ts'
import { forwardCommand } from './vm-forward.ts'
import { guestNamed } from './vm-guest.ts'
import { forwardFacts, forwardsCommand, unforwardCommand } from './vm-lasting-forward.ts'
import { RESTART_OPTIONS, restartFacts, restartPolicyOf } from './vm-restart.ts'

const POLL_MS = 100
const STOP_MAX_MS = 3_600_000
const DOWNTIME_MAX_MS = 60_000

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
      help: 'a thin disk on that volume, or VOLUME/SNAPSHOT: a clone; a real machine may have up to eight',
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

const reset = order(
  'reset',
  'Its guest begins anew: the reset button of a real machine',
  (client, name) => client.post(pathOf('vms', name, 'reset')),
  'has been reset',
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
    downtime: { type: 'string', value: 'MS', help: 'the longest pause to aim at (default: the setting downtimeMs)' },
    'when-diverging': {
      type: 'string',
      value: 'pause|abort',
      help: 'where none so short is to be had: a longer one (default), or it stays where it is',
    },
    wait: { type: 'boolean', help: 'until it is over, showing how far it is' },
    json: JSON_OUT,
  },
  summary: 'Migrate it live',
  run: async (context, input) => {
    const { terminal } = context
    const name = input.args[0] ?? ''
    const body = { to: input.text('to') ?? null, ...limitsOf(input) }
    const client = await context.api(input)
    const answer = (await client.post(pathOf('vms', name, 'migrate'), body)) as {
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

/** Only what was given: the rest is as the cluster's settings have it. */
function limitsOf(input: Input): { downtimeMs?: number; whenDiverging?: 'pause' | 'abort' } {
  const downtime = input.text('downtime')
  const diverging = input.text('when-diverging')
  return {
    ...(downtime === undefined ? {} : { downtimeMs: parseCount('downtime', downtime, 1, DOWNTIME_MAX_MS) }),
    ...(diverging === undefined
      ? {}
      : { whenDiverging: oneOf('when-diverging', diverging, ['pause', 'abort'] as const) }),
  }
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
  const { rounds, bytesSent, pauseMs } = statistics as Record<string, number | undefined>
  const parts = [`${migration.vm}: ${migration.from} → ${migration.to}: ${migration.phase}`]
  if (progress !== null) parts.push(`${progress.percent} %`, copyPhrase(progress))
  else if (rounds !== undefined) parts.push(`${rounds} rounds`, `${bytes(bytesSent ?? 0)} sent`)
  if (pauseMs !== undefined) parts.push(`paused for ${Math.ceil(pauseMs)} ms`)
  if (migration.reason !== null) parts.push(migration.reason)
  return parts.join(', ')
}

/** What cloud-init is told is a text of many lines. */
function shown(value: unknown): string {
  const text = String(value)
  return text.includes('\n') ? `${bytes(Buffer.byteLength(text))} of text` : text
}

export const commands: readonly CommandSpec[] = [
  ...[create, start, stop, reset, remove, list, show, migrate, cancel],
  ...[consoleCommand, forwardCommand, forwardsCommand, unforwardCommand],
]
