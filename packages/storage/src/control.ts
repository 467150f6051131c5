// The control family, answered: each message becomes an input of admission, and its answer waits until that says so. Links
// and sessions are the server's; here is what a message means.

import type { Body, ReplyBody } from '@stellwerk/protocol/messages/family.ts'
import { type LunMarks, type LunShown, storageFamily } from '@stellwerk/protocol/messages/storage.ts'
import { assert, present } from '@stellwerk/runtime/assert.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import type { Environment } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { MAX_WAITS, type Order } from './admission/decide.ts'
import { isName } from './admission/export-name.ts'
import { judgeEpoch } from './admission/judge.ts'
import { type Refusal, refusal, refusalError } from './admission/refusal.ts'
import type { AdmissionState } from './admission/state.ts'
import { NEVER } from './admission/state.ts'
import type { Seen } from './gated-device.ts'
import type { Gatekeeper } from './gatekeeper.ts'
import { MAX_LUN_BYTES, MIN_LUN_BYTES } from './lun/lun.ts'
import type { LunShelf } from './lun-shelf.ts'

type Messages = typeof storageFamily.messages
export type StorageKind = keyof Messages & string
export type StorageBody<K extends StorageKind> = Body<Messages, K>
export type StorageReply<K extends StorageKind> = ReplyBody<Messages, K>

/** An order is late by seconds. */
const DELETED_MAX = 1_024

type NewOrder = Order extends infer O ? (O extends Order ? Omit<O, 'ticket'> : never) : never

interface Ticket {
  readonly resolve: () => void
  readonly reject: (error: StellwerkError) => void
}

export class Control {
  readonly #env: Environment
  readonly #name: string
  readonly #gate: Gatekeeper
  readonly #shelf: LunShelf
  readonly #seen: Map<string, Seen>
  readonly #startedAt: number
  readonly #tickets = new Map<number, Ticket>()
  /** Ids of LUNs that this run has deleted, and their names: an order to make one of them is late. */
  readonly #deleted = new Map<string, string>()
  #nextTicket = 1
  /** LUNs are made and removed one after the other. */
  #lunWork: Promise<void> = Promise.resolve()

  constructor(env: Environment, name: string, gate: Gatekeeper, shelf: LunShelf, seen: Map<string, Seen>) {
    this.#env = env
    this.#name = name
    this.#gate = gate
    this.#shelf = shelf
    this.#seen = seen
    this.#startedAt = env.clock.now()
  }

