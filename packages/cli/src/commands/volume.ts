// `stellwerk volume …`

import type { Status, VolumeView } from '@stellwerk/coordinator/view/schemas.ts'
import { NO_EPOCHS } from '@stellwerk/coordinator/view/storages.ts'
import { formatTime } from '@stellwerk/protocol/trace/format-line.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { pathOf } from '../api-client/client.ts'
import { type CommandSpec, DIR, JSON_OUT, OK } from '../command-line/command.ts'
import { parseSize } from '../command-line/values.ts'
import { volumeLines } from '../render/status.ts'
import { accessPhrase } from '../render/storage-phrases.ts'
import { age, bytes } from '../render/units.ts'
import { checkCommand } from './volume-check.ts'

const create: CommandSpec = {
  words: 'volume create',
  args: ['NAME', 'SIZE'],
  options: {
    dir: DIR,
    json: JSON_OUT,
    storage: {
      type: 'string',
      multiple: true,
      value: 'S',
      help: 'a storage subsystem; twice: a mirror over both (default: a mirror where there are two)',
    },
  },
  summary: 'Make a volume',
  run: async (context, input) => {
    const [name = '', size = ''] = input.args
    const storages = input.texts('storage')
    const body = {
      name,
      sizeBytes: parseSize('size', size),
      ...(storages.length === 0 ? {} : { storages }),
    }
    const answer = await (await context.api(input)).post(pathOf('volumes'), body)
    context.terminal.out(input.flag('json') ? JSON.stringify(answer) : `volume ${name} is being made`)
    return OK
  },
}

const list: CommandSpec = {
  words: 'volume list',
  args: [],
  options: { dir: DIR, json: JSON_OUT },
  summary: 'All volumes',
  run: async (context, input) => {
    const volumes = (await (await context.api(input)).get(pathOf('volumes'))) as Status['volumes']
    if (input.flag('json')) context.terminal.out(JSON.stringify(volumes))
    else for (const line of volumeLines({ volumes })) context.terminal.out(line)
    return OK
  },
}

const show: CommandSpec = {
  words: 'volume show',
  args: ['NAME'],
  options: { dir: DIR, json: JSON_OUT },
  summary: 'All about one volume',
  run: async (context, input) => {
    const volume = (await (await context.api(input)).get(pathOf('volumes', input.args[0] ?? ''))) as VolumeView
    if (input.flag('json')) {
      context.terminal.out(JSON.stringify(volume))
      return OK
    }
    const { usage } = volume
    const facts: [string, string][] = [
      ['state', `${volume.state} (said ${age(volume.ageMs)} ago)`],
      ...(volume.whyNot === null ? [] : [['why', volume.whyNot] as [string, string]]),
      ['id', volume.id],
      ['size', bytes(volume.sizeBytes)],
      [
        'used',
        usage === null
          ? 'unknown'
          : `${bytes(usage.usedBytes)} by ${usage.disks} disks, ${bytes(usage.freeBytes)} free (${age(usage.ageMs)} ago)`,
      ],
      ...(usage === null
        ? []
        : [['shared', `saves ${bytes(usage.mappedBytes - usage.usedBytes)}`] as [string, string]]),
      ...(volume.warning === null ? [] : [['warning', volume.warning] as [string, string]]),
      ['owner', `${volume.owner ?? '-'} at epoch ${volume.ownerEpoch}`],
      ['generation', String(volume.generation)],
      ...volume.legs.map((leg): [string, string] => [leg.leg, `LUN ${leg.lun} on ${leg.storage}: ${legText(leg)}`]),
    ]
    if (volume.scrub !== null) facts.push(['scrub', scrubText(volume.scrub)])
    facts.push(['path policy', volume.pathPolicy])
    for (const access of volume.access) facts.push([`on ${access.host}`, accessPhrase(access)])
    if (volume.recovering.length > 0) facts.push(['recovering', `what ${volume.recovering.join(', ')} left`])
    for (const [name, value] of facts) context.terminal.out(`${name.padEnd(20)} ${value}`)
    return OK
  },
}

