// Trace files: what is written is read, what is broken is named, and a slow or failing disk never holds the process up.
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import type { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { SimRandom } from '@stellwerk/runtime/sim/random.ts'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { MemoryFiles } from '../testing/memory-files.ts'
import { TestWorld } from '../testing/test-environment.ts'
import { RETRY_MS, type TraceFileOptions, TraceFileWriter } from './file-writer.ts'
import { compileFilter, type TraceFilter } from './filter.ts'
import { formatDate, formatLine } from './format-line.ts'
import {
  compareRecords,
  mergeTraces,
  readTrace,
  readTraceBatches,
  type TraceReadOptions,
  traceSegments,
} from './reader.ts'

const record = (seq: number, more: Partial<TraceRecord> = {}): TraceRecord => ({
  hlc: { wallMs: 1_700_000_000_000 + seq, counter: seq % 3 },
  at: seq / 2,
  process: 'host-a/agent',
  seq,
  level: 'message',
  kind: 'message.sent',
  ...more,
})

function setUp(options: Partial<TraceFileOptions> = {}, files = new MemoryFiles()) {
  const world = new TestWorld()
  const { environment, logs } = world.environment('host-a/agent')
  const writer = new TraceFileWriter({ process: 'host-a/agent', ...options })
  const ground = { files, timers: environment.timers, log: environment.log }
  writer.attach(ground)
  const read = (readOptions?: TraceReadOptions) => Array.fromAsync(readTrace(files, 'trace', readOptions))
  return { world, logs, files, writer, ground, read }
}

const name = fc.option(fc.string({ minLength: 1, maxLength: 12, unit: 'binary' }), { nil: undefined })
const anyRecord = fc
  .record({
    hlc: fc.record({ wallMs: fc.maxSafeNat(), counter: fc.nat(2 ** 32 - 1) }),
    at: fc.double({ min: 0, max: 1e12, noNaN: true }).map(at => at + 0),
    process: fc.constantFrom('host-a/agent', 'other'),
    seq: fc.maxSafeNat(),
    level: fc.constantFrom('decision' as const, 'message' as const, 'io' as const),
    kind: fc.constantFrom('vm.run', 'vm.halt', 'lease.granted', 'plain'),
    cause: fc.option(fc.record({ process: fc.string(), seq: fc.maxSafeNat() }), { nil: undefined }),
    host: name,
    vm: name,
    volume: name,
    disk: name,
    migration: name,
    body: fc.option(fc.jsonValue({ maxDepth: 3 }), { nil: undefined }),
  })
  // Keys called __proto__ come back renamed, so that no decoded object has a foreign prototype.
  .map(all => JSON.parse(JSON.stringify(all).replaceAll('__proto__', 'proto')) as TraceRecord)

test('every record comes back as it was', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(anyRecord, { maxLength: 30 }), async records => {
      const { writer, read } = setUp({ segmentBytes: 2000, keepBytes: 1 << 20 })
      for (const one of records) writer.write(one)
      await writer.close()
      expect(await read()).toEqual(records)
    }),
    { numRuns: 100 },
  )
})

test('a filter gives exactly what a look at each record would', async () => {
  const pick = <T>(...values: T[]) => fc.option(fc.constantFrom(...values), { nil: undefined })
  const filters = fc.record({
    levels: pick<TraceRecord['level'][]>(['io'], ['decision', 'message'], []),
    kinds: pick(['vm.run'], ['vm.*'], ['vm.halt', 'lease.*'], ['plain']),
    vm: pick('a', 'b'),
    host: pick('a'),
    fromMs: pick(50),
    toMs: pick(80),
  })
  const records = fc.array(
    fc.tuple(anyRecord, pick('a', 'b', 'c'), pick('a', 'b'), fc.nat(120)).map(([one, vm, host, wallMs]) => {
      const { vm: _vm, host: _host, ...rest } = one
      return { ...rest, hlc: { wallMs, counter: 0 }, ...(vm && { vm }), ...(host && { host }) } as TraceRecord
    }),
    { maxLength: 40 },
  )
  await fc.assert(
    fc.asyncProperty(records, filters, async (all, drawn) => {
      const { writer, read } = setUp()
      for (const one of all) writer.write(one)
      await writer.close()
      const filter = JSON.parse(JSON.stringify(drawn)) as TraceFilter
      const kindFits = (kind: string): boolean =>
        filter.kinds === undefined ||
        filter.kinds.some(k =>
          k.endsWith('.*') ? kind === k.slice(0, -2) || kind.startsWith(k.slice(0, -1)) : k === kind,
        )
      const expected = all.filter(
        one =>
          (filter.levels === undefined || filter.levels.includes(one.level)) &&
          kindFits(one.kind) &&
          (filter.vm === undefined || one.vm === filter.vm) &&
          (filter.host === undefined || one.host === filter.host) &&
          one.hlc.wallMs >= (filter.fromMs ?? 0) &&
          one.hlc.wallMs < (filter.toMs ?? 1e9),
      )
      expect(await read({ filter })).toEqual(expected)
    }),
    { numRuns: 200 },
  )
})

