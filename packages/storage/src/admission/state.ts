// What admission knows. The marks are durable and only ever raised; connections and waits die with the process.

import type { LunMarks } from '@stellwerk/protocol/messages/storage.ts'
import type { HostClaim, Session } from './export-name.ts'

/** A host may work at `admitted`, and only while that is above `fenced`. Zero: never. */
export interface HostMarks {
  readonly admitted: number
  readonly fenced: number
}

/**
 * `waiting`: its handshake is held until what it supersedes has drained; `open`: serves; `draining`: serves nothing new,
 * and stays in the books until its last request can have no effect any more.
 */
export type Phase = 'waiting' | 'open' | 'draining'

export interface Connection {
  readonly id: number
  readonly lun: string
  /** Null: a tool, on an open LUN. */
  readonly claim: HostClaim | null
  readonly phase: Phase
}

/** What goes on once none of the connections in `on` is left. */
export interface Wait {
  readonly on: ReadonlySet<number>
  readonly next:
    | {
        readonly kind: 'welcome'
        readonly connection: number
        readonly raisedOwner: boolean
        readonly raisedSession: boolean
      }
    | { readonly kind: 'answer'; readonly answer: Answer }
}

/** The end of an order: to whom, what is recorded, and what is told. */
export interface Answer {
  readonly ticket: number
  readonly trace: EvidenceEvent | null
}

/** A record for the trace; the shell adds the storage's name. */
export type EvidenceEvent =
  | { readonly kind: 'storage.fenced'; readonly host: string; readonly epoch: number; readonly term: number }
  | { readonly kind: 'storage.admitted'; readonly host: string; readonly epoch: number }
  | {
      readonly kind: 'storage.session'
      readonly host: string
      readonly lun: string
      readonly session: Session
      readonly owner: boolean
    }
  | { readonly kind: 'storage.owner'; readonly lun: string; readonly owner: number }
  | { readonly kind: 'storage.generation'; readonly lun: string; readonly generation: number }
  | { readonly kind: 'storage.lun-deleted'; readonly lun: string }

export interface AdmissionState {
  /** The highest coordinator term that gave an order. */
  readonly term: number
  /** Which run of the coordinator that term is; null: it has not said. */
  readonly run: string | null
  /** Of the coordinator's state: the highest that one has told of. */
  readonly revision: number
  readonly hosts: ReadonlyMap<string, HostMarks>
  readonly luns: ReadonlyMap<string, LunMarks>
  /** By `sessionKey`. */
  readonly sessions: ReadonlyMap<string, Session>
  readonly connections: ReadonlyMap<number, Connection>
  readonly waits: readonly Wait[]
}

export const EMPTY_ADMISSION: AdmissionState = {
  term: 0,
  run: null,
  revision: 0,
  hosts: new Map(),
  luns: new Map(),
  sessions: new Map(),
  connections: new Map(),
  waits: [],
}

export const NEVER: HostMarks = { admitted: 0, fenced: 0 }

/**
 * Whose session it is. A host's owner connections count apart from its own: the two write different things, and neither
 * must drain the other whenever it loses a path. Names hold no slash.
 */
export function sessionKey(lun: string, claim: Pick<HostClaim, 'host' | 'owner'>): string {
  return claim.owner === null ? `${lun}/${claim.host}` : `${lun}/${claim.host}/owner`
}
