// A record as one line for humans: when, who, what, about what, and the rest as JSON.
import type { Json, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { ID_FIELDS } from './segment-format.ts'

export interface LineOptions {
  /** With the date, and the cause. */
  readonly full?: boolean
  /** Longer bodies are cut. Default 200. */
  readonly maxBody?: number
}

const two = (n: number): string => String(n).padStart(2, '0')

/** `14:02:13.123+2 host-a/agent #17 vm.run vm=web-1 host=host-a {"epoch":3}`; `+2` is the logical counter. UTC. */
export function formatLine(record: TraceRecord, options: LineOptions = {}): string {
  const { hlc, process, seq, kind, cause, body } = record
  const time = formatTime(hlc.wallMs)
  const parts = [
    `${options.full === true ? `${formatDate(hlc.wallMs)} ` : ''}${time}${hlc.counter === 0 ? '' : `+${hlc.counter}`}`,
    process,
    `#${seq}`,
    kind,
  ]
  for (const field of ID_FIELDS) if (record[field] !== undefined) parts.push(`${field}=${record[field]}`)
  if (body !== undefined) parts.push(formatBody(body, options.maxBody ?? 200))
  if (options.full === true && cause !== undefined) parts.push(`← ${cause.process} #${cause.seq}`)
  return parts.join(' ')
}

function formatBody(body: Json, maxLength: number): string {
  const text = JSON.stringify(body)
  return text.length > maxLength ? `${text.slice(0, maxLength)}…` : text
}

export function formatTime(wallMs: number): string {
  const ms = ((Math.floor(wallMs) % 86_400_000) + 86_400_000) % 86_400_000
  const seconds = Math.floor(ms / 1000)
  const fraction = String(ms % 1000).padStart(3, '0')
  return `${two(Math.floor(seconds / 3600))}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}.${fraction}`
}

/** The civil date of a day count, without a Date: 400-year eras of 146,097 days that begin on March 1st. */
export function formatDate(wallMs: number): string {
  const days = Math.floor(wallMs / 86_400_000) + 719_468
  const era = Math.floor(days / 146_097)
  const ofEra = days - era * 146_097
  const yearOfEra = Math.floor(
    (ofEra - Math.floor(ofEra / 1460) + Math.floor(ofEra / 36_524) - Math.floor(ofEra / 146_096)) / 365,
  )
  const ofYear = ofEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100))
  const month = Math.floor((5 * ofYear + 2) / 153)
  const day = ofYear - Math.floor((153 * month + 2) / 5) + 1
  const year = yearOfEra + era * 400 + (month >= 10 ? 1 : 0)
  return `${String(year).padStart(4, '0')}-${two(month >= 10 ? month - 9 : month + 3)}-${two(day)}`
}