test('a filter that can’t be is refused', () => {
  for (const kind of ['*', 'vm*', '*.run', 'vm.r*']) {
    expect(() => compileFilter({ kinds: [kind] })).toThrow(expect.objectContaining({ code: 'bad-filter' }))
  }
})

test('segments are rotated, the oldest removed, and each begins with the cores’ snapshots', async () => {
  const { files, writer, ground, read } = setUp({ segmentBytes: 5000, keepBytes: 16_000, onSegment: () => snapshot() })
  let seq = 0
  const snapshot = (): void => writer.write(record(++seq, { kind: 'core.snapshot', body: { state: 'x'.repeat(400) } }))
  for (let i = 0; i < 300; i++) {
    writer.write(record(++seq))
    await writer.flush()
  }
  await writer.close()
  const segments = await traceSegments(files, 'trace')
  expect(segments).toHaveLength(3)
  expect(Number(segments[0]!.slice(6, 14))).toBeGreaterThan(3)
  for (const segment of segments) expect(files.contents.get(segment)!.byteLength).toBeLessThan(5200)
  const records = await read()
  expect(records.at(-1)!.seq).toBe(seq)
  expect(records.map(one => one.seq)).toEqual(records.map((_, i) => records[0]!.seq + i))
  expect(records[0]).toMatchObject({ kind: 'core.snapshot' })
  expect(files.opened).toBe(0)
  // A restarted process goes on after its predecessor.
  const next = new TraceFileWriter({ process: 'host-a/agent' })
  next.attach(ground)
  next.write(record(1))
  await next.close()
  expect((await traceSegments(files, 'trace')).at(-1)! > segments.at(-1)!).toBe(true)
})

test('a process that is started again and again keeps its trace, as long as there is room for it', async () => {
  const { files, ground, read } = setUp()
  const start = async (number: number): Promise<void> => {
    const writer = new TraceFileWriter({ process: 'host-a/agent', segmentBytes: 5000, keepBytes: 16_000 })
    writer.attach(ground)
    for (let i = 1; i <= 3; i++) writer.write(record(i, { at: number }))
    await writer.close()
  }
  for (let number = 1; number <= 30; number++) await start(number)
  expect(await traceSegments(files, 'trace')).toHaveLength(30)
  expect((await read()).map(({ at }) => at)).toEqual(Array.from({ length: 90 }, (_, i) => 1 + Math.floor(i / 3)))
  for (let number = 31; number <= 400; number++) await start(number)
  const kept = await read()
  expect(kept.at(-1)?.at).toBe(400)
  expect(kept[0]?.at).toBeGreaterThan(200)
  expect([...files.contents.values()].reduce((sum, { byteLength }) => sum + byteLength, 0)).toBeLessThan(16_000)
})

test('a snapshot larger than a segment does not open segments for ever', async () => {
  const { writer, read } = setUp({
    segmentBytes: 1000,
    onSegment: () => writer.write(record(99, { body: 'x'.repeat(3000) })),
  })
  for (let i = 1; i <= 3; i++) {
    writer.write(record(i))
    await writer.flush()
  }
  await writer.close()
  expect((await read()).map(one => one.seq)).toEqual([1, 99, 2, 99, 3, 99])
})

test('a disk that is too slow costs records, not memory and not time; the gap is written down', async () => {
  const files = new MemoryFiles()
  const { writer, read } = setUp({ bufferBytes: 20_000 }, files)
  let open: () => void = () => undefined
  const gate = new Promise<void>(resolve => {
    open = resolve
  })
  files.beforeWrite = () => gate
  for (let i = 1; i <= 2000; i++) writer.write(record(i))
  expect(writer.bufferedBytes).toBeLessThan(21_000)
  const { dropped } = writer
  expect(dropped).toBeGreaterThan(1000)
  open()
  await writer.flush()
  writer.write(record(2001))
  await writer.close()
  const records = await read()
  expect(records.at(-2)).toMatchObject({ kind: 'trace.dropped', level: 'decision', body: { count: dropped } })
  expect(records.at(-1)!.seq).toBe(2001)
  expect(records).toHaveLength(2000 - dropped + 2)
})

