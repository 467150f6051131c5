// NBD connections: each stream negotiates an export whose name says who it is; admission decides; the connection gets a
// gated device. Which streams there are is the server's business, what a LUN does the LUN's.

import {
  type NbdConnection,
  type NbdExport,
  type NbdExports,
  NbdRefusal,
  serveNbd,
} from '@stellwerk/block/nbd/server.ts'
import type { Layout } from '@stellwerk/protocol/messages/storage.ts'
import { assert, present } from '@stellwerk/runtime/assert.ts'
import type { ByteStream, Environment } from '@stellwerk/runtime/environment.ts'
import { MAX_CONNECTIONS } from './admission/decide.ts'
import { type ExportName, parseExportName } from './admission/export-name.ts'
import { judge } from './admission/judge.ts'
import { type Refusal, type RefusalCode, refusal } from './admission/refusal.ts'
import { GatedDevice, type Seen } from './gated-device.ts'
import type { Gatekeeper } from './gatekeeper.ts'
import type { Lun } from './lun/lun.ts'
import type { LunShelf } from './lun-shelf.ts'

/** What NBD has a word for; everything else is a matter of policy. */
const REPLIES: { readonly [code in RefusalCode]?: 'unknown' | 'invalid' | 'shutdown' } = {
  'unknown-lun': 'unknown',
  'bad-export-name': 'invalid',
  'lun-failed': 'shutdown',
}

interface Held {
  readonly name: ExportName
  readonly resolve: (opened: NbdExport) => void
  readonly reject: (error: NbdRefusal) => void
}

interface Serving {
  readonly device: GatedDevice
  readonly nbd: () => NbdConnection
}

export class Portal {
  readonly #env: Environment
  readonly #gate: Gatekeeper
  readonly #shelf: LunShelf
  readonly #seen: (host: string) => Seen
  readonly #streams = new Set<NbdConnection>()
  /** Handshakes that admission has not answered. */
  readonly #held = new Map<number, Held & { readonly nbd: () => NbdConnection }>()
  readonly #serving = new Map<number, Serving>()
  #nextConnection = 1
  #closing = false

  constructor(env: Environment, gate: Gatekeeper, shelf: LunShelf, seen: (host: string) => Seen) {
    this.#env = env
    this.#gate = gate
    this.#shelf = shelf
    this.#seen = seen
  }

