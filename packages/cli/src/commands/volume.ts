// `stellwerk volume …`

import type { Status, VolumeView } from '@stellwerk/coordinator/view/schemas.ts'
import { pathOf } from '../api-client/client.ts'
import { type CommandSpec, DIR, JSON_OUT, OK } from '../command-line/command.ts'
import { parseSize } from '../command-line/values.ts'
import { volumeLines } from '../render/status.ts'
import { age, bytes } from '../render/units.ts'
import { checkCommand } from './volume-check.ts'

const create: CommandSpec = {
  words: 'volume create',
  args: ['NAME', 'SIZE'],
  options: {
    dir: DIR,
    json: JSON_OUT,
    storage: { type: 'string', value: 'S', help: 'the storage subsystem (default: the one with fewest volumes)' },
  },
  summary: 'Make a volume',
  run: async (context, input) => {
    const [name = '', size = ''] = input.args
    const storage = input.text('storage')
    const body = {
      name,
      sizeBytes: parseSize('size', size),
      ...(storage === undefined ? {} : { storages: [storage] }),
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
      ['owner', `${volume.owner ?? '-'} at epoch ${volume.ownerEpoch}`],
      ...volume.legs.map((leg): [string, string] => [leg.leg, `LUN ${leg.lun} on ${leg.storage}: ${leg.state}`]),
    ]
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

export const commands: readonly CommandSpec[] = [create, list, show, own, checkCommand]