  /** Rejects with the refusal's code. The body has been checked against its schema. */
  handle<K extends StorageKind>(kind: K, body: StorageBody<K>): Promise<StorageReply<K>>
  async handle(kind: StorageKind, body: unknown): Promise<unknown> {
    const message = { kind, body }
    switch (kind) {
      case 'storage.probe':
        return this.#probe(storageFamily.body(kind, message))
      case 'storage.seen':
        return this.#seenReply(storageFamily.body(kind, message).host)
      case 'storage.coordinator': {
        const { term, run, revision } = storageFamily.body(kind, message)
        await this.#order({ kind: 'coordinator', term, run, revision })
        // As it is now: what was asked later may be known already.
        const { state } = this.#gate
        return { storage: this.#name, term: state.term, run: state.run, revision: state.revision }
      }
      case 'storage.fence': {
        const { host, epoch, term } = storageFamily.body(kind, message)
        await this.#order({ kind: 'fence', host, epoch, term })
        return this.#seenReply(host)
      }
      case 'storage.admit': {
        const { host, epoch, term } = storageFamily.body(kind, message)
        await this.#order({ kind: 'admit', host, epoch, term })
        return { storage: this.#name, ...(this.#gate.state.hosts.get(host) ?? NEVER) }
      }
      case 'storage.generation': {
        const { lun, lunId = null, generation, id, legs, term } = storageFamily.body(kind, message)
        await this.#order({ kind: 'generation', lun, lunId, generation, id: id ?? null, legs, term })
        return { generation, legs }
      }
      case 'storage.layout': {
        const body = storageFamily.body(kind, message)
        const { lun, lunId = null, ownerEpoch, host = null, epoch = null, ...layout } = body
        await this.#order({ kind: 'layout', lun, lunId, ownerEpoch, host, epoch, layout })
        return {}
      }
      case 'storage.opened': {
        const { lun, lunId } = storageFamily.body(kind, message)
        const { id, opened, why } = this.#lun(lun)
        if (lunId !== undefined && lunId !== id) {
          throw refusalError(refusal('unknown-lun', `there is no LUN ${lun} with the id ${lunId} here`))
        }
        if (why !== null) throw refusalError(refusal('lun-failed', `LUN ${lun}: ${why}`))
        return { opened: opened ?? 0 }
      }
      case 'storage.create-lun':
        return this.#inLine(() => this.#createLun(storageFamily.body(kind, message)))
      case 'storage.expose-lun': {
        const { lun, ...change } = storageFamily.body(kind, message)
        const marks = this.#gate.state.luns.get(lun)
        if (marks === undefined) throw refusalError(refusal('unknown-lun', `there is no LUN ${lun} here`))
        const { open = marks.open, masked = marks.masked, hosts = marks.hosts } = change
        await this.#order({ kind: 'expose-lun', lun, open, masked, hosts })
        return this.#lun(lun)
      }
      case 'storage.delete-lun':
        return this.#inLine(() => this.#deleteLun(storageFamily.body(kind, message)))
      case 'storage.list-luns':
        return { luns: this.#luns(storageFamily.body(kind, message).lun) }
      case 'storage.status':
        return this.#status()
      default:
        throw new StellwerkError('unknown-kind', `a storage does not answer ${kind}`)
    }
  }

  // --- admission's word on orders ----------------------------------------------------------------------------------------

  answer(ticket: number): void {
    this.#take(ticket).resolve()
  }

  reject(ticket: number, why: Refusal): void {
    this.#take(ticket).reject(refusalError(why))
  }

  fail(ticket: number, error: StellwerkError): void {
    this.#take(ticket).reject(error)
  }

  #take(ticket: number): Ticket {
    const taken = present(this.#tickets.get(ticket), 'the order that is answered')
    this.#tickets.delete(ticket)
    return taken
  }

  #order(order: NewOrder): Promise<void> {
    assert(this.#tickets.size <= MAX_WAITS, 'admission bounds the orders that wait')
    const ticket = this.#nextTicket
    this.#nextTicket += 1
    return new Promise((resolve, reject) => {
      this.#tickets.set(ticket, { resolve, reject })
      this.#gate.submit({ ...order, ticket } as Order)
    })
  }

  // --- hosts ---------------------------------------------------------------------------------------------------------------

  /** From memory, whatever the disks do. */
  #probe({ host, epoch, luns }: StorageBody<'storage.probe'>): StorageReply<'storage.probe'> {
    const refused = judgeEpoch(this.#gate.state, host, epoch)
    if (refused !== null) throw refusalError(refused)
    this.seenOf(host).at = this.#env.clock.now()
    const behind = luns.flatMap(({ lun, generation }) => {
      const marks = this.#gate.state.luns.get(lun)
      if (marks === undefined || marks.generation === generation) return []
      return [{ lun, generation: marks.generation, legs: marks.legs }]
    })
    if (behind.length > 0) return { storage: this.#name, behind }
    this.#env.trace.emit({ level: 'message', kind: 'storage.probed', host, body: { storage: this.#name, epoch } })
    return { storage: this.#name, behind: [] }
  }

  /** Only of hosts that have been admitted: admission bounds how many there are. */
  seenOf(host: string): Seen {
    let seen = this.#seen.get(host)
    if (seen === undefined) {
      seen = { at: null }
      this.#seen.set(host, seen)
    }
    return seen
  }

  #lastSeenMs(host: string): number | null {
    const at = this.#seen.get(host)?.at ?? null
    return at === null ? null : Math.max(0, this.#env.clock.now() - at)
  }

  #seenReply(host: string): StorageReply<'storage.seen'> {
    const { admitted, fenced } = this.#gate.state.hosts.get(host) ?? NEVER
    return { storage: this.#name, admitted, fenced, lastSeenMs: this.#lastSeenMs(host) }
  }

  // --- LUNs ----------------------------------------------------------------------------------------------------------------

  async #createLun(body: StorageBody<'storage.create-lun'>): Promise<LunShown> {
    const { lun, sizeBytes, open = false, hosts = null } = body
    assert(isName(lun), 'the schema lets only names through')
    if (sizeBytes < MIN_LUN_BYTES || sizeBytes > MAX_LUN_BYTES || sizeBytes % MIN_LUN_BYTES !== 0) {
      const range = `${MIN_LUN_BYTES} to ${MAX_LUN_BYTES}`
      throw refusalError(
        refusal('bad-size', `a LUN has ${range} bytes, a multiple of ${MIN_LUN_BYTES}; not ${sizeBytes}`),
      )
    }
    const existing = this.#gate.state.luns.get(lun)
    if (
      existing !== undefined &&
      body.id !== undefined &&
      existing.id === body.id &&
      existing.sizeBytes === sizeBytes
    ) {
      return this.#lun(lun)
    }
    const id = body.id ?? this.#env.random.id()
    if (this.#deleted.has(id) && !canary('late-lun-order-obeyed')) {
      throw refusalError(refusal('lun-deleted', `LUN ${this.#deleted.get(id)} with the id ${id} was deleted here`))
    }
    const taken = [...this.#gate.state.luns].find(([, marks]) => marks.id === id)
    if (existing !== undefined || taken !== undefined) {
      const why = existing === undefined ? `the id ${id} is LUN ${taken?.[0]}'s` : `there is a LUN ${lun} already`
      throw refusalError(refusal('lun-exists', why, 'choose another name or delete it'))
    }
    const marks: LunMarks = {
      id,
      sizeBytes,
      open,
      masked: false,
      hosts: hosts === null ? null : [...hosts],
      generation: 0,
      generationId: null,
      legs: {},
      owner: 0,
      ownerHost: null,
      layout: null,
    }
    // Files first: a record without files would be a LUN that lost its data. Files without a record go at the next start,
    // since a note says that they were being made.
    await this.#shelf.create(lun, { id, sizeBytes })
    try {
      await this.#order({ kind: 'create-lun', lun, marks })
    } catch (error) {
      await this.#shelf.remove(lun)
      throw error
    }
    return this.#lun(lun)
  }

  async #deleteLun({ lun, id, force = false }: StorageBody<'storage.delete-lun'>): Promise<Record<string, never>> {
    const meant = id ?? this.#gate.state.luns.get(lun)?.id
    // Before it is known whether it is here: the order to make it may be held up still.
    if (id !== undefined) this.#remember(id, lun)
    await this.#order({ kind: 'delete-lun', lun, id: id ?? null, force })
    if (meant !== undefined) this.#remember(meant, lun)
    await this.#shelf.remove(lun)
    return {}
  }

  #remember(id: string, lun: string): void {
    this.#deleted.set(id, lun)
    if (this.#deleted.size <= DELETED_MAX) return
    const oldest = this.#deleted.keys().next()
    if (oldest.done !== true) this.#deleted.delete(oldest.value)
  }

  #inLine<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#lunWork.then(work)
    // Its failure is its caller's; the next in line is not concerned.
    this.#lunWork = done.then(
      () => undefined,
      () => undefined,
    )
    return done
  }

  #luns(only?: string): LunShown[] {
    const known = [...this.#gate.state.luns.keys()].sort()
    return known.filter(lun => only === undefined || lun === only).map(lun => this.#lun(lun))
  }

  #lun(lun: string): LunShown {
    const marks = this.#gate.state.luns.get(lun)
    if (marks === undefined) throw refusalError(refusal('unknown-lun', `LUN ${lun} was deleted meanwhile`))
    const found = this.#shelf.get(lun)
    const why = typeof found === 'string' ? found : null
    return {
      lun,
      ...marks,
      state: why === null ? 'up' : 'failed',
      why,
      allocatedBytes: this.#shelf.allocatedBytes(lun),
      connections: count(this.#gate.state, connection => connection.lun === lun),
    }
  }

  #status(): StorageReply<'storage.status'> {
    const { state } = this.#gate
    return {
      storage: this.#name,
      term: state.term,
      uptimeMs: this.#env.clock.now() - this.#startedAt,
      hosts: [...state.hosts.keys()].sort().map(host => ({
        host,
        ...(state.hosts.get(host) ?? NEVER),
        lastSeenMs: this.#lastSeenMs(host),
        connections: count(state, connection => connection.claim?.host === host),
      })),
      luns: this.#luns(),
      waiting: state.waits.length,
    }
  }
}

function count(
  state: AdmissionState,
  wanted: (connection: { lun: string; claim: { host: string } | null }) => boolean,
): number {
  let found = 0
  for (const connection of state.connections.values()) if (wanted(connection)) found += 1
  return found
}
