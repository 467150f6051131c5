// Journal entries as bytes. Which entry means what: metadata.ts.

import { unreachable } from '@stellwerk/runtime/assert.ts'
import { ByteReader, type ByteWriter, malformed } from './bytes.ts'
import type { Entry, Holder, Pairs } from './metadata.ts'

/** On the volume for ever: a number is never used again for something else. */
export const ENTRY_TYPES: { readonly [type in Entry['type']]: number } = {
  owner: 1,
  'disk-created': 2,
  'disk-deleted': 3,
  'disk-resized': 4,
  attached: 5,
  reserved: 6,
  committed: 7,
  burnt: 8,
  detached: 9,
  mapped: 10,
  unmapped: 11,
  'slot-assigned': 12,
  'host-released': 13,
  'disk-cloned': 20,
  remapped: 21,
  'leaks-freed': 22,
}

const TYPE_OF = new Map(Object.entries(ENTRY_TYPES).map(([type, number]) => [number, type as Entry['type']]))

export function writeEntry(writer: ByteWriter, entry: Entry): void {
  writer.u8(ENTRY_TYPES[entry.type])
  switch (entry.type) {
    case 'owner':
      writer.u64(entry.epoch)
      return
    case 'disk-created':
      writer.text(entry.disk)
      writer.text(entry.name)
      writer.u64(entry.sizeBytes)
      return
    case 'disk-resized':
      writer.text(entry.disk)
      writer.u64(entry.sizeBytes)
      return
    case 'attached':
    case 'reserved':
      writer.text(entry.disk)
      writeHolder(writer, entry.holder)
      return
    case 'burnt':
      writer.text(entry.disk)
      writer.u64(entry.epoch)
      return
    case 'disk-deleted':
    case 'committed':
    case 'detached':
      writer.text(entry.disk)
      return
    case 'mapped':
    case 'unmapped':
      writer.text(entry.disk)
      writer.u64(entry.version)
      writePairs(writer, entry.pairs)
      return
    case 'slot-assigned':
      writer.u32(entry.slot)
      writer.text(entry.host)
      return
    case 'host-released':
      writer.text(entry.host)
      writer.u64(entry.hostEpoch)
      return
    case 'disk-cloned':
      writer.text(entry.disk)
      writer.text(entry.name)
      writer.text(entry.source)
      writer.u8(entry.snapshot ? 1 : 0)
      return
    case 'remapped':
      writer.text(entry.disk)
      writer.u64(entry.version)
      writeNumbers(writer, entry.triples, 3)
      return
    case 'leaks-freed':
      writeNumbers(writer, entry.extents, 1)
      return
    default:
      unreachable(entry)
  }
}

export function readEntries(payload: Uint8Array, count: number): Entry[] {
  const reader = new ByteReader(payload)
  const entries: Entry[] = []
  for (let i = 0; i < count; i += 1) entries.push(readEntry(reader))
  if (reader.remaining > 0) throw malformed('a journal record is longer than its entries')
  return entries
}

function readEntry(reader: ByteReader): Entry {
  const number = reader.u8()
  const type = TYPE_OF.get(number)
  if (type === undefined) throw malformed(`journal entry type ${number}`)
  switch (type) {
    case 'owner':
      return { type, epoch: reader.u64() }
    case 'disk-created':
      return { type, disk: reader.text(), name: reader.text(), sizeBytes: reader.u64() }
    case 'disk-resized':
      return { type, disk: reader.text(), sizeBytes: reader.u64() }
    case 'attached':
    case 'reserved':
      return { type, disk: reader.text(), holder: readHolder(reader) }
    case 'burnt':
      return { type, disk: reader.text(), epoch: reader.u64() }
    case 'disk-deleted':
    case 'committed':
    case 'detached':
      return { type, disk: reader.text() }
    case 'mapped':
    case 'unmapped':
      return { type, disk: reader.text(), version: reader.u64(), pairs: readPairs(reader) }
    case 'slot-assigned':
      return { type, slot: reader.u32(), host: reader.text() }
    case 'host-released':
      return { type, host: reader.text(), hostEpoch: reader.u64() }
    case 'disk-cloned':
      return { type, disk: reader.text(), name: reader.text(), source: reader.text(), snapshot: reader.u8() === 1 }
    case 'remapped':
      return { type, disk: reader.text(), version: reader.u64(), triples: readNumbers(reader, 3) }
    case 'leaks-freed':
      return { type, extents: readNumbers(reader, 1) }
    default:
      return unreachable(type)
  }
}

export function writeHolder(writer: ByteWriter, holder: Holder): void {
  writer.text(holder.vm)
  writer.text(holder.host)
  writer.u64(holder.hostEpoch)
  writer.u64(holder.epoch)
}

export function readHolder(reader: ByteReader): Holder {
  return { vm: reader.text(), host: reader.text(), hostEpoch: reader.u64(), epoch: reader.u64() }
}

export function writePairs(writer: ByteWriter, pairs: Pairs): void {
  writeNumbers(writer, pairs, 2)
}

export function readPairs(reader: ByteReader): number[] {
  return readNumbers(reader, 2)
}

/** Groups of so many numbers; what is counted are the groups. */
function writeNumbers(writer: ByteWriter, numbers: readonly number[], group: number): void {
  writer.u32(numbers.length / group)
  for (const value of numbers) writer.u32(value)
}

function readNumbers(reader: ByteReader, group: number): number[] {
  const count = reader.u32()
  if (count * group * 4 > reader.remaining) throw malformed('more mappings than bytes')
  const numbers = new Array<number>(count * group)
  for (let i = 0; i < numbers.length; i += 1) numbers[i] = reader.u32()
  return numbers
}
