// `stellwerk trace export`: a trace in a file that other tools read. The file is new, whole or not there at all.

import type { TraceFilter } from '@stellwerk/protocol/trace/filter.ts'
import type { TraceReadOptions } from '@stellwerk/protocol/trace/reader.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { type AppendFile, createAppendFile } from '@stellwerk/runtime/node/append-file.ts'
import { KIB } from '@stellwerk/runtime/units.ts'
import { inOrder } from './check.ts'
import { factsOf, timeOf } from './check-facts.ts'
import { withMessages } from './export-messages.ts'
import { PcapngWriter } from './export-pcapng.ts'
import { PerfettoWriter } from './export-perfetto.ts'
import type { TraceSource } from './source.ts'

export const FORMATS = ['pcapng', 'perfetto', 'ndjson'] as const
export type ExportFormat = (typeof FORMATS)[number]

export interface ExportCounts {
  /** Records read, of those wanted. */
  readonly records: number
  readonly bytes: number
}

const BUFFER_BYTES = 256 * KIB

/** `path` is absolute. Throws `file-exists`, and what writing throws; then there is no such file. */
export async function exportTrace(
  source: TraceSource,
  options: TraceReadOptions & {
    readonly format: ExportFormat
    readonly path: string
    readonly filter: TraceFilter
    /** Of these processes only. */
    readonly names?: readonly string[]
    /** No record is as wanted: it may throw, and there is no file. */
    readonly onNothing?: () => Promise<void>
  },
): Promise<ExportCounts> {
  const { format, path, names, onNothing, ...reading } = options
  const tolerant: TraceReadOptions = reading.onDamaged === undefined ? {} : { onDamaged: reading.onDamaged }
  const facts = await factsOf(source, tolerant)
  const file = new BufferedFile(path)
  let records = 0
  async function* wanted(): AsyncGenerator<TraceRecord> {
    for await (const record of inOrder(source, facts.kind === 'simulated', reading, names)) {
      records += 1
      yield record
    }
  }
  try {
    switch (format) {
      case 'pcapng': {
        const writer = new PcapngWriter(source.names, bytes => file.append(bytes))
        for await (const each of withMessages(wanted())) writer.write(each)
        break
      }
      case 'perfetto': {
        const writer = new PerfettoWriter(text => file.append(Buffer.from(text)))
        for await (const each of withMessages(wanted())) {
          writer.take(each, record => timeOf(facts, record))
        }
        writer.end()
        break
      }
      case 'ndjson':
        for await (const record of wanted()) file.append(Buffer.from(`${JSON.stringify(record)}\n`))
    }
    if (records === 0) await onNothing?.()
    return { records, bytes: file.close() }
  } catch (error) {
    file.discard()
    throw error
  }
}

class BufferedFile {
  readonly #file: AppendFile
  #parts: Uint8Array[] = []
  #waiting = 0
  #bytes = 0

  constructor(path: string) {
    this.#file = created(path)
  }

  append(bytes: Uint8Array): void {
    this.#parts.push(bytes)
    this.#waiting += bytes.byteLength
    if (this.#waiting >= BUFFER_BYTES) this.#flush()
  }

  /** Gives its length. */
  close(): number {
    this.#flush()
    this.#file.close()
    return this.#bytes
  }

  discard(): void {
    this.#file.discard()
  }

  #flush(): void {
    this.#file.append(Buffer.concat(this.#parts))
    this.#bytes += this.#waiting
    this.#parts = []
    this.#waiting = 0
  }
}

function created(path: string): AppendFile {
  try {
    return createAppendFile(path)
  } catch (error) {
    const code = errorCode(error)
    if (code === 'EEXIST' || code === 'EISDIR') {
      throw new StellwerkError('file-exists', 'there is a file already, and it is left as it is', {
        where: path,
        hint: 'name another one with --out, or move it away',
      })
    }
    throw new StellwerkError(code, `the file can't be made: ${code}`, {
      where: path,
      hint: 'name another one with --out',
      cause: error,
    })
  }
}
