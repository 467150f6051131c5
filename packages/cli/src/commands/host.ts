// `stellwerk host …`

import type { HostView, Status } from '@stellwerk/coordinator/view/schemas.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { type ApiClient, pathOf } from '../api-client/client.ts'
import { type CommandSpec, DIR, FAILED, JSON_OUT, OK } from '../command-line/command.ts'
import { hostLines } from '../render/status.ts'
import { accessPhrase } from '../render/storage-phrases.ts'
import { age, bytes } from '../render/units.ts'
import { untilInterrupted } from '../terminal/until-interrupted.ts'

const list: CommandSpec = {
  words: 'host list',
  args: [],
  options: { dir: DIR, json: JSON_OUT },
  summary: 'All hosts',
  run: async (context, input) => {
    const { hosts, paths } = (await (await context.api(input)).get(pathOf('status'))) as Status
    if (input.flag('json')) context.terminal.out(JSON.stringify(hosts))
    else for (const line of hostLines({ hosts, paths })) context.terminal.out(line)
    return OK
  },
}

const show: CommandSpec = {
  words: 'host show',
  args: ['NAME'],
  options: { dir: DIR, json: JSON_OUT },
  summary: 'All about one host',
  run: async (context, input) => {
    const host = (await (await context.api(input)).get(pathOf('hosts', input.args[0] ?? ''))) as HostView
    if (input.flag('json')) {
      context.terminal.out(JSON.stringify(host))
      return OK
    }
    const facts: [string, string][] = [
      ['state', `${host.state} (phase ${host.phase}, verdict ${host.verdict})`],
      ['heard', host.ageMs === null ? 'never since the coordinator started' : `${age(host.ageMs)} ago`],
      ['epoch', String(host.epoch)],
      ['agent', host.connected ? `connected, incarnation ${host.incarnation}` : 'not connected'],
      ['address', host.address],
      ['memory', `${bytes(host.memoryPlacedBytes)} of ${bytes(host.memoryBytes)} placed`],
      ['VMs', host.vms.join(' ') || '-'],
      ['owns', host.owns.join(' ') || '-'],
      ['storages', host.storages.join(' ') || '-'],
      ['QEMU', host.whyNoQemu ?? `runs machines here${host.cpu === null ? '' : `, with up to ${host.cpu}`}`],
    ]
    if (host.fence !== null) {
      facts.push(['fence', host.fence.why])
      facts.push([
        'acknowledged',
        `${host.fence.acknowledged.join(' ') || '-'} of ${host.fence.needed.join(' ') || '-'}`,
      ])
      if (host.fence.attestedBy !== null) facts.push(['death attested by', host.fence.attestedBy])
    }
    if (host.disabledFabrics.length > 0) facts.push(['disabled fabrics', host.disabledFabrics.join(' ')])
    for (const access of host.access) facts.push([`volume ${access.volume}`, accessPhrase(access)])
    for (const { why, agoMs } of host.failures) facts.push(['failed', `${age(agoMs)} ago: ${why}`])
    if (host.quarantine !== null) {
      facts.push(['quarantine', `${age(host.quarantine.leftMs)} yet: ${host.quarantine.why}`])
    }
    if (host.drain !== null) {
      facts.push(['drained because', host.drain.why])
      for (const { vm, why } of host.drain.left) facts.push([`  left: ${vm}`, why ?? 'it is being moved'])
    }
    if (host.whyNotFenced !== null) facts.push(['not fenced', host.whyNotFenced])
    for (const [name, value] of facts) context.terminal.out(`${name.padEnd(20)} ${value}`)
    return OK
  },
}

function order(
  verb: string,
  summary: string,
  call: (client: ApiClient, name: string) => Promise<unknown>,
  done: string,
): CommandSpec {
  return {
    words: `host ${verb}`,
    args: ['NAME'],
    options: { dir: DIR, json: JSON_OUT },
    summary,
    run: async (context, input) => {
      const name = input.args[0] ?? ''
      const answer = await call(await context.api(input), name)
      context.terminal.out(input.flag('json') ? JSON.stringify(answer) : `host ${name} ${done}`)
      return OK
    },
  }
}

const DRAIN_POLL_MS = 300

const drain: CommandSpec = {
  words: 'host drain',
  args: ['NAME'],
  options: {
    dir: DIR,
    wait: { type: 'boolean', help: 'until nothing is left there, showing what is' },
    json: JSON_OUT,
  },
  summary:
    'Take it out of service for its maintenance: its VMs are moved live, and it gets no more until it is resumed',
  run: async (context, input) => {
    const { terminal } = context
    const name = input.args[0] ?? ''
    const client = await context.api(input)
    const answer = await client.post(pathOf('hosts', name, 'drain'), {})
    if (!input.flag('wait')) {
      terminal.out(input.flag('json') ? JSON.stringify(answer) : `host ${name} is being drained`)
      return OK
    }
    let over: HostView | null = null
    let last = ''
    await untilInterrupted(async sleep => {
      do {
        const host = (await client.get(pathOf('hosts', name))) as HostView
        const left = host.drain?.left ?? []
        const line = left.map(({ vm, why }) => (why === null ? vm : `${vm} (${why})`)).join(', ')
        if (line !== last && line !== '' && !input.flag('json')) terminal.out(`left on ${name}: ${line}`)
        last = line
        if (host.drain === null) throw new StellwerkError('not-draining', `host ${name} was resumed`)
        if (left.length === 0) over = host
      } while (over === null && (await sleep(DRAIN_POLL_MS)))
    })
    if (over === null) return FAILED
    terminal.out(input.flag('json') ? JSON.stringify(over) : `host ${name} is drained`)
    return OK
  },
}

export const commands: readonly CommandSpec[] = [
  list,
  show,
  drain,
  order(
    'add',
    'Start a host on this machine: a new one, one that is down, or one that was removed',
    (client, name) => client.post(pathOf('hosts'), { name }),
    'is being started',
  ),
  order(
    'remove',
    'Remove a host that has no VMs',
    (client, name) => client.delete(pathOf('hosts', name)),
    'is removed',
  ),
  order(
    'resume',
    'End its drain or quarantine: it may be given VMs again',
    (client, name) => client.post(pathOf('hosts', name, 'resume')),
    'may be given VMs again',
  ),
  order(
    'confirm-dead',
    'Vouch that it is off: saves the wait before its VMs start elsewhere, never the fence',
    (client, name) => client.post(pathOf('hosts', name, 'confirm-dead')),
    'is taken for dead',
  ),
]
