// Admission's state out of the store, when the subsystem starts. Marks that can't be read are never guessed: a subsystem
// that forgot a fence would let a dead host write.

import { isLunMarks, type LunMarks } from '@stellwerk/protocol/messages/storage.ts'
import type { Json, Store } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { isName, type Session } from './export-name.ts'
import { type AdmissionState, EMPTY_ADMISSION, type HostMarks } from './state.ts'

export function recoverAdmission(store: Store): AdmissionState {
  const term = store.get('term') ?? 0
  if (!isCount(term)) throw corrupt('term', term)
  const run = store.get('run') ?? null
  if (run !== null && typeof run !== 'string') throw corrupt('run', run)
  const revision = store.get('revision') ?? 0
  if (!isCount(revision)) throw corrupt('revision', revision)
  const hosts = new Map<string, HostMarks>()
  for (const [key, value] of store.entries('host/')) {
    const host = key.slice('host/'.length)
    if (!isName(host) || !isHostMarks(value)) throw corrupt(key, value)
    hosts.set(host, { admitted: value.admitted, fenced: value.fenced })
  }
  const luns = new Map<string, LunMarks>()
  for (const [key, value] of store.entries('lun/')) {
    const lun = key.slice('lun/'.length)
    if (!isName(lun) || !isLunMarks(value)) throw corrupt(key, value)
    luns.set(lun, value)
  }
  const sessions = new Map<string, Session>()
  for (const [key, value] of store.entries('session/')) {
    const name = key.slice('session/'.length)
    const [lun, host, as, ...rest] = name.split('/')
    const whose = host !== undefined && (as === undefined || as === 'owner') && rest.length === 0
    if (lun === undefined || !whose || !luns.has(lun) || !isSession(value)) throw corrupt(key, value)
    sessions.set(name, value)
  }
  return { ...EMPTY_ADMISSION, term, run, revision, hosts, luns, sessions }
}

function corrupt(key: string, value: Json): StellwerkError {
  return new StellwerkError(
    'corrupt-state',
    `the stored mark '${key}' can't be read: ${JSON.stringify(value).slice(0, 80)}`,
    {
      where: key,
      hint: 'restore the state directory; starting without its marks could let a fenced host write',
    },
  )
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}

function isHostMarks(value: Json): value is { readonly admitted: number; readonly fenced: number } {
  return (
    typeof value === 'object' &&
    value !== null &&
    'admitted' in value &&
    isCount(value.admitted) &&
    isCount(value.fenced)
  )
}

function isSession(value: unknown): value is readonly [number, number] {
  return Array.isArray(value) && value.length === 2 && isCount(value[0]) && isCount(value[1])
}
