// Lasting forwards: ports of hosts that lead to a TCP port of a guest, on record with its VM. Which hosts listen follows from where the
// VM is; hosts learn it by the map, and keep open what they find there. Pure.

import { parseIpv4 } from '@stellwerk/protocol/ipv4.ts'
import { LASTING_FORWARDS_MAX, type MapForward } from '@stellwerk/protocol/messages/forward.ts'
import { accept, type CommandResult, refuse } from './command-result.ts'
import { type GuestNet, gatewayAddresses, guestEnd, noGateway } from './forwards.ts'
import type { StepOutput } from './output.ts'
import type { CoordinatorState, ForwardRecord, VmRecord } from './state.ts'

/** As an operator asks for one. */
export interface AskedForward {
  /** Null: the address that each host has for forwards. */
  readonly listenAddress: string | null
  readonly port: number
  readonly guestPort: number
  /** The guest's; null: the one that its card is bound to, or that the guest itself tells now. */
  readonly address: string | null
  readonly bits: number
  readonly on: ForwardRecord['on']
}

/** A host that is to listen, and what keeps it from that, as far as it is known here. */
export type ForwardPlace =
  | { readonly host: string; readonly gateway: string; readonly whyNot: null }
  | { readonly host: string; readonly whyNot: string }

const ANY_ADDRESS = '0.0.0.0'

/** What it is called: `[ADDRESS:]PORT`. */
export function forwardId({ address, port }: Pick<ForwardRecord, 'address' | 'port'>): string {
  return address === null ? String(port) : `${address}:${port}`
}

/** The guest's end of it. */
export function guestOf({ guest, guestPort }: Pick<ForwardRecord, 'guest' | 'guestPort'>): string {
  return `${guest}:${guestPort}`
}

/** Asked for again as it is, it stays as it is. */
export function addForward(state: CoordinatorState, vm: VmRecord, asked: AskedForward, out: StepOutput): CommandResult {
  const { listenAddress: address, port, guestPort, bits, on } = asked
  if (typeof on === 'object' && state.hosts.get(on.host)?.removed !== false) {
    return refuse('unknown-host', `there is no host "${on.host}"`, 'see: stellwerk host list')
  }
  const end = guestEnd(state, vm, asked.address)
  if ('code' in end) return { ok: false, refusal: end }
  const { network, guest } = end
  const record: ForwardRecord = { address, port, network, guest, guestPort, bits, on }
  const accepted = () => accept({ vm: vm.name, forward: forwardId(record), guest: guestOf(record) })
  const all = recordsOf(state)
  const inTheWay = all.find(each => collide(each.record, record))
  if (inTheWay !== undefined) {
    if (inTheWay.vm === vm.name && isSame(inTheWay.record, record)) return accepted()
    const id = forwardId(inTheWay.record)
    return refuse(
      'forward-exists',
      `port ${port} is that of the forward ${id} to VM "${inTheWay.vm}", ${guestOf(inTheWay.record)}`,
      `choose another, or end that one: stellwerk vm unforward ${inTheWay.vm} ${id}`,
    )
  }
  const other = all.find(each => overlap(each.record, record))
  if (other !== undefined) {
    return refuse(
      'bits-differ',
      `network "${network}" has /${other.record.bits} for the forward ${forwardId(other.record)}, and not /${bits}`,
      `say the same: --address ${guest}/${other.record.bits}`,
    )
  }
  if (all.length >= LASTING_FORWARDS_MAX) {
    const message = `the cluster has ${LASTING_FORWARDS_MAX} lasting forwards already`
    return refuse('too-many-forwards', message, 'end one of them; see: stellwerk vm forwards')
  }
  if (gatewayAddresses(state, record).size < state.hosts.size) return { ok: false, refusal: noGateway(record) }
  out.put('vms', vm.name, { ...vm, forwards: [...(vm.forwards ?? []), record].sort(inOrder) })
  return accepted()
}

/** `id`: as `forwardId` tells it. */
export function removeForward(vm: VmRecord, id: string, out: StepOutput): CommandResult {
  const before = vm.forwards ?? []
  const forwards = before.filter(each => forwardId(each) !== id)
  if (forwards.length === before.length) {
    const message = `VM "${vm.name}" has no lasting forward "${id}"`
    return refuse('unknown-forward', message, `see: stellwerk vm forwards ${vm.name}`)
  }
  out.put('vms', vm.name, { ...vm, forwards })
  return accept({ vm: vm.name, forward: id })
}