const own: CommandSpec = {
  words: 'volume own',
  args: ['NAME', 'HOST'],
  options: { dir: DIR, json: JSON_OUT },
  summary: 'Give its metadata to another host',
  run: async (context, input) => {
    const [name = '', host = ''] = input.args
    const answer = await (await context.api(input)).post(pathOf('volumes', name, 'own'), { host })
    context.terminal.out(input.flag('json') ? JSON.stringify(answer) : `volume ${name} is given to ${host}`)
    return OK
  },
}

const remove: CommandSpec = {
  words: 'volume delete',
  args: ['NAME'],
  options: {
    dir: DIR,
    json: JSON_OUT,
    force: { type: 'boolean', help: 'with every VM, disk and snapshot on it: their data is LOST' },
  },
  summary: 'Delete a volume with its LUNs, if nothing is on it',
  run: async (context, input) => {
    const [name = ''] = input.args
    const path = `${pathOf('volumes', name)}${input.flag('force') ? '?force=true' : ''}`
    const answer = await (await context.api(input)).delete(path)
    context.terminal.out(input.flag('json') ? JSON.stringify(answer) : `volume ${name} is being deleted`)
    return OK
  },
}

function scrubText({
  state,
  percent,
  wallMs,
  repaired,
  unresolved,
  skipped,
}: NonNullable<VolumeView['scrub']>): string {
  const found = `${repaired} repaired, ${unresolved} undecided, ${skipped} not compared`
  if (state === 'running') return `running, ${percent ?? 0} %: ${found}`
  return `${state === 'done' ? 'done' : 'ended early'} ${wallMs === null ? '' : formatTime(wallMs)}: ${found}`
}

function legText({ role, state, why, percent, epochs }: VolumeView['legs'][number]): string {
  const reached = state === 'up' ? '' : `, ${state}`
  const so = percent === null ? role : `${role}, ${percent} %`
  return `${so}${reached}${why === null ? '' : ` (${why})`}${epochs ? '' : `, ${NO_EPOCHS}`}`
}

const mirror: CommandSpec = {
  words: 'volume mirror',
  args: ['NAME'],
  options: {
    dir: DIR,
    json: JSON_OUT,
    to: { type: 'string', value: 'S', help: 'make a second leg on this storage subsystem, online' },
    remove: { type: 'string', value: 'LEG', help: 'take a leg away, by its id or its storage' },
  },
  summary: 'Give a volume a second leg, or take one away',
  run: async (context, input) => {
    const [name = ''] = input.args
    const to = input.text('to')
    const leg = input.text('remove')
    if ((to === undefined) === (leg === undefined)) {
      throw new StellwerkError('usage', 'say either --to STORAGE or --remove LEG', { where: 'stellwerk volume mirror' })
    }
    const api = await context.api(input)
    const answer =
      to === undefined
        ? await api.post(pathOf('volumes', name, 'unmirror'), { leg })
        : await api.post(pathOf('volumes', name, 'mirror'), { storage: to })
    const { leg: id, storage } = answer as { leg: string; storage: string }
    const text = to === undefined ? `${id} on ${storage} is taken away` : `${id} on ${storage} is being made and copied`
    context.terminal.out(input.flag('json') ? JSON.stringify(answer) : text)
    return OK
  },
}

const resync: CommandSpec = {
  words: 'volume resync',
  args: ['NAME'],
  options: {
    dir: DIR,
    json: JSON_OUT,
    'force-stale': {
      type: 'string',
      value: 'LEG',
      help: 'go on with this leg, which is behind: what only the other one had is LOST',
    },
  },
  summary: 'Resync a volume’s stale leg now',
  run: async (context, input) => {
    const [name = ''] = input.args
    const forced = input.text('force-stale')
    const api = await context.api(input)
    const answer =
      forced === undefined
        ? await api.post(pathOf('volumes', name, 'resync'), {})
        : await api.post(pathOf('volumes', name, 'force-leg'), { leg: forced })
    const { leg, mixed } = answer as { leg: string; mixed?: true }
    const old = mixed === true ? ': it was catching up, and has old and new side by side' : ''
    const text =
      forced === undefined ? `${leg} is resynced as soon as it can be` : `${leg} counts as in sync from here on${old}`
    context.terminal.out(input.flag('json') ? JSON.stringify(answer) : text)
    return OK
  },
}

export const commands: readonly CommandSpec[] = [create, list, show, own, mirror, resync, checkCommand, remove]
