// `stellwerk disk …`

import type { ExportView } from '@stellwerk/coordinator/view/schemas.ts'
import type { DiskInfo } from '@stellwerk/protocol/messages/volume.ts'
import { pathOf } from '../api-client/client.ts'
import { type CommandSpec, DIR, JSON_OUT, OK } from '../command-line/command.ts'
import { parseSize } from '../command-line/values.ts'
import { table } from '../render/table.ts'
import { bytes } from '../render/units.ts'
import { exportCommand, unexportCommand } from './disk-export.ts'

const list: CommandSpec = {
  words: 'disk list',
  args: ['VOLUME'],
  options: { dir: DIR, json: JSON_OUT },
  summary: 'The disks and snapshots of a volume: what each was made from, has alone and shares',
  run: async (context, input) => {
    const volume = input.args[0] ?? ''
    const client = await context.api(input)
    const disks = (await client.get(pathOf('volumes', volume, 'disks'))) as DiskInfo[]
    const exports = (await client.get(pathOf('exports'))) as ExportView[]
    const exportOf = (disk: string) => exports.find(each => each.volume === volume && each.disk === disk) ?? null
    if (input.flag('json')) {
      context.terminal.out(JSON.stringify(disks.map(disk => ({ ...disk, export: exportOf(disk.disk) }))))
      return OK
    }
    const rows = disks.map(disk => [
      disk.disk,
      disk.snapshot ? 'snapshot' : 'disk',
      disk.parent ?? '-',
      bytes(disk.sizeBytes),
      bytes(disk.allocatedBytes - disk.sharedBytes),
      bytes(disk.sharedBytes),
      openOn(disk, exportOf(disk.disk)),
    ])
    for (const line of table(['DISK', 'KIND', 'MADE FROM', 'SIZE', 'OWN', 'SHARED', 'OPEN ON'], rows))
      context.terminal.out(line)
    return OK
  },
}

function openOn({ holder }: DiskInfo, exported: ExportView | null): string {
  if (exported !== null) {
    const how = exported.readOnly ? 'read-only' : 'read-write'
    return exported.state === 'running' ? `${exported.host}, exported ${how}` : `export ${exported.state}`
  }
  return holder === null ? '-' : `${holder.host} for ${holder.vm}`
}

const create: CommandSpec = {
  words: 'disk create',
  args: ['VOLUME', 'DISK', 'SIZE'],
  options: { dir: DIR, json: JSON_OUT },
  summary: 'Make a thin disk',
  run: async (context, input) => {
    const [volume = '', disk = '', size = ''] = input.args
    const body = { disk, sizeBytes: parseSize('size', size) }
    const answer = await (await context.api(input)).post(pathOf('volumes', volume, 'disks'), body)
    context.terminal.out(input.flag('json') ? JSON.stringify(answer) : `disk ${disk} is made on volume ${volume}`)
    return OK
  },
}

const resize: CommandSpec = {
  words: 'disk resize',
  args: ['VOLUME', 'DISK', 'SIZE'],
  options: { dir: DIR, json: JSON_OUT },
  summary: 'Give a disk another size: larger also while a VM runs with it, smaller never below its data',
  run: async (context, input) => {
    const [volume = '', disk = '', size = ''] = input.args
    const body = { sizeBytes: parseSize('size', size) }
    const answer = await (await context.api(input)).post(pathOf('volumes', volume, 'disks', disk, 'resize'), body)
    context.terminal.out(input.flag('json') ? JSON.stringify(answer) : `disk ${disk} has ${bytes(body.sizeBytes)} now`)
    return OK
  },
}

const remove: CommandSpec = {
  words: 'disk delete',
  args: ['VOLUME', 'DISK'],
  options: { dir: DIR, json: JSON_OUT },
  summary: 'Delete a disk or snapshot that no VM has; what was made from it stays',
  run: async (context, input) => {
    const [volume = '', disk = ''] = input.args
    const answer = await (await context.api(input)).delete(pathOf('volumes', volume, 'disks', disk))
    context.terminal.out(input.flag('json') ? JSON.stringify(answer) : `disk ${disk} is deleted`)
    return OK
  },
}

const snapshot: CommandSpec = {
  words: 'disk snapshot',
  args: ['VOLUME', 'DISK', 'NAME'],
  options: {
    dir: DIR,
    'no-freeze': { type: 'boolean', help: 'the agent in the guest is not asked to hold its file systems still' },
    json: JSON_OUT,
  },
  summary: 'Keep what a disk holds now, under a name, also while a VM runs with it',
  run: async (context, input) => {
    const [volume = '', disk = '', name = ''] = input.args
    const path = pathOf('volumes', volume, 'disks', disk, 'snapshots')
    const freeze = !input.flag('no-freeze')
    const answer = (await (await context.api(input)).post(path, { name, freeze })) as {
      consistency: string
      why: string | null
    }
    const { consistency, why } = answer
    const how = consistency === 'idle' ? '' : `, ${consistency}${why === null ? '' : ` (${why})`}`
    context.terminal.out(input.flag('json') ? JSON.stringify(answer) : `snapshot ${name} of disk ${disk} is made${how}`)
    return OK
  },
}

const clone: CommandSpec = {
  words: 'disk clone',
  args: ['VOLUME', 'SNAPSHOT', 'NAME'],
  options: { dir: DIR, json: JSON_OUT },
  summary: 'Make a disk that begins as a snapshot is',
  run: async (context, input) => {
    const [volume = '', from = '', name = ''] = input.args
    const path = pathOf('volumes', volume, 'disks', from, 'clones')
    const answer = await (await context.api(input)).post(path, { name })
    context.terminal.out(input.flag('json') ? JSON.stringify(answer) : `disk ${name} is made from snapshot ${from}`)
    return OK
  },
}

export const commands: readonly CommandSpec[] = [
  ...[list, create, resize, remove, snapshot, clone],
  ...[exportCommand, unexportCommand],
]
