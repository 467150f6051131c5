// Admission decides: who is let in, whom that shuts out, and when an order is done. Pure and synchronous:
// (state, input) → { next, changes, effects }.
//
// The contract: the shell commits `changes` (all or none; if that fails, `next` is dropped and nothing happened), adopts
// `next`, then carries out `effects` in order, without giving way to anything in between. A connection in `drain` starts
// nothing from that moment on. The shell reports `drained` once none of its requests can have an effect any more.
//
// A mark is raised when the order or handshake that raises it comes, so that nothing lower is let in from then on; the
// order is answered, and the handshake goes on, when what was lower has drained. Whoever comes meanwhile waits for the same.

import type { LunMarks } from '@stellwerk/protocol/messages/storage.ts'
import { assert, present, unreachable } from '@stellwerk/runtime/assert.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import type { StoreChange } from '@stellwerk/runtime/environment.ts'
import { Draft } from './draft.ts'
import { compareSessions, type ExportName } from './export-name.ts'
import { judge, judgeEpoch } from './judge.ts'
import { hasSlotsOf, judgeLayout } from './ranges.ts'
import { type Refusal, refusal } from './refusal.ts'
import { type AdmissionState, type Connection, type EvidenceEvent, NEVER, sessionKey } from './state.ts'

/** What came in. `ticket` and `connection` are the shell's numbers, never used twice. */
export type Input =
  | { readonly kind: 'connect'; readonly connection: number; readonly name: ExportName }
  | { readonly kind: 'drained'; readonly connection: number }
  | Order

/** Ends with exactly one `answer` or `reject` of its ticket. */
export type Order = { readonly ticket: number } & (
  | { readonly kind: 'coordinator'; readonly term: number; readonly run: string; readonly revision: number }
  | { readonly kind: 'fence'; readonly host: string; readonly epoch: number; readonly term: number }
  | { readonly kind: 'admit'; readonly host: string; readonly epoch: number; readonly term: number }
  | {
      readonly kind: 'generation'
      readonly lun: string
      /** Of the LUN that is meant; null: whichever has that name. */
      readonly lunId: string | null
      readonly generation: number
      readonly id: string | null
      readonly legs: LunMarks['legs']
      readonly term: number
    }
  | {
      readonly kind: 'layout'
      readonly lun: string
      /** Of the LUN that is meant; null: whichever has that name. */
      readonly lunId: string | null
      readonly ownerEpoch: number
      readonly host: string | null
      readonly epoch: number | null
      readonly layout: NonNullable<LunMarks['layout']>
    }
  | { readonly kind: 'create-lun'; readonly lun: string; readonly marks: LunMarks }
  | {
      readonly kind: 'expose-lun'
      readonly lun: string
      readonly open: boolean
      readonly masked: boolean
      readonly hosts: readonly string[] | null
    }
  /** `id`: of the LUN that is meant; null: whichever has that name. */
  | { readonly kind: 'delete-lun'; readonly lun: string; readonly id: string | null; readonly force: boolean }
)

export type Effect =
  /** The connection starts nothing more from now on; report `drained` when what it had started is done. */
  | { readonly kind: 'drain'; readonly connection: number; readonly refusal: Refusal }
  /** The held handshake goes on. */
  | { readonly kind: 'welcome'; readonly connection: number }
  /** The held handshake ends; the connection is forgotten. */
  | { readonly kind: 'refuse'; readonly connection: number; readonly refusal: Refusal }
  | { readonly kind: 'answer'; readonly ticket: number }
  | { readonly kind: 'reject'; readonly ticket: number; readonly refusal: Refusal }
  | { readonly kind: 'evidence'; readonly event: EvidenceEvent }

export interface Decision {
  readonly next: AdmissionState
  readonly changes: readonly StoreChange[]
  readonly effects: readonly Effect[]
}

/** Hosts ever fenced or admitted. */
export const MAX_HOSTS = 4_096
export const MAX_LUNS = 4_096
/** Open, waiting or draining. */
export const MAX_CONNECTIONS = 4_096
/** Handshakes and orders that wait for others to drain. */
export const MAX_WAITS = 4_096

