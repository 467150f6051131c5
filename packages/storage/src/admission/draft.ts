// The state while one decision is made: what it changes is copied, what it leaves alone is shared. Nothing here outlives
// the call of `decide`.

import type { LunMarks } from '@stellwerk/protocol/messages/storage.ts'
import { assert, present } from '@stellwerk/runtime/assert.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import type { StoreChange } from '@stellwerk/runtime/environment.ts'
import { noteFiles, settleFiles } from '../lun/file-notes.ts'
import type { Decision, Effect } from './decide.ts'
import type { HostClaim, Session } from './export-name.ts'
import { judge } from './judge.ts'
import type { AdmissionState, Connection, HostMarks, Wait } from './state.ts'
import { sessionKey } from './state.ts'

export class Draft implements AdmissionState {
  term: number
  run: string | null
  revision: number
  hosts: Map<string, HostMarks>
  luns: Map<string, LunMarks>
  sessions: Map<string, Session>
  connections: Map<number, Connection>
  waits: Wait[]
  readonly #changes: StoreChange[] = []
  readonly #effects: Effect[] = []

  constructor(state: AdmissionState) {
    this.term = state.term
    this.run = state.run
    this.revision = state.revision
    this.hosts = new Map(state.hosts)
    this.luns = new Map(state.luns)
    this.sessions = new Map(state.sessions)
    this.connections = new Map(state.connections)
    this.waits = [...state.waits]
  }

  decision(): Decision {
    const { term, run, revision, hosts, luns, sessions, connections, waits } = this
    const next = { term, run, revision, hosts, luns, sessions, connections, waits }
    return { next, changes: this.#changes, effects: this.#effects }
  }

  effect(effect: Effect): void {
    this.#effects.push(effect)
  }

  // --- durable marks: each put is a change of the store ---------------------------------------------------------------

  putTerm(term: number): void {
    assert(term > this.term, 'a term is only ever raised')
    this.term = term
    this.#changes.push({ put: 'term', value: term })
    if (this.run === null) return
    this.run = null
    this.#changes.push({ delete: 'run' })
  }

  /** Of the present term. */
  putRun(run: string): void {
    if (this.run === run) return
    this.run = run
    this.#changes.push({ put: 'run', value: run })
  }

  /** What comes late, of a run that has told of more since, changes nothing. */
  putRevision(revision: number): void {
    if (revision <= this.revision) return
    this.revision = revision
    this.#changes.push({ put: 'revision', value: revision })
  }

  putHost(host: string, marks: HostMarks): void {
    const old = this.hosts.get(host)
    assert(
      old === undefined || (marks.admitted >= old.admitted && marks.fenced >= old.fenced),
      'epochs are only ever raised',
    )
    this.hosts.set(host, marks)
    this.#changes.push({ put: `host/${host}`, value: { ...marks } })
  }

  putSession(lun: string, claim: HostClaim): void {
    const key = sessionKey(lun, claim)
    this.sessions.set(key, claim.session)
    this.#changes.push({ put: `session/${key}`, value: [...claim.session] })
  }

  /** A new epoch counts from the start: whoever it is given to need not know what the last one came to. */
  forgetSessions(host: string): void {
    for (const key of [...this.sessions.keys()]) {
      if (key.split('/')[1] !== host) continue
      this.sessions.delete(key)
      this.#changes.push({ delete: `session/${key}` })
    }
  }

  putLun(lun: string, marks: LunMarks): void {
    this.luns.set(lun, marks)
    this.#changes.push({ put: `lun/${lun}`, value: marks })
  }

  /** Its files are there, and from here on a LUN's. */
  addLun(lun: string, marks: LunMarks): void {
    this.putLun(lun, marks)
    this.#changes.push(settleFiles(marks.id))
  }

  dropLun(lun: string): void {
    const { id } = present(this.luns.get(lun), 'the LUN that is deleted')
    this.luns.delete(lun)
    this.#changes.push({ delete: `lun/${lun}` }, noteFiles(id, 'removing'))
    for (const key of this.sessions.keys()) {
      if (!key.startsWith(`${lun}/`)) continue
      this.sessions.delete(key)
      this.#changes.push({ delete: `session/${key}` })
    }
  }

  // --- connections ----------------------------------------------------------------------------------------------------

  putConnection(connection: Connection): void {
    this.connections.set(connection.id, connection)
  }

  idsOf(wanted: (connection: Connection) => boolean): Set<number> {
    const ids = new Set<number>()
    // A waiting connection has started nothing: if it is in the way, it is refused, and nobody waits for it.
    for (const connection of this.connections.values()) {
      if (connection.phase !== 'waiting' && wanted(connection)) ids.add(connection.id)
    }
    return ids
  }

  /** After marks were raised: every connection that no longer agrees with them ends. Gives those that now drain. */
  shutOut(): Set<number> {
    const shut = new Set<number>()
    for (const connection of this.connections.values()) {
      if (connection.phase === 'draining') continue
      const refusal = judge(this, connection.lun, connection.claim)
      if (refusal === null) continue
      if (connection.phase === 'open' && refusal.code === 'session-superseded' && canary('session-not-drained'))
        continue
      if (connection.phase === 'waiting') {
        this.connections.delete(connection.id)
        this.waits = this.waits.filter(({ next }) => !(next.kind === 'welcome' && next.connection === connection.id))
        this.effect({ kind: 'refuse', connection: connection.id, refusal })
      } else {
        shut.add(connection.id)
        this.connections.set(connection.id, { ...connection, phase: 'draining' })
        this.effect({ kind: 'drain', connection: connection.id, refusal })
      }
    }
    return shut
  }

  /** The connection is gone and can have no effect any more: whoever waited only for it goes on. */
  forget(id: number): void {
    if (!this.connections.delete(id)) return
    const waits = this.waits
    this.waits = []
    for (const wait of waits) {
      if (wait.next.kind === 'welcome' && wait.next.connection === id) continue
      if (!wait.on.has(id)) {
        this.waits.push(wait)
        continue
      }
      const on = new Set(wait.on)
      on.delete(id)
      this.wait({ on, next: wait.next })
    }
  }

  wait(wait: Wait): void {
    if (wait.on.size > 0) {
      this.waits.push(wait)
      return
    }
    const { next } = wait
    if (next.kind === 'answer') {
      if (next.answer.trace !== null) this.effect({ kind: 'evidence', event: next.answer.trace })
      this.effect({ kind: 'answer', ticket: next.answer.ticket })
      return
    }
    const connection = present(this.connections.get(next.connection), 'the connection whose handshake waits')
    const claim = present(connection.claim, 'the claim of a connection that waited')
    // Both sides: judged when it came, and every mark raised since has shut out what disagrees.
    assert(judge(this, connection.lun, claim) === null, 'a connection that waited still agrees with all marks')
    this.connections.set(connection.id, { ...connection, phase: 'open' })
    if (next.raisedSession) {
      this.effect({
        kind: 'evidence',
        event: {
          kind: 'storage.session',
          lun: connection.lun,
          host: claim.host,
          session: claim.session,
          owner: claim.owner !== null,
        },
      })
    }
    if (next.raisedOwner && claim.owner !== null) {
      this.effect({ kind: 'evidence', event: { kind: 'storage.owner', lun: connection.lun, owner: claim.owner } })
    }
    this.effect({ kind: 'welcome', connection: connection.id })
  }
}
