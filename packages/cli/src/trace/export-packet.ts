// A record or message as a packet that tools/wireshark/stellwerk.lua takes apart: IPv4 and UDP with an address for each process,
// and in it a head of 32 bytes and fields. Nothing of this was ever on a wire; it tells what is on record.
//
//   head     0 "SWTR"  4 u8 version (1)  5 u8 what (0 record, 1 message)  6 u8 level (0 decision, 1 message, 2 io)
//            7 u8 flags (1: never received, 2: nobody's sent record, 4: received again)  8 u32 seq  12 f64 at  20 f64 wall ms  28 u32 HLC counter
//   field    u8 type · u8 zero · u16 length · UTF-8, or for numbers f64                              (all big endian)

import { LEVELS } from '@stellwerk/protocol/trace/segment-format.ts'
import type { Json, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { type Exported, envelopeOf } from './export-messages.ts'

export const TRACE_PORT = 8383
const VERSION = 1
const HEAD_BYTES = 32
const IP_UDP_BYTES = 28
/** An IPv4 packet has 65,535 bytes at most; ids and the rest need little of them. */
const BODY_BYTES_MAX = 60_000
const TEXT_BYTES_MAX = 1_024

export const FIELD = {
  ...{ kind: 1, process: 2, host: 3, vm: 4, volume: 5, disk: 6, migration: 7, causeProcess: 8, causeSeq: 9 },
  ...{
    from: 10,
    to: 11,
    messageSeq: 12,
    re: 13,
    code: 14,
    bytes: 15,
    latencyMs: 16,
    body: 17,
    bodyBytes: 18,
    order: 19,
  },
} as const

export type Ipv4 = readonly [number, number, number, number]

export function packetOf(exported: Exported, from: Ipv4, to: Ipv4): Buffer {
  return inUdp(payloadOf(exported), from, to)
}

/** Who recorded it; of a message who sent it, if that is on record. */
export function recordOf(exported: Exported): TraceRecord {
  return exported.what === 'record' ? exported.record : (exported.sent ?? exported.received)!
}

function payloadOf(exported: Exported): Buffer {
  const record = recordOf(exported)
  const isMessage = exported.what === 'message'
  const fields = new Fields()
  fields.text(FIELD.kind, isMessage ? envelopeOf(record).kind : record.kind)
  fields.text(FIELD.process, record.process)
  for (const id of ['host', 'vm', 'volume', 'disk', 'migration'] as const) fields.text(FIELD[id], record[id])
  fields.text(FIELD.causeProcess, record.cause?.process)
  fields.number(FIELD.causeSeq, record.cause?.seq)
  fields.number(FIELD.order, record.order)
  let flags = 0
  if (exported.what === 'message') {
    const { sent, received, isRepeat } = exported
    const envelope = { ...envelopeOf(record), ...(received === null ? {} : envelopeOf(received)) }
    fields.text(FIELD.from, envelope.from)
    fields.text(FIELD.to, envelope.to)
    fields.number(FIELD.messageSeq, envelope.seq)
    fields.number(FIELD.re, envelope.re)
    fields.text(FIELD.code, envelope.code)
    fields.number(FIELD.bytes, envelope.bytes)
    if (sent !== null && received !== null) fields.number(FIELD.latencyMs, latencyOf(sent, received))
    flags = (received === null ? 1 : 0) | (isRepeat ? 4 : sent === null ? 2 : 0)
    fields.body(exported.body)
  } else fields.body(record.body)
  const head = Buffer.alloc(HEAD_BYTES)
  head.write('SWTR', 'latin1')
  head[4] = VERSION
  head[5] = isMessage ? 1 : 0
  head[6] = LEVELS.indexOf(record.level)
  head[7] = flags
  head.writeUInt32BE(record.seq >>> 0, 8)
  head.writeDoubleBE(record.at, 12)
  head.writeDoubleBE(record.hlc.wallMs, 20)
  head.writeUInt32BE(record.hlc.counter >>> 0, 28)
  return Buffer.concat([head, ...fields.parts])
}

/** A simulated run has true time; else the hosts' clocks are all there is. */
function latencyOf(sent: TraceRecord, received: TraceRecord): number {
  return sent.order === undefined ? received.hlc.wallMs - sent.hlc.wallMs : received.at - sent.at
}

class Fields {
  readonly parts: Buffer[] = []

  text(type: number, value: string | undefined, bytesMax = TEXT_BYTES_MAX): void {
    if (value === undefined) return
    const bytes = Buffer.from(value).subarray(0, bytesMax)
    const head = Buffer.alloc(4)
    head[0] = type
    head.writeUInt16BE(bytes.length, 2)
    this.parts.push(head, bytes)
  }

  number(type: number, value: number | undefined): void {
    if (value === undefined) return
    const field = Buffer.alloc(12)
    field[0] = type
    field.writeUInt16BE(8, 2)
    field.writeDoubleBE(value, 4)
    this.parts.push(field)
  }

  /** What is too long for a packet is cut, and said to be. */
  body(value: Json | undefined): void {
    if (value === undefined) return
    const text = JSON.stringify(value)
    const bytes = Buffer.byteLength(text)
    if (bytes > BODY_BYTES_MAX) this.number(FIELD.bodyBytes, bytes)
    this.text(FIELD.body, text, BODY_BYTES_MAX)
  }
}

function inUdp(payload: Buffer, from: Ipv4, to: Ipv4): Buffer {
  const packet = Buffer.alloc(IP_UDP_BYTES + payload.length)
  packet[0] = 0x45
  packet.writeUInt16BE(packet.length, 2)
  packet[8] = 64
  packet[9] = 17
  packet.set(from, 12)
  packet.set(to, 16)
  let sum = 0
  for (let at = 0; at < 20; at += 2) sum += packet.readUInt16BE(at)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  packet.writeUInt16BE(~sum & 0xffff, 10)
  packet.writeUInt16BE(TRACE_PORT, 20)
  packet.writeUInt16BE(TRACE_PORT, 22)
  packet.writeUInt16BE(8 + payload.length, 24)
  packet.set(payload, IP_UDP_BYTES)
  return packet
}