export function decide(state: AdmissionState, input: Input): Decision {
  const draft = new Draft(state)
  switch (input.kind) {
    case 'connect':
      connect(draft, input.connection, input.name)
      break
    case 'drained':
      draft.forget(input.connection)
      break
    default: {
      const refused = order(draft, input)
      // Refused before anything was raised: an order leaves no trace of itself but the term it came with.
      if (refused !== null) draft.effect({ kind: 'reject', ticket: input.ticket, refusal: refused })
    }
  }
  return draft.decision()
}

// --- handshakes --------------------------------------------------------------------------------------------------------

function connect(draft: Draft, id: number, name: ExportName): void {
  assert(!draft.connections.has(id), `connection ${id} is new`)
  const { lun, claim } = name
  const refused = judge(draft, lun, claim) ?? full(draft)
  if (refused !== null) {
    draft.effect({ kind: 'refuse', connection: id, refusal: refused })
    return
  }
  const connection: Connection = { id, lun, claim, phase: 'waiting' }
  if (claim === null) {
    draft.putConnection({ ...connection, phase: 'open' })
    draft.effect({ kind: 'welcome', connection: id })
    return
  }

  const key = sessionKey(lun, claim)
  const session = draft.sessions.get(key)
  const raisedSession = session === undefined || compareSessions(claim.session, session) > 0
  if (raisedSession) draft.putSession(lun, claim)
  const marks = present(draft.luns.get(lun), 'the LUN that was just judged')
  const raisedOwner = claim.owner !== null && claim.owner > marks.owner
  if (claim.owner !== null && (raisedOwner || (claim.owner === marks.owner && marks.ownerHost === null))) {
    draft.putLun(lun, { ...marks, owner: claim.owner, ownerHost: claim.host })
  }
  if (raisedSession || raisedOwner) draft.shutOut()

  draft.putConnection(connection)
  const on = draft.idsOf(other => other.id !== id && other.lun === lun && supersedes(connection, other))
  draft.wait({ on, next: { kind: 'welcome', connection: id, raisedOwner, raisedSession } })
}

/** Must `other` have drained before `connection` may serve? */
function supersedes(connection: Connection, other: Connection): boolean {
  const a = present(connection.claim, 'a claim')
  const b = other.claim
  if (b === null) return false
  if (b.generation !== a.generation) return true
  if (a.owner !== null && b.owner !== null && b.owner < a.owner) return !canary('owner-not-refused')
  if (a.host !== b.host) return false
  if (canary('session-not-drained')) return false
  if (b.epoch !== a.epoch) return true
  return (a.owner === null) === (b.owner === null) && compareSessions(b.session, a.session) < 0
}

function full(draft: Draft): Refusal | null {
  if (draft.connections.size < MAX_CONNECTIONS && draft.waits.length < MAX_WAITS) return null
  return refusal('limit-reached', `this subsystem serves at most ${MAX_CONNECTIONS} connections`)
}

// --- orders --------------------------------------------------------------------------------------------------------------

function order(draft: Draft, input: Order): Refusal | null {
  if (draft.waits.length >= MAX_WAITS)
    return refusal('limit-reached', `${MAX_WAITS} orders and handshakes wait already`)
  if (input.kind === 'coordinator') return takeRun(draft, input)
  if ('term' in input) {
    if (input.term < draft.term) {
      return refusal(
        'stale-term',
        `term ${input.term} is over: ${draft.term} has been seen`,
        'the newer coordinator decides',
      )
    }
    if (input.term > draft.term) draft.putTerm(input.term)
  }
  switch (input.kind) {
    case 'fence':
      return fence(draft, input)
    case 'admit':
      return admit(draft, input)
    case 'generation':
      return raiseGeneration(draft, input)
    case 'layout':
      return registerLayout(draft, input)
    case 'create-lun':
      return createLun(draft, input)
    case 'expose-lun':
      return exposeLun(draft, input)
    case 'delete-lun':
      return deleteLun(draft, input)
    default:
      return unreachable(input)
  }
}