test('a failing disk is reported once, tried again later, and costs the records in between', async () => {
  const files = new MemoryFiles()
  const { world, writer, logs, read } = setUp({}, files)
  writer.write(record(1))
  await writer.flush()
  files.beforeWrite = () => Promise.reject(Object.assign(new Error('no space left'), { code: 'ENOSPC' }))
  for (let i = 2; i <= 11; i++) {
    writer.write(record(i))
    await world.settle()
    await writer.flush()
  }
  expect(logs).toHaveLength(1)
  expect(logs[0]).toMatchObject({ level: 'warn', fields: { code: 'ENOSPC' } })
  expect([writer.dropped, writer.bufferedBytes, files.opened]).toEqual([10, 0, 0])
  files.beforeWrite = () => Promise.resolve()
  writer.write(record(12))
  await world.advance(RETRY_MS)
  writer.write(record(13))
  await writer.close()
  expect((await read()).map(one => [one.seq, one.kind])).toEqual([
    [1, 'message.sent'],
    [0, 'trace.dropped'],
    [13, 'message.sent'],
  ])
})

test('records written before the writer has its files are kept', async () => {
  const writer = new TraceFileWriter({ process: 'p' })
  writer.write(record(1))
  const { ground, read } = setUp()
  writer.attach(ground)
  await writer.close()
  expect(await read()).toEqual([record(1)])
})

test('a record longer than a read is read, one longer than a record may be loses its body only', async () => {
  const { writer, read } = setUp()
  const long = record(2, { body: 'x'.repeat(3_000_000) })
  for (const one of [record(1), long, record(3), record(4, { body: 'x'.repeat(5_000_000) }), record(5)])
    writer.write(one)
  await writer.close()
  const records = await read()
  expect(records.slice(0, 3)).toEqual([record(1), long, record(3)])
  expect(records[3]).toMatchObject({ seq: 4, body: { omitted: expect.any(String) } })
  expect(records[4]).toEqual(record(5))
})

test('a record waits for the disk no longer than flushMs', async () => {
  const { world, writer, read } = setUp({ flushMs: 50 })
  writer.write(record(1))
  await world.advance(49)
  expect(await read()).toEqual([])
  await world.advance(2)
  expect(await read()).toEqual([record(1)])
})

test('a decision waits for nothing: who is killed right after it has left it', async () => {
  const { writer, read } = setUp({ flushMs: 1e9 })
  writer.write(record(1))
  writer.write(record(2, { level: 'decision', kind: 'migration.committed' }))
  for (let i = 0; i < 50; i++) await Promise.resolve()
  expect(await read()).toEqual([record(1), record(2, { level: 'decision', kind: 'migration.committed' })])
})

async function written(count: number) {
  const all = setUp()
  for (let i = 1; i <= count; i++) all.writer.write(record(i, { body: { i } }))
  await all.writer.close()
  const [path] = await traceSegments(all.files, 'trace')
  return { ...all, path: path!, bytes: all.files.contents.get(path!)! }
}

test('a segment cut off anywhere gives every whole record before the cut', async () => {
  const { files, path, bytes, read } = await written(5)
  let last = 0
  for (let length = 0; length < bytes.byteLength; length++) {
    files.contents.set(path, bytes.slice(0, length))
    const cuts: number[] = []
    const records = await read({ onTruncated: cut => cuts.push(cut.offset + cut.bytes) })
    expect(records.map(one => one.seq)).toEqual(Array.from({ length: records.length }, (_, i) => i + 1))
    expect(records.length).toBeGreaterThanOrEqual(last)
    last = records.length
    if (cuts.length > 0) expect(cuts).toEqual([length])
  }
  expect(last).toBe(4)
})

test('a short file of something else is damage, not a cut', async () => {
  const { files, path, bytes, read } = await written(5)
  const flipped = bytes.slice(0, 40)
  flipped[12] = flipped[12]! ^ 1
  for (const content of ['not a trace', 'x', 'SWTRACE2 and more']) {
    files.contents.set(path, Buffer.from(content))
    await expect(read()).rejects.toMatchObject({ code: 'trace-damaged' })
  }
  files.contents.set(path, flipped)
  await expect(read()).rejects.toMatchObject({ code: 'trace-damaged' })
  files.contents.set(path, new Uint8Array(40))
  expect(await read()).toEqual([])
})

test('zeroes at the end are a cut, too', async () => {
  const { files, path, bytes, read } = await written(5)
  const zeroed = new Uint8Array(bytes.byteLength + 500)
  zeroed.set(bytes)
  files.contents.set(path, zeroed)
  expect(await read()).toHaveLength(5)
})

