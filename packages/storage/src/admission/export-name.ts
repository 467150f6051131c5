// The export name by which a connection says who it is: everything that admission judges. Parsing only; no state.
//   LUN                                                              a tool, where the LUN is open to them
//   LUN?host=N&epoch=e&session=i.s&generation=g[&via=P][&owner=E]    a host's path

import { type Refusal, refusal } from './refusal.ts'

/** Agent incarnation, number: compared in that order, within an epoch of the host. */
export type Session = readonly [incarnation: number, number: number]

export function compareSessions(a: Session, b: Session): number {
  return a[0] - b[0] || a[1] - b[1]
}

/** What a host's connection names. */
export interface HostClaim {
  readonly host: string
  readonly epoch: number
  readonly session: Session
  readonly generation: number
  /** The peer that carries this host's requests, for display and records. */
  readonly via: string | null
  /** Writes as the volume's owner, at this ownership epoch. */
  readonly owner: number | null
}

export interface ExportName {
  readonly lun: string
  /** Null: a plain name. */
  readonly claim: HostClaim | null
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/
const NUMBER = /^(0|[1-9][0-9]{0,15})$/
const KEYS = ['host', 'epoch', 'session', 'generation', 'via', 'owner'] as const
type Key = (typeof KEYS)[number]

export function isName(text: string): boolean {
  return NAME.test(text)
}

export function formatExportName(name: ExportName): string {
  const { lun, claim } = name
  if (claim === null) return lun
  const { host, epoch, session, generation, via, owner } = claim
  return (
    `${lun}?host=${host}&epoch=${epoch}&session=${session[0]}.${session[1]}&generation=${generation}` +
    (via === null ? '' : `&via=${via}`) +
    (owner === null ? '' : `&owner=${owner}`)
  )
}

export function parseExportName(text: string): ExportName | Refusal {
  const question = text.indexOf('?')
  const lun = question < 0 ? text : text.slice(0, question)
  if (!isName(lun)) return bad(text, lun === '' ? 'it names no LUN' : 'the LUN is not a valid name')
  if (question < 0) return { lun, claim: null }

  const fields = new Map<Key, string>()
  for (const part of text.slice(question + 1).split('&')) {
    const equals = part.indexOf('=')
    const key = KEYS.find(key => key === part.slice(0, equals))
    if (equals < 0 || key === undefined) return bad(text, `'${part.slice(0, 40)}' is none of its fields`)
    if (fields.has(key)) return bad(text, `'${key}' comes twice`)
    fields.set(key, part.slice(equals + 1))
  }

  const host = fields.get('host') ?? ''
  if (!isName(host)) return bad(text, `'host' must be a host's name`)
  const via = fields.get('via') ?? null
  if (via !== null && !isName(via)) return bad(text, `'via' must be a host's name`)
  const epoch = number(fields.get('epoch'))
  if (epoch === null || epoch === 0) return bad(text, `'epoch' must be a positive number`)
  const [incarnation, count, rest] = (fields.get('session') ?? '').split('.').map(number)
  if (
    incarnation === undefined ||
    incarnation === null ||
    count === undefined ||
    count === null ||
    rest !== undefined
  ) {
    return bad(text, `'session' must be two numbers, incarnation.number`)
  }
  const generation = number(fields.get('generation'))
  if (generation === null) return bad(text, `'generation' must be a number`)
  const owner = fields.has('owner') ? number(fields.get('owner')) : undefined
  if (owner === null || owner === 0) return bad(text, `'owner' must be a positive number`)
  return { lun, claim: { host, epoch, session: [incarnation, count], generation, via, owner: owner ?? null } }
}

function number(text: string | undefined): number | null {
  if (text === undefined || !NUMBER.test(text)) return null
  const value = Number(text)
  return Number.isSafeInteger(value) ? value : null
}

function bad(text: string, why: string): Refusal {
  const shown = JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text)
  return refusal(
    'bad-export-name',
    `${shown}: ${why}`,
    'use LUN?host=N&epoch=e&session=i.s&generation=g[&via=P][&owner=E], or the plain name of an open LUN',
  )
}