/** The same VM, with nothing leading to it any more. */
export function withoutForwards(vm: VmRecord): VmRecord {
  const { forwards: _ended, ...rest } = vm
  return rest
}

/** Where it is to be open now: nowhere while its VM is on no host. */
export function placesOf(
  state: CoordinatorState,
  { placement }: Pick<VmRecord, 'placement'>,
  record: ForwardRecord,
  gateways: (within: GuestNet) => ReadonlyMap<string, string> = within => gatewayAddresses(state, within),
): ForwardPlace[] {
  if (placement === null) return []
  const names = record.on === 'all' ? everyHost(state) : [record.on === 'vm' ? placement.host : record.on.host]
  return names.map(host => {
    const whyNot = whyNotAt(state, host)
    if (whyNot !== null) return { host, whyNot }
    const gateway = gateways(record).get(host)
    return gateway === undefined ? { host, whyNot: noGateway(record).message } : { host, gateway, whyNot: null }
  })
}

function everyHost(state: CoordinatorState): string[] {
  const members = [...state.hosts.values()].filter(({ removed, guest }) => !removed && guest !== undefined)
  return members.map(({ name }) => name).sort()
}

function whyNotAt(state: CoordinatorState, name: string): string | null {
  const host = state.hosts.get(name)
  if (host === undefined || host.removed) return 'it was removed'
  // Nobody hears its gateways, and its VMs are over.
  if (host.phase !== 'admitted') return `it is ${host.phase}`
  return host.guest === undefined ? 'it is not on the guest network' : null
}

/** As the map has them; undefined: there are none. */
export function mapForwards(state: CoordinatorState): MapForward[] | undefined {
  const known = new Map<string, ReadonlyMap<string, string>>()
  const gateways = (within: GuestNet): ReadonlyMap<string, string> => {
    const key = `${within.network} ${within.bits} ${parseIpv4(within.guest) >>> (32 - within.bits)}`
    const addresses = known.get(key) ?? gatewayAddresses(state, within)
    known.set(key, addresses)
    return addresses
  }
  const forwards = recordsOf(state).flatMap(({ vm, record }): MapForward[] => {
    const places = placesOf(state, state.vms.get(vm) ?? { placement: null }, record, gateways)
    const at = places.flatMap(place => (place.whyNot === null ? [{ host: place.host, gateway: place.gateway }] : []))
    if (at.length === 0) return []
    const { address: host, port, network, bits, guest, guestPort } = record
    return [{ forward: forwardId(record), listen: { host, port }, network, bits, guest, guestPort, at }]
  })
  return forwards.length === 0 ? undefined : forwards
}

/** The map is new if where they are to be open has changed. */
export function followForwards(state: CoordinatorState): void {
  if (state.map === null) return
  const now = mapForwards(state)
  if (now === undefined && state.map.forwards === undefined) return
  if (JSON.stringify(now) !== JSON.stringify(state.map.forwards)) state.mapVersion += 1
}

function recordsOf(state: CoordinatorState): { readonly vm: string; readonly record: ForwardRecord }[] {
  const all: { readonly vm: string; readonly record: ForwardRecord }[] = []
  for (const { name, forwards = [] } of state.vms.values())
    for (const record of forwards) all.push({ vm: name, record })
  return all.sort((a, b) => inOrder(a.record, b.record))
}

function inOrder(a: ForwardRecord, b: ForwardRecord): number {
  return a.port - b.port || (forwardId(a) < forwardId(b) ? -1 : 1)
}

/** Which host has which address is not known here: only two that are said, and differ, do not get in each other's way. */
function collide(a: ForwardRecord, b: ForwardRecord): boolean {
  if (a.port !== b.port) return false
  const isAny = ({ address }: ForwardRecord): boolean => address === null || address === ANY_ADDRESS
  return isAny(a) || isAny(b) || a.address === b.address
}

/** Hosts could have one address in both of these parts of a network, by gateways that do not know of each other. */
function overlap(a: ForwardRecord, b: ForwardRecord): boolean {
  if (a.network !== b.network || a.bits === b.bits) return false
  const bits = Math.min(a.bits, b.bits)
  return parseIpv4(a.guest) >>> (32 - bits) === parseIpv4(b.guest) >>> (32 - bits)
}

function isSame(a: ForwardRecord, b: ForwardRecord): boolean {
  const target = ({ on }: ForwardRecord): string => (typeof on === 'object' ? `on ${on.host}` : on)
  return forwardId(a) === forwardId(b) && guestOf(a) === guestOf(b) && a.bits === b.bits && target(a) === target(b)
}
