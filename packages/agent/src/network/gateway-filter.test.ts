// What a gateway lets into a network: its own address, and TCP from it.

import { parseIpv4 } from '@stellwerk/protocol/ipv4.ts'
import { expect, it } from 'vitest'
import { mayEnter } from './gateway-filter.ts'
import { arp, frame, ipv4 } from './testing/frames.ts'

const OWN = parseIpv4('10.0.0.254')
const OTHER = parseIpv4('10.0.0.3')
const [MAC, GUEST] = [0x525500000001, 0x525400000001]
const packet = (source: number, protocol: number): Uint8Array => {
  const bytes = ipv4(GUEST, MAC, source)
  bytes[14 + 9] = protocol
  return bytes
}

it.each([
  ['ARP of its own', arp(MAC, MAC, OWN), true],
  ['ARP of the name server that it would be', arp(MAC, MAC, OTHER), false],
  ['TCP', packet(OWN, 6), true],
  ['TCP of another', packet(OTHER, 6), false],
  ['UDP, as DHCP is', packet(OWN, 17), false],
  ['ICMP', packet(OWN, 1), false],
  ['something else', frame(GUEST, MAC), false],
  ['IPv6', frame(GUEST, MAC, 0x86dd), false],
  ['a torn ARP', arp(MAC, MAC, OWN).subarray(0, 30), false],
  ['a torn packet', packet(OWN, 6).subarray(0, 20), false],
])('%s', (_what, bytes, may) => {
  expect(mayEnter(bytes, OWN)).toBe(may)
})
