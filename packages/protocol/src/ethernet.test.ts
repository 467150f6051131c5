import { expect, test } from 'vitest'
import {
  announcement,
  BROADCAST,
  destinationOf,
  ETHERTYPE,
  etherTypeOf,
  formatMac,
  ipAnnouncement,
  isGroup,
  isLinkLocal,
  macAt,
  madeMac,
  parseMac,
  sourceOf,
} from './ethernet.ts'
import { parseIpv4 } from './ipv4.ts'

test('an address is read and written as it is', () => {
  for (const text of ['52:54:00:12:34:56', '02:00:00:00:00:01', 'fe:ff:ff:ff:ff:ff']) {
    expect(formatMac(parseMac(text))).toBe(text)
  }
  expect(formatMac(parseMac('52:54:00:AB:CD:EF'))).toBe('52:54:00:ab:cd:ef')
})

test.each(['52:54:00:12:34', '52-54-00-12-34-56', '00:00:00:00:00:00', 'ff:ff:ff:ff:ff:ff', '01:00:5e:00:00:01', ''])(
  '%s is no address of a port',
  text => {
    expect(() => parseMac(text)).toThrow(expect.objectContaining({ code: 'bad-mac' }))
  },
)

test('groups are many, and what no bridge passes on is known', () => {
  expect([BROADCAST, 0x01005e000001, 0x525400123456].map(isGroup)).toEqual([true, true, false])
  expect([0x0180c2000000, 0x0180c200000e, 0x0180c2000010].map(isLinkLocal)).toEqual([true, true, false])
})

test('made addresses are locally administered, of one port, and differ with the hash', () => {
  expect(madeMac(0)).toBe('52:54:00:00:00:00')
  expect(madeMac(0xffffffff)).toBe('52:54:00:ff:ff:ff')
  expect(isGroup(parseMac(madeMac(0x12345678)))).toBe(false)
})

test('an announcement is a reverse ARP request of the address for itself, to all', () => {
  const mac = parseMac('52:54:00:12:34:56')
  const frame = announcement(mac)
  expect([destinationOf(frame), sourceOf(frame), etherTypeOf(frame)]).toEqual([BROADCAST, mac, ETHERTYPE.rarp])
  expect([macAt(frame, 22), macAt(frame, 32), frame.byteLength]).toEqual([mac, mac, 60])
  // RFC 903: hardware space, protocol space, lengths, opcode.
  expect([...frame.subarray(14, 22)]).toEqual([0, 1, 8, 0, 6, 4, 0, 3])
})

test('an IP address is announced by an ARP request of it for itself, to all', () => {
  const mac = parseMac('52:54:00:12:34:56')
  const frame = ipAnnouncement(mac, parseIpv4('10.0.0.200'))
  expect([destinationOf(frame), sourceOf(frame), etherTypeOf(frame)]).toEqual([BROADCAST, mac, ETHERTYPE.arp])
  // RFC 826: hardware and protocol space, lengths, opcode; the sender's addresses, no target's MAC, the target's IP.
  expect([...frame.subarray(14, 22)]).toEqual([0, 1, 8, 0, 6, 4, 0, 1])
  expect([macAt(frame, 22), macAt(frame, 32), frame.byteLength]).toEqual([mac, 0, 60])
  expect([...frame.subarray(28, 32), ...frame.subarray(38, 42)]).toEqual([10, 0, 0, 200, 10, 0, 0, 200])
})
