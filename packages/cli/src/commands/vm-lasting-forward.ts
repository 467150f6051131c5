// `stellwerk vm forward --keep`, `vm forwards` and `vm unforward`: forwards that are on record with their VM, and open wherever it runs
// without any command.

import type { ForwardView, Status, VmView } from '@stellwerk/coordinator/view/schemas.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { type ApiClient, pathOf } from '../api-client/client.ts'
import {
  type CommandContext,
  type CommandSpec,
  DIR,
  FAILED,
  type Input,
  JSON_OUT,
  OK,
} from '../command-line/command.ts'
import { oneOf } from '../command-line/values.ts'
import { table } from '../render/table.ts'
import { untilInterrupted } from '../terminal/until-interrupted.ts'
import { splitListen } from './kept-way.ts'

const POLL_MS = 100
/** So long its hosts have to open it before it is said how it stands; a QEMU may have to be started. */
const OPENING_MS = 15_000
/** So long after the first attempt one may succeed: whoever had the port may be about to give it back. */
const CLOSED_MS = 3_000

/** What of the guest it leads to. */
interface GuestEnd {
  readonly port: number
  readonly address?: string
  readonly bits?: number
}

export async function keepForward(context: CommandContext, input: Input, end: GuestEnd): Promise<number> {
  const { terminal } = context
  const vm = input.args[0] ?? ''
  const body = { ...end, listen: listenOf(input), ...hostsOf(input) }
  const client = await context.api(input)
  const { forward } = (await client.post(pathOf('vms', vm, 'lasting-forwards'), body)) as { forward: string }
  const view = await untilOpen(client, vm, forward)
  if (view === null) return OK
  const { hosts, guest } = view
  if (input.flag('json')) terminal.out(JSON.stringify({ vm, ...view }))
  else {
    if (hosts.length === 0) terminal.out(`${forward} leads to ${vm}, ${guest}, when that runs`)
    for (const { host, state, address } of hosts) {
      if (state === 'open') terminal.out(`${address} on ${host} leads to ${vm}, ${guest}, until it is ended`)
    }
  }
  const missing = hosts.filter(({ state }) => state !== 'open')
  for (const each of missing) terminal.err(`stellwerk: ${forward} is ${placePhrase(each)}`)
  return missing.length === 0 ? OK : FAILED
}

function listenOf(input: Input): { host?: string; port: number } {
  const text = input.text('listen')
  if (text === undefined) {
    throw new StellwerkError('usage', 'a lasting forward is known by its port', { hint: 'say which: --listen 2222' })
  }
  const { host, port } = splitListen(text, 1)
  return { ...(host === null ? {} : { host }), port }
}

function hostsOf(input: Input): { on?: 'vm' | 'all'; host?: string } {
  const on = input.text('on')
  const host = input.text('host')
  if (on !== undefined && host !== undefined) {
    throw new StellwerkError('usage', '--on and --host both say which hosts listen', { hint: 'say one of them' })
  }
  if (host !== undefined) return { host }
  return on === undefined ? {} : { on: oneOf('on', on, ['vm', 'all'] as const) }
}

/** How it stands when its hosts have opened it, or have had the time to; null: it was ended, or the user has had enough. */
async function untilOpen(client: ApiClient, vm: string, forward: string): Promise<ForwardView | null> {
  let last: ForwardView | null = null
  await untilInterrupted(async sleep => {
    let leftMs = OPENING_MS
    do {
      const { forwards } = (await client.get(pathOf('vms', vm))) as VmView
      last = forwards.find(each => each.forward === forward) ?? null
      if (last === null || last.hosts.every(({ state }) => state === 'open')) return
      if (last.hosts.every(({ state }) => state !== 'opening')) leftMs = Math.min(leftMs, CLOSED_MS)
      leftMs -= POLL_MS
    } while (leftMs > 0 && (await sleep(POLL_MS)))
  })
  return last
}

/** `open at 127.0.0.1:2222 on host-a`. */
function placePhrase({ host, state, address, why }: ForwardView['hosts'][number]): string {
  if (state === 'open') return `open at ${address} on ${host}`
  const again = state === 'closed' ? '; it is tried again' : ''
  return `${state === 'closed' ? 'not open' : state} on ${host}${why === null ? '' : `: ${why}`}${again}`
}

/** For `vm show`. */
export function forwardFacts({ forwards }: Pick<VmView, 'forwards'>): [string, string][] {
  return forwards.map(({ forward, guest, hosts }) => {
    const places = hosts.length === 0 ? ['when it runs'] : hosts.map(placePhrase)
    return ['forward', `${forward} to ${guest}, ${places.join(', ')}`]
  })
}

export const forwardsCommand: CommandSpec = {
  words: 'vm forwards',
  args: ['NAME?'],
  options: { dir: DIR, json: JSON_OUT },
  summary: 'The lasting forwards to one VM, or to all: where they listen, and whether they are open',
  run: async (context, input) => {
    const [name] = input.args
    const client = await context.api(input)
    const vms =
      name === undefined
        ? Object.values((await client.get(pathOf('vms'))) as Status['vms'])
        : [(await client.get(pathOf('vms', name))) as VmView]
    const forwards = vms.flatMap(vm => vm.forwards.map(forward => ({ vm: vm.name, ...forward })))
    if (input.flag('json')) context.terminal.out(JSON.stringify(forwards))
    else for (const line of forwardLines(forwards)) context.terminal.out(line)
    return OK
  },
}

export function forwardLines(forwards: readonly (ForwardView & { readonly vm: string })[]): string[] {
  const rows = forwards.flatMap(({ vm, forward, guest, on, hosts }) => {
    const known = [forward, vm, guest, on]
    if (hosts.length === 0) return [[...known, '-', '-', 'closed: the VM is on no host']]
    return hosts.map(({ host, address, state, why }) => {
      return [...known, host, address ?? '-', `${state}${why === null ? '' : `: ${why}`}`]
    })
  })
  return table(['FORWARD', 'VM', 'GUEST', 'ON', 'HOST', 'LISTENS', 'STATE'], rows)
}

export const unforwardCommand: CommandSpec = {
  words: 'vm unforward',
  args: ['NAME', '[ADDRESS:]PORT'],
  options: { dir: DIR, json: JSON_OUT },
  summary: 'End a lasting forward',
  run: async (context, input) => {
    const [vm = '', forward = ''] = input.args
    const answer = await (await context.api(input)).delete(pathOf('vms', vm, 'lasting-forwards', forward))
    context.terminal.out(input.flag('json') ? JSON.stringify(answer) : `${forward} leads to ${vm} no more`)
    return OK
  },
}
