import { BROADCAST, ETHERTYPE } from '@stellwerk/protocol/ethernet.ts'
import { parseIpv4 } from '@stellwerk/protocol/ipv4.ts'
import { describe, expect, it } from 'vitest'
import { whyRefused } from './spoof-guard.ts'
import { arp, frame, ipv4 } from './testing/frames.ts'

const OWN = 0x525400000001
const OTHER = 0x525400000002
const IP = parseIpv4('10.0.0.7')
const FOREIGN = parseIpv4('10.0.0.8')

describe('a port bound to its MAC', () => {
  it('lets frames and ARP of its own pass, whatever the IP address', () => {
    for (const own of [
      frame(OTHER, OWN),
      ipv4(OTHER, OWN, FOREIGN),
      arp(OWN, OWN, FOREIGN),
      frame(BROADCAST, OWN, 0x86dd),
    ]) {
      expect(whyRefused(own, OWN, null)).toBe(null)
    }
  })

  it('refuses another’s MAC, in the header and in ARP', () => {
    expect(whyRefused(frame(BROADCAST, OTHER), OWN, null)).toMatch(/from a MAC/)
    expect(whyRefused(arp(OWN, OTHER, IP), OWN, null)).toMatch(/ARP of a MAC/)
    expect(whyRefused(arp(OWN, OTHER, IP, ETHERTYPE.rarp), OWN, null)).toMatch(/ARP of a MAC/)
    expect(whyRefused(frame(BROADCAST, OWN, ETHERTYPE.arp, new Uint8Array(8)), OWN, null)).toMatch(/ARP of a MAC/)
  })
})

describe('a port bound to IPv4 addresses', () => {
  it('lets these pass, the unknown one, and that it is announced', () => {
    for (const own of [ipv4(OTHER, OWN, IP), ipv4(BROADCAST, OWN, 0), arp(OWN, OWN, IP), arp(OWN, OWN, 0)]) {
      expect(whyRefused(own, OWN, [IP])).toBe(null)
    }
    expect(whyRefused(arp(OWN, OWN, FOREIGN, ETHERTYPE.rarp), OWN, [IP])).toBe(null)
  })

  it('refuses foreign ones, what is cut short, and other protocols', () => {
    expect(whyRefused(ipv4(OTHER, OWN, FOREIGN), OWN, [IP])).toMatch(/foreign IP/)
    expect(whyRefused(arp(OWN, OWN, FOREIGN), OWN, [IP])).toMatch(/foreign IP/)
    expect(whyRefused(ipv4(OTHER, OWN, IP).subarray(0, 30), OWN, [IP])).toMatch(/foreign IP/)
    expect(whyRefused(frame(OTHER, OWN, 0x86dd), OWN, [IP])).toMatch(/neither ARP nor IPv4/)
    // Tagged: what is behind the tag is not looked at.
    expect(whyRefused(frame(OTHER, OWN, 0x8100), OWN, [IP])).toMatch(/neither ARP nor IPv4/)
  })
})