test('a damaged record is an error with file and offset, or passed over on request', async () => {
  const { files, path, bytes, read } = await written(20)
  const random = new SimRandom('damage')
  let skipped = 0
  for (let round = 0; round < 400; round++) {
    const damaged = bytes.slice()
    const at = random.int(bytes.byteLength - 200)
    damaged[at] = damaged[at]! ^ (1 << random.int(8))
    files.contents.set(path, damaged)
    const error = await read().catch((e: unknown) => e as StellwerkError)
    expect(error).toMatchObject({ code: 'trace-damaged' })
    const [, where] = /^trace\/00000001\.trace at byte (\d+)$/.exec((error as StellwerkError).where!)!
    expect(Number(where)).toBeLessThanOrEqual(at)
    const errors: StellwerkError[] = []
    const rest = await read({ onDamaged: e => errors.push(e) })
    expect(errors).toHaveLength(1)
    expect(rest.length).toBeLessThan(20)
    if (rest.at(-1)?.seq === 20) skipped += 1
  }
  // Damage outside the length fields costs one record only.
  expect(skipped).toBeGreaterThan(300)
})

test('no bytes can make the reader crash or hang', async () => {
  const { files, path, bytes, read } = await written(20)
  const random = new SimRandom('fuzz')
  for (let round = 0; round < 500; round++) {
    const fuzzed = bytes.slice(0, 30 + random.int(bytes.byteLength - 30))
    for (let n = random.int(20); n >= 0; n--) fuzzed[random.int(fuzzed.byteLength)] = random.int(256)
    files.contents.set(path, fuzzed)
    const records = await read({ onDamaged: error => expect(error.code).toBe('trace-damaged') })
    expect(records.length).toBeLessThanOrEqual(20)
  }
})

test('traces of several processes are merged by their clocks', async () => {
  const clock = fc.array(fc.nat(50), { maxLength: 20 }).map(stamps => stamps.sort((a, b) => a - b))
  await fc.assert(
    fc.asyncProperty(fc.array(clock, { maxLength: 4 }), async processes => {
      const sources: MemoryFiles[] = []
      const all: TraceRecord[] = []
      for (const [i, stamps] of processes.entries()) {
        const { files, writer } = setUp({ process: `p${i}`, segmentBytes: 700 })
        for (const [seq, wallMs] of stamps.entries()) {
          const one = record(seq, { hlc: { wallMs, counter: seq }, process: `p${i}` })
          all.push(one)
          writer.write(one)
        }
        await writer.close()
        sources.push(files)
      }
      const merged = await Array.fromAsync(mergeTraces(sources.map(files => readTraceBatches(files, 'trace'))))
      expect(merged).toEqual(all.sort(compareRecords))
      expect(sources.every(files => files.opened === 0)).toBe(true)
    }),
    { numRuns: 50 },
  )
})

test('who stops reading early leaves no file open', async () => {
  const { files, read: _, ...rest } = await written(10)
  expect(rest.bytes.byteLength).toBeGreaterThan(0)
  for await (const one of mergeTraces([readTraceBatches(files, 'trace'), readTraceBatches(files, 'trace')])) {
    if (one.seq === 3) break
  }
  expect(files.opened).toBe(0)
})

test('a line tells when, who, what and about what', () => {
  const one = record(17, {
    hlc: { wallMs: Date.UTC(2026, 1, 28, 14, 2, 13, 45), counter: 2 },
    kind: 'vm.run',
    vm: 'web-1',
    host: 'host-a',
    cause: { process: 'coordinator', seq: 4 },
    body: { epoch: 3 },
  })
  expect(formatLine(one)).toBe('14:02:13.045+2 host-a/agent #17 vm.run host=host-a vm=web-1 {"epoch":3}')
  expect(formatLine(one, { full: true })).toBe(
    '2026-02-28 14:02:13.045+2 host-a/agent #17 vm.run host=host-a vm=web-1 {"epoch":3} ← coordinator #4',
  )
  expect(formatLine({ ...one, body: 'x'.repeat(500) }, { maxBody: 20 })).toContain('"xxxxxxxxxxxxxxxxxxx…')
})

test('dates are those of the calendar', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 4e12 }), ms => {
      expect(formatDate(ms)).toBe(new Date(ms).toISOString().slice(0, 10))
    }),
    { numRuns: 2000 },
  )
})

test('records that are missing within a run are told of; a new run and dropped ones are none', async () => {
  const { files, writer, read } = setUp()
  for (const seq of [1, 2, 5, 6, 1, 2]) writer.write(record(seq))
  await writer.close()
  const gaps: StellwerkError[] = []
  const filter: TraceFilter = { kinds: ['nothing'] }
  expect(await read({ filter, onGap: error => gaps.push(error) })).toEqual([])
  expect(gaps.map(({ code, message }) => [code, message])).toEqual([
    ['trace-gap', '2 trace records are missing before number 5'],
  ])
  expect(await traceSegments(files, 'trace')).toHaveLength(1)
})
