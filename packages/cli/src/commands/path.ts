// `stellwerk path …`: the ways from hosts to storage.

import type { PathView, Status } from '@stellwerk/coordinator/view/schemas.ts'
import { NO_EPOCHS } from '@stellwerk/coordinator/view/storages.ts'
import { pathOf } from '../api-client/client.ts'
import { type CommandSpec, DIR, JSON_OUT, OK } from '../command-line/command.ts'
import { table } from '../render/table.ts'
import { age, latency } from '../render/units.ts'

const list: CommandSpec = {
  words: 'path list',
  args: [],
  options: { dir: DIR, json: JSON_OUT },
  summary: 'The paths from hosts over fabrics to storages, and the redirected ones',
  run: async (context, input) => {
    const paths = (await (await context.api(input)).get(pathOf('paths'))) as Status['paths']
    if (input.flag('json')) context.terminal.out(JSON.stringify(paths))
    else for (const line of pathLines(paths)) context.terminal.out(line)
    return OK
  },
}

export function pathLines(paths: Status['paths']): string[] {
  const rows = Object.entries(paths).map(([name, path]) => [
    name,
    path.via === null ? path.state : `${path.state} via ${path.via}`,
    path.state === 'unknown' ? '-' : age(path.sinceMs + (path.ageMs ?? 0)),
    path.latencyMs === null ? '-' : latency(path.latencyMs),
    String(path.queue),
    String(path.requests),
    String(path.errors),
    age(path.ageMs),
    remarkOf(path),
  ])
  return table(['PATH', 'STATE', 'SINCE', 'LATENCY', 'QUEUE', 'I/O', 'ERRORS', 'HEARD', ''], rows)
}

/** What a path that is well says of itself is no news. */
function remarkOf({ state, why, epochs }: PathView): string {
  const news = state === 'up' || state === 'standby' || state === 'disabled' ? '' : why
  return [news, epochs ? '' : NO_EPOCHS].filter(each => each !== '').join('; ')
}

const FORCE = {
  type: 'boolean',
  help: 'even if the host would have no other way to a volume that it has open',
} as const

const disable: CommandSpec = {
  words: 'path disable',
  args: ['HOST', 'FABRIC'],
  options: { dir: DIR, json: JSON_OUT, force: FORCE },
  summary: 'Take a fabric from a host, for maintenance: its requests go another way, redirected if need be',
  run: async (context, input) => {
    const [host = '', fabric = ''] = input.args
    const path = pathOf('hosts', host, 'fabrics', fabric, 'disable')
    const answer = await (await context.api(input)).post(path, { force: input.flag('force') })
    context.terminal.out(
      input.flag('json')
        ? JSON.stringify(answer)
        : `host ${host} sends nothing over ${fabric} while there is another way`,
    )
    return OK
  },
}

const enable: CommandSpec = {
  words: 'path enable',
  args: ['HOST', 'FABRIC'],
  options: { dir: DIR, json: JSON_OUT },
  summary: 'Give a fabric back to a host',
  run: async (context, input) => {
    const [host = '', fabric = ''] = input.args
    const answer = await (await context.api(input)).post(pathOf('hosts', host, 'fabrics', fabric, 'enable'))
    context.terminal.out(input.flag('json') ? JSON.stringify(answer) : `host ${host} uses ${fabric} again`)
    return OK
  },
}

const policy: CommandSpec = {
  words: 'path policy',
  args: ['VOLUME', 'POLICY'],
  options: { dir: DIR, json: JSON_OUT },
  summary: 'How a volume’s requests are spread over paths that are as good: least-queue, or fixed (the first of them)',
  run: async (context, input) => {
    const [volume = '', wanted = ''] = input.args
    const path = pathOf('volumes', volume, 'path-policy')
    const answer = await (await context.api(input)).post(path, { policy: wanted })
    context.terminal.out(input.flag('json') ? JSON.stringify(answer) : `volume ${volume}: paths are used ${wanted}`)
    return OK
  },
}

export const commands: readonly CommandSpec[] = [list, disable, enable, policy]
