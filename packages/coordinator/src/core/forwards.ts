// Which host opens a way into a guests' network, and by which address there, or to a machine's screen. Nothing of it is kept:
// whoever needs the way asks again while he does (of lasting forwards: lasting-forwards.ts).

import { formatIpv4, parseIpv4 } from '@stellwerk/protocol/ipv4.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { toldAddress } from './guest-facts.ts'
import { hostLive, usableHosts } from './hosts.ts'
import type { Refusal } from './migration.ts'
import { placementOf } from './placement-of.ts'
import type { CoordinatorState, HostRecord, VmRecord } from './state.ts'

export interface ForwardRequest {
  /** The guest's; null: the one that its card is bound to, or that the guest itself tells. */
  readonly address: string | null
  /** How many bits of it the network's addresses have in common. */
  readonly bits: number
  /** Null: whichever can. */
  readonly host: string | null
}

export interface ForwardRoute {
  readonly host: string
  readonly network: string
  readonly guest: string
  /** The gateway's own address there: another one on each host. */
  readonly gateway: string
}

/** Throws `no-network`, `no-address`, `host-unfit`. */
export function routeForward(state: CoordinatorState, vm: VmRecord, request: ForwardRequest): ForwardRoute {
  const end = guestEnd(state, vm, request.address)
  if ('code' in end) throw asError(end)
  const host = chooseHost(state, request.host)
  const within = { ...end, bits: request.bits }
  const gateway = gatewayAddresses(state, within).get(host)
  if (gateway === undefined) throw asError(noGateway(within))
  return { ...end, host, gateway }
}

/** Where in which network a forward to the VM ends; `address`: as the operator says, or null. */
export function guestEnd(
  state: CoordinatorState,
  vm: VmRecord,
  address: string | null,
): { readonly network: string; readonly guest: string } | Refusal {
  const nics = vm.spec.nics ?? []
  const nic = nics.find(({ addresses }) => address !== null && addresses.includes(address)) ?? nics[0]
  if (nic === undefined) {
    return {
      ...{ code: 'no-network', message: `VM "${vm.name}" has no network card` },
      hint: 'give it one when it is defined: --nic NETWORK',
    }
  }
  const guest = address ?? nic.addresses[0] ?? toldAddress(state, vm, nic)
  if (guest !== null) return { network: nic.network, guest }
  return {
    ...{ code: 'no-address', message: `nobody knows which address VM "${vm.name}" has` },
    hint: 'say it: --address 10.0.0.7; a guest with an agent (qemu-ga) tells it by itself',
  }
}

function asError({ code, message, hint }: Refusal): StellwerkError {
  return new StellwerkError(code, message, { hint })
}

/** The host that has the VM's machine, also while it is being stopped. Throws `no-screen`, `not-running`; `screen-away`: not yet. */
export function screenHost(vm: VmRecord): string {
  if (vm.spec.hypervisor !== 'qemu' || vm.spec.parameters['screen'] !== true) {
    throw new StellwerkError('no-screen', `VM "${vm.name}" has no screen`, {
      hint: 'real machines may have one, if it is asked for when they are defined: vm create --screen',
    })
  }
  return placementOf(vm, 'screen-away').host
}

function chooseHost(state: CoordinatorState, wanted: string | null): string {
  const whyNot = (host: HostRecord): string | null => {
    if (host.guest === undefined) return 'it is not on the guest network'
    return hostLive(state, host.name).whyNoQemu
  }
  if (wanted === null) {
    const able = usableHosts(state).find(host => whyNot(host) === null)
    if (able !== undefined) return able.name
    throw new StellwerkError('host-unfit', 'no host that is up has QEMU and is on the guest network', {
      hint: 'install QEMU on one: apt install qemu-system-x86',
    })
  }
  const host = usableHosts(state).find(({ name }) => name === wanted)
  const why = host === undefined ? 'it is not up' : whyNot(host)
  if (why === null) return wanted
  throw new StellwerkError('host-unfit', `host "${wanted}" can open no way to guests: ${why}`, {
    hint: 'name another host, or none',
  })
}

/** A part of a network of the guests: the addresses that have their first `bits` in common with `guest`. */
export interface GuestNet {
  readonly network: string
  readonly guest: string
  readonly bits: number
}

/**
 * Each host's own address there: from the highest down, those left out that a card is bound to or a lasting forward leads to. A host
 * may be left without.
 */
export function gatewayAddresses(
  state: CoordinatorState,
  { network, guest, bits }: GuestNet,
): ReadonlyMap<string, string> {
  const taken = new Set([parseIpv4(guest)])
  for (const { spec, forwards = [] } of state.vms.values()) {
    for (const nic of spec.nics ?? [])
      if (nic.network === network) for (const each of nic.addresses) taken.add(parseIpv4(each))
    for (const forward of forwards) if (forward.network === network) taken.add(parseIpv4(forward.guest))
  }
  const first = firstAddress(guest, bits)
  const hosts = [...state.hosts.keys()].sort()
  const addresses = new Map<string, string>()
  for (let address = first + 2 ** (32 - bits) - 2; address > first && addresses.size < hosts.length; address--) {
    const host = hosts[addresses.size]
    if (host !== undefined && !taken.has(address)) addresses.set(host, formatIpv4(address))
  }
  return addresses
}

/** The one that names the part. */
function firstAddress(guest: string, bits: number): number {
  return parseIpv4(guest) - (parseIpv4(guest) % 2 ** (32 - bits))
}

export function noGateway({ guest, bits }: GuestNet): Refusal {
  return {
    ...{ code: 'no-address', message: `no address is free in ${formatIpv4(firstAddress(guest, bits))}/${bits}` },
    hint: 'say a larger network: --address 10.0.0.7/16',
  }
}
