// Which host opens a way into a guests' network, and by which address there, or to a machine's screen. Nothing of it is kept:
// whoever needs the way asks again while he does.

import { formatIpv4, parseIpv4 } from '@stellwerk/protocol/ipv4.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { hostLive, usableHosts } from './hosts.ts'
import { placementOf } from './placement-of.ts'
import type { CoordinatorState, HostRecord, VmRecord } from './state.ts'

export interface ForwardRequest {
  /** The guest's; null: the one that its card is bound to. */
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
  const nics = vm.spec.nics ?? []
  const nic = nics.find(({ addresses }) => request.address !== null && addresses.includes(request.address)) ?? nics[0]
  if (nic === undefined) {
    throw new StellwerkError('no-network', `VM "${vm.name}" has no network card`, {
      hint: 'give it one when it is defined: --nic NETWORK',
    })
  }
  const guest = request.address ?? nic.addresses[0]
  if (guest === undefined) {
    throw new StellwerkError('no-address', `nobody knows which address VM "${vm.name}" has`, {
      hint: 'say it: --address 10.0.0.7',
    })
  }
  const host = chooseHost(state, request.host)
  return { host, network: nic.network, guest, gateway: gatewayAddress(state, host, nic.network, guest, request.bits) }
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

/** From the highest down, those that a card is bound to left out. */
function gatewayAddress(state: CoordinatorState, host: string, network: string, guest: string, bits: number): string {
  const taken = new Set([parseIpv4(guest)])
  for (const { spec } of state.vms.values()) {
    for (const nic of spec.nics ?? [])
      if (nic.network === network) for (const each of nic.addresses) taken.add(parseIpv4(each))
  }
  const size = 2 ** (32 - bits)
  const first = parseIpv4(guest) - (parseIpv4(guest) % size)
  let before = [...state.hosts.keys()].sort().indexOf(host)
  for (let address = first + size - 2; address > first; address--) {
    if (taken.has(address)) continue
    if (before-- === 0) return formatIpv4(address)
  }
  throw new StellwerkError('no-address', `no address is free in ${formatIpv4(first)}/${bits}`, {
    hint: 'say a larger network: --address 10.0.0.7/16',
  })
}
