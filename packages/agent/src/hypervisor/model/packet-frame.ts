// What a model guest sends over its network card.

import { BROADCAST, FRAME_MIN_BYTES, parseMac, writeMac } from '@stellwerk/protocol/ethernet.ts'

/** Broadcast, of the type that is free for experiments (IEEE 802, local experimental 1). */
export function packetFrame(mac: string | null, payload: Uint8Array): Uint8Array {
  const header = new Uint8Array(FRAME_MIN_BYTES)
  writeMac(header, 0, BROADCAST)
  writeMac(header, 6, mac === null ? 0 : parseMac(mac))
  header.set([0x88, 0xb5], 12)
  return Buffer.concat([header, payload])
}
