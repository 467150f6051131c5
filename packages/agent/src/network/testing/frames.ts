// Frames as guests send them. For tests only.

import { ETHERTYPE, FRAME_MIN_BYTES, writeMac } from '@stellwerk/protocol/ethernet.ts'

export function frame(
  destination: number,
  source: number,
  etherType = 0x88b5,
  payload: Uint8Array = new Uint8Array(46),
): Uint8Array {
  const bytes = new Uint8Array(FRAME_MIN_BYTES + payload.byteLength)
  writeMac(bytes, 0, destination)
  writeMac(bytes, 6, source)
  bytes.set([etherType >>> 8, etherType & 255], 12)
  bytes.set(payload, FRAME_MIN_BYTES)
  return bytes
}

export function arp(
  source: number,
  senderMac: number,
  senderIp: number,
  etherType: number = ETHERTYPE.arp,
): Uint8Array {
  const payload = new Uint8Array(46)
  payload.set([0, 1, 8, 0, 6, 4, 0, 1])
  writeMac(payload, 8, senderMac)
  new DataView(payload.buffer).setUint32(14, senderIp)
  return frame(0xffffffffffff, source, etherType, payload)
}

export function ipv4(destination: number, source: number, sourceIp: number): Uint8Array {
  const payload = new Uint8Array(46)
  payload[0] = 0x45
  new DataView(payload.buffer).setUint32(12, sourceIp)
  return frame(destination, source, ETHERTYPE.ipv4, payload)
}
