// What of a user-mode network stack (slirp, in QEMU) may enter a network of the guests: its own address in ARP, and TCP. It also
// answers DHCP, and ARP for a name server that it would be; in a network that is the guests' nobody has asked for those.

import { ETHERTYPE, etherTypeOf } from '@stellwerk/protocol/ethernet.ts'

const HEADER_BYTES = 14
const ARP_BYTES = HEADER_BYTES + 28
const ARP_SENDER = HEADER_BYTES + 14
const IPV4_BYTES = HEADER_BYTES + 20
const IPV4_PROTOCOL = HEADER_BYTES + 9
const IPV4_SOURCE = HEADER_BYTES + 12
const TCP = 6

/** `gateway`: its address. */
export function mayEnter(frame: Uint8Array, gateway: number): boolean {
  switch (etherTypeOf(frame)) {
    case ETHERTYPE.arp:
      return frame.length >= ARP_BYTES && addressAt(frame, ARP_SENDER) === gateway
    case ETHERTYPE.ipv4:
      return frame.length >= IPV4_BYTES && frame[IPV4_PROTOCOL] === TCP && addressAt(frame, IPV4_SOURCE) === gateway
    default:
      return false
  }
}

function addressAt(frame: Uint8Array, at: number): number {
  return ((frame[at]! << 24) | (frame[at + 1]! << 16) | (frame[at + 2]! << 8) | frame[at + 3]!) >>> 0
}
