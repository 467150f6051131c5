// Ethernet addresses and frames, as virtual switches see them (IEEE 802.3): 6 bytes destination, 6 bytes source, then a type.
// An address is a number of 48 bits, so that it can be a map's key without being formatted.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'

/** `52:54:00:12:34:56`, in lower case. */
export const MAC_PATTERN = '^[0-9a-f]{2}(:[0-9a-f]{2}){5}$'
/** What is kept for QEMU's guests by custom: locally administered. */
const MAC_PREFIX = 0x525400
export const BROADCAST = 0xffffffffffff
/** Header only: what QEMU's guests send is not padded to the 60 bytes of a wire. */
export const FRAME_MIN_BYTES = 14
/** The largest IP packet, with a header and a VLAN tag. */
export const FRAME_MAX_BYTES = 65_535 + 18

export const ETHERTYPE = { ipv4: 0x0800, arp: 0x0806, rarp: 0x8035 } as const

/** Throws `bad-mac`. Group addresses (of many) are no address of a port. */
export function parseMac(text: string): number {
  const lower = text.toLowerCase()
  const mac = new RegExp(MAC_PATTERN).test(lower) ? Number.parseInt(lower.replaceAll(':', ''), 16) : null
  if (mac !== null && mac !== 0 && !isGroup(mac)) return mac
  throw new StellwerkError('bad-mac', `"${text}" is no MAC address of a port`, {
    hint: 'say six bytes, the first of them even: 52:54:00:12:34:56',
  })
}

export function formatMac(mac: number): string {
  return (mac.toString(16).padStart(12, '0').match(/../g) ?? []).join(':')
}

/** One of 2²⁴, from a hash of 32 bits. */
export function madeMac(hash: number): string {
  return formatMac(MAC_PREFIX * 2 ** 24 + (hash >>> 8))
}

/** Broadcast or multicast: the lowest bit of the first byte. */
export function isGroup(mac: number): boolean {
  return Math.floor(mac / 2 ** 40) % 2 === 1
}

/** Of protocols between neighbours (spanning tree, LLDP, pause), which no bridge passes on: 01:80:c2:00:00:00 to :0f. */
export function isLinkLocal(mac: number): boolean {
  return Math.floor(mac / 16) === 0x0180c2000000 / 16
}

export function destinationOf(frame: Uint8Array): number {
  return macAt(frame, 0)
}

export function sourceOf(frame: Uint8Array): number {
  return macAt(frame, 6)
}

export function macAt(frame: Uint8Array, at: number): number {
  const high = (frame[at]! << 16) | (frame[at + 1]! << 8) | frame[at + 2]!
  const low = (frame[at + 3]! << 16) | (frame[at + 4]! << 8) | frame[at + 5]!
  return high * 2 ** 24 + low
}

export function etherTypeOf(frame: Uint8Array): number {
  return (frame[12]! << 8) | frame[13]!
}

export function writeMac(into: Uint8Array, at: number, mac: number): void {
  for (let i = 5, rest = mac; i >= 0; i -= 1, rest = Math.floor(rest / 256)) into[at + i] = rest % 256
}

/**
 * A reverse ARP request for itself (RFC 903), broadcast: whoever hears it learns where the address is now, and nobody answers.
 * It needs no IP address, which a switch does not know; hypervisors announce a migrated machine so.
 */
export function announcement(mac: number): Uint8Array {
  const frame = new Uint8Array(60)
  writeMac(frame, 0, BROADCAST)
  writeMac(frame, 6, mac)
  // Type RARP; hardware Ethernet, protocol IPv4, their lengths, operation 3: request reverse.
  frame.set([0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3], 12)
  writeMac(frame, 22, mac)
  writeMac(frame, 32, mac)
  return frame
}

/**
 * A gratuitous ARP request (RFC 5227, 3): whoever knows this IP address by another MAC learns that it is here now, and nobody answers
 * but one who thinks that it is his.
 */
export function ipAnnouncement(mac: number, address: number): Uint8Array {
  const frame = new Uint8Array(60)
  writeMac(frame, 0, BROADCAST)
  writeMac(frame, 6, mac)
  // Type ARP; hardware Ethernet, protocol IPv4, their lengths, operation 1: request.
  frame.set([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1], 12)
  writeMac(frame, 22, mac)
  for (const at of [28, 38]) new DataView(frame.buffer).setUint32(at, address)
  return frame
}