type OrderOf<K extends Order['kind']> = Extract<Order, { readonly kind: K }>

/**
 * Takes the run and its term, unless its state is older than what has been told of. Where the term is another run's nothing is taken:
 * the answer says so, and the run takes a higher term.
 */
function takeRun(draft: Draft, { ticket, term, run, revision }: OrderOf<'coordinator'>): Refusal | null {
  const isKnown = term === draft.term && run === draft.run
  if (!isKnown && revision < draft.revision && !canary('older-state-taken')) {
    return refusal(
      'older-state',
      `revision ${draft.revision} of it has been told of, and this one is ${revision}: that state is older than the cluster`,
      'restore the newer state directory, or use "stellwerk cluster restore"',
    )
  }
  if (isKnown || term > draft.term || (term === draft.term && draft.run === null)) {
    if (term > draft.term) draft.putTerm(term)
    draft.putRun(run)
    draft.putRevision(revision)
  }
  draft.effect({ kind: 'answer', ticket })
  return null
}

function fence(draft: Draft, { ticket, host, epoch, term }: OrderOf<'fence'>): Refusal | null {
  const marks = draft.hosts.get(host) ?? NEVER
  if (!draft.hosts.has(host) && draft.hosts.size >= MAX_HOSTS)
    return refusal('limit-reached', `${MAX_HOSTS} hosts are known`)
  if (epoch > marks.fenced) {
    draft.putHost(host, { ...marks, fenced: epoch })
    draft.shutOut()
  }
  const on = draft.idsOf(other => other.claim?.host === host && other.claim.epoch <= epoch)
  const trace: EvidenceEvent = { kind: 'storage.fenced', host, epoch, term }
  draft.wait({ on: canary('fence-before-drain') ? new Set() : on, next: { kind: 'answer', answer: { ticket, trace } } })
  return null
}

function admit(draft: Draft, { ticket, host, epoch }: OrderOf<'admit'>): Refusal | null {
  const marks = draft.hosts.get(host) ?? NEVER
  if (!draft.hosts.has(host) && draft.hosts.size >= MAX_HOSTS)
    return refusal('limit-reached', `${MAX_HOSTS} hosts are known`)
  if (epoch > marks.admitted) {
    draft.putHost(host, { ...marks, admitted: epoch })
    draft.shutOut()
    // Another machine under the host's name begins at a low incarnation; what is left of the last one drains by its epoch.
    draft.forgetSessions(host)
  }
  const now = draft.hosts.get(host) ?? NEVER
  const opened = now.admitted === epoch && epoch > now.fenced
  const trace: EvidenceEvent | null = opened ? { kind: 'storage.admitted', host, epoch } : null
  // An epoch that was replaced without a fence drains like a fenced one.
  const on = draft.idsOf(other => other.claim?.host === host && other.claim.epoch < epoch)
  draft.wait({ on, next: { kind: 'answer', answer: { ticket, trace } } })
  return null
}

function raiseGeneration(draft: Draft, input: OrderOf<'generation'>): Refusal | null {
  const { ticket, lun, lunId, generation, id, legs } = input
  const marks = draft.luns.get(lun)
  if (marks === undefined || !isMeant(marks, lunId)) return unknownLun(lun)
  const same =
    generation === marks.generation && (id ?? marks.generationId) === marks.generationId && sameLegs(legs, marks.legs)
  // Generation 0 is a LUN's own, before its mirror has been given one.
  if (!same && (generation < marks.generation || (generation === marks.generation && generation > 0))) {
    return refusal('generation-refused', `${marks.generation} ${JSON.stringify(marks.legs)}`)
  }
  if (!same) {
    draft.putLun(lun, { ...marks, generation, generationId: id, legs })
    draft.shutOut()
  }
  const on = draft.idsOf(other => other.lun === lun && other.claim !== null && other.claim.generation !== generation)
  draft.wait({
    on,
    next: { kind: 'answer', answer: { ticket, trace: { kind: 'storage.generation', lun, generation } } },
  })
  return null
}

