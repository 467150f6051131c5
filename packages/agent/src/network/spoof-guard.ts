// What a guest may send by its port: frames from its own address only and, if the port names IPv4 addresses, packets and ARP
// of these alone. Without it a guest could take another's traffic by saying that it is the other.

import { ETHERTYPE, etherTypeOf, macAt, sourceOf } from '@stellwerk/protocol/ethernet.ts'

const IPV4_SOURCE = 14 + 12
const IPV4_BYTES = 14 + 20
const ARP_SENDER_MAC = 14 + 8
const ARP_SENDER_IP = 14 + 14
const ARP_BYTES = 14 + 28

/** Why a frame must not pass, or null. `addresses`: IPv4, as numbers; null: any. A frame has at least its header. */
export function whyRefused(frame: Uint8Array, mac: number, addresses: readonly number[] | null): string | null {
  if (sourceOf(frame) !== mac) return 'it is from a MAC that is not the port’s'
  const type = etherTypeOf(frame)
  if (type === ETHERTYPE.arp || type === ETHERTYPE.rarp) {
    if (frame.byteLength < ARP_BYTES || macAt(frame, ARP_SENDER_MAC) !== mac) {
      return 'it is ARP of a MAC that is not the port’s'
    }
    // An address that is not known yet is asked for, and looked whether it is free, with none of one's own.
    return type === ETHERTYPE.rarp || isOf(frame, ARP_SENDER_IP, addresses) ? null : 'it is ARP of a foreign IP address'
  }
  if (addresses === null) return null
  if (type !== ETHERTYPE.ipv4) return 'it is neither ARP nor IPv4, and the port is bound to IPv4 addresses'
  if (frame.byteLength < IPV4_BYTES || !isOf(frame, IPV4_SOURCE, addresses)) return 'it is from a foreign IP address'
  return null
}

function isOf(frame: Uint8Array, at: number, addresses: readonly number[] | null): boolean {
  if (addresses === null) return true
  const address = ipv4At(frame, at)
  return address === 0 || addresses.includes(address)
}

function ipv4At(frame: Uint8Array, at: number): number {
  return ((frame[at]! << 24) | (frame[at + 1]! << 16) | (frame[at + 2]! << 8) | frame[at + 3]!) >>> 0
}
