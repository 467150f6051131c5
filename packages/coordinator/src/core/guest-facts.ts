// What guests tell of themselves, by an agent in them and by their hosts' beats: nothing of it is on record, and nobody vouches for it.

import { isIpv4 } from '@stellwerk/protocol/ipv4.ts'
import type { Nic } from '@stellwerk/protocol/messages/cluster.ts'
import type { GuestFacts } from '@stellwerk/protocol/messages/guest-agent.ts'
import type { CoordinatorState, VmRecord } from './state.ts'

/** A card gives itself one of these when nobody has given it another. */
const LINK_LOCAL = /^169\.254\./

/** Null: no agent answers there, or its machine was not heard of. */
export function guestFactsOf(state: CoordinatorState, { name, placement }: VmRecord): GuestFacts | null {
  const machine = state.liveHosts.get(placement?.host ?? '')?.machines.get(name)
  return machine !== undefined && machine.epoch === placement?.epoch ? (machine.guest ?? null) : null
}

/** The IPv4 address that the guest says the card has; null: it has not said one. */
export function toldAddress(state: CoordinatorState, vm: VmRecord, { mac }: Pick<Nic, 'mac'>): string | null {
  const card = guestFactsOf(state, vm)?.interfaces.find(each => each.mac === mac)
  return card?.addresses.find(address => isIpv4(address) && !LINK_LOCAL.test(address)) ?? null
}