  accept(stream: ByteStream): void {
    if (this.#closing || this.#streams.size >= MAX_CONNECTIONS) {
      stream.destroy()
      return
    }
    // Exports are opened when the client's options arrive, never within serveNbd.
    let connection: NbdConnection | null = null
    const nbd = (): NbdConnection => present(connection, 'the connection whose client chose an export')
    const mine = new Set<number>()
    const exports: NbdExports = {
      list: async () => this.#openLuns(),
      open: (name, peer, purpose) => this.#open(name, peer, purpose, nbd, mine),
    }
    connection = serveNbd(stream, exports, { timers: this.#env.timers })
    this.#streams.add(connection)
    void connection.closed.then(() => {
      this.#streams.delete(nbd())
      // A client that left while its handshake was held waits for nothing any more.
      for (const id of mine) if (this.#held.has(id)) this.#abandon(id)
    })
  }

  /** Carries out admission's word on a connection. */
  welcome(id: number): void {
    const held = present(this.#held.get(id), 'the handshake that is welcomed')
    this.#held.delete(id)
    const { claim, lun: name } = held.name
    const lun = this.#shelf.get(name)
    if (typeof lun === 'string') {
      held.reject(refusalReply(refusal('lun-failed', `LUN ${name}: ${lun}`)))
      this.#gate.submit({ kind: 'drained', connection: id })
      return
    }
    const device = new GatedDevice({
      env: this.#env,
      lun,
      name,
      claim,
      seen: claim === null ? null : this.#seen(claim.host),
      layout: () => this.#layout(name),
      onDrained: () => {
        this.#serving.delete(id)
        this.#gate.submit({ kind: 'drained', connection: id })
      },
    })
    this.#serving.set(id, { device, nbd: held.nbd })
    held.resolve({
      device,
      description: describe(held.name),
      released: () => device.shut(refusal('gone', 'the connection is over')),
    })
  }

  refuse(id: number, why: Refusal): void {
    const held = this.#held.get(id)
    this.#held.delete(id)
    held?.reject(refusalReply(why))
  }

  drain(id: number, why: Refusal): void {
    const serving = present(this.#serving.get(id), 'the connection that is shut out')
    this.#env.log.info({ connection: id, peer: serving.nbd().peer, code: why.code }, why.message)
    // First the gate: from here on nothing starts. Then the stream, whose end tells the client.
    serving.device.shut(why)
    void serving.nbd().shutdown(why.message)
  }

  get streams(): number {
    return this.#streams.size
  }

  async close(): Promise<void> {
    this.#closing = true
    await Promise.all([...this.#streams].map(nbd => nbd.shutdown('the storage is shutting down')))
    assert(this.#serving.size === 0, 'closed connections have drained')
  }

  #open(
    text: string,
    peer: string,
    purpose: 'transmission' | 'info',
    nbd: () => NbdConnection,
    mine: Set<number>,
  ): Promise<NbdExport> {
    const name = parseExportName(text)
    if ('code' in name) return Promise.reject(refusalReply(name))
    const lun = this.#shelf.get(name.lun)
    // Admission speaks first: who may not see a LUN need not know how it is.
    const refused = judge(this.#gate.state, name.lun, name.claim)
    if (refused !== null) {
      this.#env.log.info({ peer, code: refused.code }, refused.message)
      return Promise.reject(refusalReply(refused))
    }
    if (typeof lun === 'string') return Promise.reject(refusalReply(refusal('lun-failed', `LUN ${name.lun}: ${lun}`)))
    if (purpose === 'info') return Promise.resolve(this.#look(name, lun))
    const id = this.#nextConnection
    this.#nextConnection += 1
    mine.add(id)
    return new Promise((resolve, reject) => {
      this.#held.set(id, { name, resolve, reject, nbd })
      this.#gate.submit({ kind: 'connect', connection: id, name })
    })
  }

  /** A device to be described, not used: it raises no mark, and lets nothing pass. */
  #look(name: ExportName, lun: Lun): NbdExport {
    const device = new GatedDevice({
      env: this.#env,
      lun,
      name: name.lun,
      claim: name.claim,
      seen: null,
      layout: () => this.#layout(name.lun),
      onDrained: () => undefined,
    })
    device.shut(refusal('gone', 'this export was only looked at'))
    return { device, description: describe(name), released: () => undefined }
  }

  #abandon(id: number): void {
    this.refuse(id, refusal('gone', 'the client left during its handshake'))
    this.#gate.submit({ kind: 'drained', connection: id })
  }

  #layout(lun: string): Layout | null {
    return this.#gate.state.luns.get(lun)?.layout ?? null
  }

  #openLuns(): { name: string; description: string }[] {
    return [...this.#gate.state.luns]
      .filter(([, marks]) => marks.open && !marks.masked)
      .map(([lun]) => ({ name: lun, description: describe({ lun, claim: null }) }))
      .sort((a, b) => (a.name < b.name ? -1 : 1))
  }
}

function describe({ lun, claim }: ExportName): string {
  if (claim === null) return `LUN ${lun}`
  return `LUN ${lun} for host ${claim.host}${claim.owner === null ? '' : `, as owner ${claim.owner}`}`
}

function refusalReply(why: Refusal): NbdRefusal {
  const text = why.hint === undefined ? why.message : `${why.message}; ${why.hint}`
  return new NbdRefusal(REPLIES[why.code] ?? 'policy', text)
}