function sameLegs(a: LunMarks['legs'], b: LunMarks['legs']): boolean {
  const names = Object.keys(a)
  return names.length === Object.keys(b).length && names.every(name => a[name] === b[name])
}

function registerLayout(draft: Draft, input: OrderOf<'layout'>): Refusal | null {
  const { ticket, lun, lunId, ownerEpoch, host, epoch, layout } = input
  const marks = draft.luns.get(lun)
  if (marks === undefined || !isMeant(marks, lunId)) return unknownLun(lun)
  const refused =
    (host !== null && epoch !== null ? judgeEpoch(draft, host, epoch) : null) ?? judgeLayout(layout, marks.sizeBytes)
  if (refused !== null) return refused
  if (ownerEpoch < marks.owner) {
    return refusal('owner-superseded', `LUN ${lun} has seen owner epoch ${marks.owner}, after ${ownerEpoch}`)
  }
  const raised = ownerEpoch > marks.owner
  if (!raised && host !== null && marks.ownerHost !== null && marks.ownerHost !== host) {
    return refusal('owner-superseded', `owner epoch ${ownerEpoch} of LUN ${lun} belongs to host ${marks.ownerHost}`)
  }
  const ownerHost = raised ? host : (marks.ownerHost ?? host)
  // An owner only gives slots out: an order of it that lacks one was overtaken by a later one, which stands.
  const isLate = ownerEpoch === marks.opened && !hasSlotsOf(layout, marks.layout)
  if (!isLate) draft.putLun(lun, { ...marks, owner: ownerEpoch, ownerHost, opened: ownerEpoch, layout })
  if (raised) draft.shutOut()
  const on = draft.idsOf(other => other.lun === lun && other.claim?.owner != null && other.claim.owner < ownerEpoch)
  const trace: EvidenceEvent | null = raised ? { kind: 'storage.owner', lun, owner: ownerEpoch } : null
  draft.wait({ on, next: { kind: 'answer', answer: { ticket, trace } } })
  return null
}

function createLun(draft: Draft, { ticket, lun, marks }: OrderOf<'create-lun'>): Refusal | null {
  if (draft.luns.has(lun))
    return refusal('lun-exists', `there is a LUN ${lun} already`, 'choose another name or delete it')
  if (draft.luns.size >= MAX_LUNS) return refusal('limit-reached', `this subsystem holds at most ${MAX_LUNS} LUNs`)
  draft.addLun(lun, marks)
  draft.wait({ on: new Set(), next: { kind: 'answer', answer: { ticket, trace: null } } })
  return null
}

function exposeLun(draft: Draft, { ticket, lun, open, masked, hosts }: OrderOf<'expose-lun'>): Refusal | null {
  const marks = draft.luns.get(lun)
  if (marks === undefined) return unknownLun(lun)
  draft.putLun(lun, { ...marks, open, masked, hosts: hosts === null ? null : [...hosts] })
  const shut = draft.shutOut()
  draft.wait({ on: shut, next: { kind: 'answer', answer: { ticket, trace: null } } })
  return null
}

function deleteLun(draft: Draft, { ticket, lun, id, force }: OrderOf<'delete-lun'>): Refusal | null {
  const marks = draft.luns.get(lun)
  if (marks === undefined || !isMeant(marks, id)) return unknownLun(lun)
  const on = draft.idsOf(other => other.lun === lun)
  if (on.size > 0 && !force) {
    return refusal('lun-busy', `LUN ${lun} has ${on.size} connections`, 'close them, or delete it with force')
  }
  draft.dropLun(lun)
  draft.shutOut()
  draft.wait({ on, next: { kind: 'answer', answer: { ticket, trace: { kind: 'storage.lun-deleted', lun } } } })
  return null
}

/** An order that was held up may come when the name is another LUN's. */
function isMeant({ id }: LunMarks, meant: string | null): boolean {
  return meant === null || meant === id || canary('late-lun-order-obeyed')
}

function unknownLun(lun: string): Refusal {
  return refusal('unknown-lun', `there is no LUN ${lun} here`, 'list them with storage.list-luns')
}
