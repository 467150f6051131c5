// `stellwerk network …`: the networks of the guests. One is there because cards name it.

import type { Status } from '@stellwerk/coordinator/view/schemas.ts'
import { pathOf } from '../api-client/client.ts'
import { type CommandSpec, DIR, JSON_OUT, OK } from '../command-line/command.ts'
import { table } from '../render/table.ts'

export interface NetworkCard {
  readonly vm: string
  readonly mac: string
  readonly addresses: readonly string[]
  /** Where it is plugged in now, if its VM runs. */
  readonly host: string | null
  readonly state: string
}

const list: CommandSpec = {
  words: 'network list',
  args: [],
  options: { dir: DIR, json: JSON_OUT },
  summary: 'The networks of the guests, and the cards in each',
  run: async (context, input) => {
    const vms = (await (await context.api(input)).get(pathOf('vms'))) as Status['vms']
    const networks = networksOf(vms)
    if (input.flag('json')) context.terminal.out(JSON.stringify(networks))
    else for (const line of networkLines(networks)) context.terminal.out(line)
    return OK
  },
}

/** By name, and in each by VM. */
export function networksOf(vms: Status['vms']): { [network: string]: NetworkCard[] } {
  const networks: { [network: string]: NetworkCard[] } = {}
  for (const vm of Object.values(vms)) {
    for (const { network, mac, addresses } of vm.nics) {
      networks[network] ??= []
      networks[network].push({ vm: vm.name, mac, addresses, host: vm.host, state: vm.state })
    }
  }
  return Object.fromEntries(Object.entries(networks).sort(([a], [b]) => (a < b ? -1 : 1)))
}

function networkLines(networks: { readonly [network: string]: readonly NetworkCard[] }): string[] {
  const rows = Object.entries(networks).flatMap(([network, cards]) =>
    cards.map(({ vm, mac, addresses, host, state }) => [
      network,
      vm,
      mac,
      addresses.join(' ') || '-',
      host ?? '-',
      state,
    ]),
  )
  return table(['NETWORK', 'VM', 'MAC', 'ADDRESSES', 'HOST', 'STATE'], rows)
}

export const commands: readonly CommandSpec[] = [list]
