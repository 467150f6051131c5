// A trace as pcapng: one interface for each process that records, names for the addresses, one packet for each message and for
// each record that is none. Blocks as in draft-ietf-opsawg-pcapng.

import { assert } from '@stellwerk/runtime/assert.ts'
import type { Exported } from './export-messages.ts'
import { envelopeOf, processOf } from './export-messages.ts'
import { type Ipv4, packetOf, recordOf } from './export-packet.ts'

const BLOCK = { section: 0x0a0d0d0a, interface: 1, names: 4, packet: 6 } as const
const OPTION = { comment: 1, application: 4, interfaceName: 2 } as const
/** IPv4 and IPv6 packets without a link layer. */
const LINKTYPE_RAW = 101
/** 10.83.HOST.PROCESS */
const NETWORK = [10, 83] as const
const HOSTS_MAX = 250
const PROCESSES_PER_HOST_MAX = 250

export class PcapngWriter {
  readonly #out: (bytes: Uint8Array) => void
  readonly #known: readonly string[]
  readonly #interfaces = new Map<string, number>()
  readonly #addresses = new Map<string, Ipv4>()
  readonly #hosts = new Map<string, number>()

  /** `known`: the processes that have traces. */
  constructor(known: readonly string[], out: (bytes: Uint8Array) => void) {
    this.#known = known
    this.#out = out
    const head = Buffer.alloc(16)
    head.writeUInt32LE(0x1a2b3c4d, 0)
    head.writeUInt16LE(1, 4)
    // The section's length is not known beforehand.
    head.writeBigInt64LE(-1n, 8)
    this.#block(BLOCK.section, [head, option(OPTION.application, 'stellwerk'), endOfOptions()])
  }

  write(exported: Exported): void {
    const record = recordOf(exported)
    const { from, to } = this.#ends(exported)
    const source = this.#address(from)
    const target = this.#address(to)
    const data = packetOf(exported, source, target)
    const head = Buffer.alloc(20)
    head.writeUInt32LE(this.#interface(record.process), 0)
    const us = BigInt(Math.floor(record.hlc.wallMs)) * 1_000n
    head.writeUInt32LE(Number(us >> 32n), 4)
    head.writeUInt32LE(Number(us & 0xffffffffn), 8)
    head.writeUInt32LE(data.length, 12)
    head.writeUInt32LE(data.length, 16)
    const comment = exported.what === 'record' ? from : `${from} → ${to}`
    this.#block(BLOCK.packet, [head, padded(data), option(OPTION.comment, comment), endOfOptions()])
  }

  #ends(exported: Exported): { readonly from: string; readonly to: string } {
    const record = recordOf(exported)
    if (exported.what === 'record') return { from: record.process, to: record.process }
    const { from, to } = envelopeOf(record)
    return {
      from: exported.sent?.process ?? processOf(from, this.#known),
      to: exported.received?.process ?? processOf(to, this.#known),
    }
  }

  #interface(process: string): number {
    const known = this.#interfaces.get(process)
    if (known !== undefined) return known
    const number = this.#interfaces.size
    this.#interfaces.set(process, number)
    const head = Buffer.alloc(8)
    head.writeUInt16LE(LINKTYPE_RAW, 0)
    this.#block(BLOCK.interface, [head, option(OPTION.interfaceName, process), endOfOptions()])
    return number
  }

  #address(process: string): Ipv4 {
    const known = this.#addresses.get(process)
    if (known !== undefined) return known
    const [host = process] = process.split('/')
    const number = this.#hosts.get(host) ?? this.#hosts.size + 1
    this.#hosts.set(host, number)
    const siblings = [...this.#addresses.keys()].filter(each => each.split('/')[0] === host).length + 1
    assert(number <= HOSTS_MAX && siblings <= PROCESSES_PER_HOST_MAX, 'a cluster has so many hosts and no more')
    const address: Ipv4 = [...NETWORK, number, siblings]
    this.#addresses.set(process, address)
    const value = Buffer.concat([Buffer.from(address), Buffer.from(`${process}\0`)])
    const head = Buffer.alloc(4)
    head.writeUInt16LE(1, 0)
    head.writeUInt16LE(value.length, 2)
    this.#block(BLOCK.names, [head, padded(value), Buffer.alloc(4)])
    return address
  }

  #block(type: number, parts: readonly Buffer[]): void {
    const length = 12 + parts.reduce((sum, part) => sum + part.length, 0)
    const head = Buffer.alloc(8)
    head.writeUInt32LE(type, 0)
    head.writeUInt32LE(length, 4)
    const tail = Buffer.alloc(4)
    tail.writeUInt32LE(length, 0)
    this.#out(Buffer.concat([head, ...parts, tail]))
  }
}

function option(code: number, text: string): Buffer {
  const value = Buffer.from(text)
  const head = Buffer.alloc(4)
  head.writeUInt16LE(code, 0)
  head.writeUInt16LE(value.length, 2)
  return Buffer.concat([head, padded(value)])
}

const endOfOptions = (): Buffer => Buffer.alloc(4)

/** To whole words of 32 bits. */
function padded(bytes: Buffer): Buffer {
  const rest = (4 - (bytes.length % 4)) % 4
  return rest === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(rest)])
}
