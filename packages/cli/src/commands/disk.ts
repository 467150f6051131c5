// `stellwerk disk …`

import type { ExportView } from '@stellwerk/coordinator/view/schemas.ts'
import type { DiskInfo } from '@stellwerk/protocol/messages/volume.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { type ApiClient, pathOf } from '../api-client/client.ts'
import { type CommandSpec, DIR, JSON_OUT, OK } from '../command-line/command.ts'
import { parseSize } from '../command-line/values.ts'
import { table } from '../render/table.ts'
import { bytes } from '../render/units.ts'
import { exportCommand, unexportCommand } from './disk-export.ts'

const list: CommandSpec = {
  words: 'disk list',
  args: ['VOLUME'],
  options: { dir: DIR, json: JSON_OUT },
  summary: 'The disks of a volume',
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
      bytes(disk.sizeBytes),
      bytes(disk.allocatedBytes),
      openOn(disk, exportOf(disk.disk)),
    ])
    for (const line of table(['DISK', 'SIZE', 'ALLOCATED', 'OPEN ON'], rows)) context.terminal.out(line)
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
  options: {
    dir: DIR,
    json: JSON_OUT,
    shrink: { type: 'boolean', help: 'allow a smaller size: what lies beyond it is lost' },
  },
  summary: 'Give a disk another size',
  run: async (context, input) => {
    const [volume = '', disk = '', size = ''] = input.args
    const body = { sizeBytes: parseSize('size', size) }
    const client = await context.api(input)
    if (!input.flag('shrink')) await refuseShrinking(client, volume, disk, body.sizeBytes)
    const answer = await client.post(pathOf('volumes', volume, 'disks', disk, 'resize'), body)
    context.terminal.out(input.flag('json') ? JSON.stringify(answer) : `disk ${disk} has ${bytes(body.sizeBytes)} now`)
    return OK
  },
}

async function refuseShrinking(client: ApiClient, volume: string, disk: string, sizeBytes: number): Promise<void> {
  const disks = (await client.get(pathOf('volumes', volume, 'disks'))) as DiskInfo[]
  const known = disks.find(each => each.disk === disk)
  if (known === undefined || known.sizeBytes <= sizeBytes) return
  throw new StellwerkError(
    'would-shrink',
    `disk ${disk} has ${bytes(known.sizeBytes)}: what lies beyond would be lost`,
    {
      where: `volume ${volume}`,
      hint: 'say --shrink if that is meant',
    },
  )
}

const remove: CommandSpec = {
  words: 'disk delete',
  args: ['VOLUME', 'DISK'],
  options: { dir: DIR, json: JSON_OUT },
  summary: 'Delete a disk that no VM has',
  run: async (context, input) => {
    const [volume = '', disk = ''] = input.args
    const answer = await (await context.api(input)).delete(pathOf('volumes', volume, 'disks', disk))
    context.terminal.out(input.flag('json') ? JSON.stringify(answer) : `disk ${disk} is deleted`)
    return OK
  },
}

export const commands: readonly CommandSpec[] = [list, create, resize, remove, exportCommand, unexportCommand]
