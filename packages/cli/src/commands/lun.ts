// `stellwerk lun …`: what an embedded storage holds, and the way to be rid of what no volume has.

import { pathOf } from '../api-client/client.ts'
import { type CommandSpec, DIR, JSON_OUT, OK } from '../command-line/command.ts'
import { table } from '../render/table.ts'
import { bytes } from '../render/units.ts'

interface LunView {
  readonly lun: string
  readonly id: string
  readonly sizeBytes: number
  readonly allocatedBytes: number
  readonly connections: number
  readonly used: boolean
  readonly why: string | null
  readonly volume: string | null
}

const list: CommandSpec = {
  words: 'lun list',
  args: ['STORAGE'],
  options: { dir: DIR, json: JSON_OUT },
  summary: 'The LUNs of an embedded storage, and whose each is',
  run: async (context, input) => {
    const [storage = ''] = input.args
    const luns = (await (await context.api(input)).get(pathOf('storages', storage, 'luns'))) as LunView[]
    if (input.flag('json')) context.terminal.out(JSON.stringify(luns))
    else for (const line of lunLines(luns)) context.terminal.out(line)
    return OK
  },
}

const remove: CommandSpec = {
  words: 'lun delete',
  args: ['STORAGE', 'LUN'],
  options: {
    dir: DIR,
    json: JSON_OUT,
    force: { type: 'boolean', help: 'also one that holds, or held, a volume' },
    id: { type: 'string', value: 'ID', help: 'of the LUN that is meant, as lun list shows it (needed)' },
  },
  summary: 'Delete a LUN that no volume has: what is in it is LOST',
  run: async (context, input) => {
    const [storage = '', lun = ''] = input.args
    const id = input.text('id') ?? ''
    const force = input.flag('force') ? '&force=true' : ''
    const path = `${pathOf('storages', storage, 'luns', lun)}?id=${encodeURIComponent(id)}${force}`
    const answer = await (await context.api(input)).delete(path)
    context.terminal.out(input.flag('json') ? JSON.stringify(answer) : `LUN ${lun} of ${storage} is deleted`)
    return OK
  },
}

function lunLines(luns: readonly LunView[]): string[] {
  const rows = luns.map(({ lun, id, sizeBytes, allocatedBytes, connections, used, why, volume }) => [
    lun,
    id,
    bytes(sizeBytes),
    bytes(allocatedBytes),
    String(connections),
    volume ?? (used ? 'none known' : '-'),
    why ?? '-',
  ])
  return table(['LUN', 'ID', 'SIZE', 'ALLOCATED', 'CONNECTIONS', 'VOLUME', 'WHY'], rows)
}

export const commands: readonly CommandSpec[] = [list, remove]
