// Network cards of VMs: each has a MAC that no other has, and stays in the network it was defined in. Pure.

import { madeMac, parseMac } from '@stellwerk/protocol/ethernet.ts'
import { fnv1a } from '@stellwerk/protocol/fnv1a.ts'
import { parseIpv4 } from '@stellwerk/protocol/ipv4.ts'
import { MAX_NICS, type Nic } from '@stellwerk/protocol/messages/cluster.ts'
import { NAME_PATTERN } from '@stellwerk/protocol/messages/fields.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { CoordinatorState } from './state.ts'

/** As an operator asks for it. */
export interface AskedNic {
  readonly network: string
  /** Null: one is made. */
  readonly mac: string | null
  readonly addresses: readonly string[]
}

export type NicRefusal = { readonly code: string; readonly message: string; readonly hint: string }

/** The cards of a VM to be defined, or what is wrong with them. */
export function nicsFor(state: CoordinatorState, vm: string, asked: readonly AskedNic[]): Nic[] | NicRefusal {
  const refusal = (code: string, message: string, hint: string): NicRefusal => ({ code, message, hint })
  if (asked.length > MAX_NICS) {
    return refusal('bad-machine', `VM "${vm}" has ${asked.length} network cards`, `give it at most ${MAX_NICS}`)
  }
  const taken = new Map<string, string>()
  for (const other of state.vms.values()) for (const nic of other.spec.nics ?? []) taken.set(nic.mac, other.name)
  const nics: Nic[] = []
  for (const { network, mac, addresses } of asked) {
    if (!new RegExp(NAME_PATTERN).test(network)) {
      return refusal(
        'bad-name',
        `"${network}" is no name for a network`,
        'use letters, digits, ".", "_" and "-", at most 63',
      )
    }
    const malformed = firstError([
      ...addresses.map(address => () => parseIpv4(address)),
      () => mac !== null && parseMac(mac),
    ])
    if (malformed !== null) return refusal(malformed.code, malformed.message, malformed.hint ?? 'say it otherwise')
    const own = mac?.toLowerCase() ?? freeMac(`${vm}/${nics.length}`, taken)
    const holder = taken.get(own)
    if (holder !== undefined) {
      return refusal('mac-in-use', `the MAC ${own} is that of VM "${holder}"`, 'choose another, or let one be made')
    }
    taken.set(own, vm)
    nics.push({ network, mac: own, addresses: [...addresses] })
  }
  return nics
}

function firstError(checks: readonly (() => unknown)[]): StellwerkError | null {
  for (const check of checks) {
    try {
      check()
    } catch (error) {
      if (!(error instanceof StellwerkError)) throw error
      return error
    }
  }
  return null
}

/** The same VM gets the same address again where that is free: what is bound to it elsewhere stays right. */
function freeMac(subject: string, taken: ReadonlyMap<string, string>): string {
  for (let attempt = 0; ; attempt += 1) {
    const mac = madeMac(fnv1a(`${subject}/${attempt}`))
    if (!taken.has(mac)) return mac
  }
}
