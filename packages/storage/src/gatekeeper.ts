// Runs the admission core: commits what a decision changes, adopts the new state, then carries its effects out, one input
// at a time. What an effect leads to at once (a connection that has nothing to drain) waits for its turn in the queue.

import { assert } from '@stellwerk/runtime/assert.ts'
import type { Environment, Json } from '@stellwerk/runtime/environment.ts'
import { errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { decide, type Effect, type Input, MAX_CONNECTIONS } from './admission/decide.ts'
import type { AdmissionState, EvidenceEvent } from './admission/state.ts'

export type GateEffect = Exclude<Effect, { readonly kind: 'evidence' }>

export interface GateHooks {
  perform(effect: GateEffect): void
  /** The store would not take the decision on this input: nothing happened. */
  undecided(input: Input, error: StellwerkError): void
}

/** Inputs that an effect may lead to before it returns: each connection can end once. */
const MAX_QUEUED = 4 * MAX_CONNECTIONS

export class Gatekeeper {
  readonly #env: Environment
  readonly #storage: string
  readonly #hooks: GateHooks
  readonly #queue: Input[] = []
  #state: AdmissionState
  #deciding = false

  constructor(env: Environment, storage: string, state: AdmissionState, hooks: GateHooks) {
    this.#env = env
    this.#storage = storage
    this.#state = state
    this.#hooks = hooks
  }

  get state(): AdmissionState {
    return this.#state
  }

  submit(input: Input): void {
    assert(this.#queue.length < MAX_QUEUED, 'inputs of admission do not pile up')
    this.#queue.push(input)
    if (this.#deciding) return
    this.#deciding = true
    try {
      for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) this.#decide(next)
    } finally {
      this.#deciding = false
    }
  }

  #decide(input: Input): void {
    this.#env.trace.input('admission', input as unknown as Json)
    const { next, changes, effects } = decide(this.#state, input)
    if (changes.length > 0) {
      try {
        this.#env.store.commit(changes)
      } catch (error) {
        const message = `the storage can't keep this decision: ${errorMessage(error)}`
        this.#env.log.error({ storage: this.#storage, input: input.kind }, message)
        this.#hooks.undecided(input, new StellwerkError('store-failed', message, { retryable: true, cause: error }))
        return
      }
    }
    this.#state = next
    for (const effect of effects) {
      if (effect.kind === 'evidence') this.#record(effect.event)
      else this.#hooks.perform(effect)
    }
  }

  #record(event: EvidenceEvent): void {
    const { trace } = this.#env
    const storage = this.#storage
    switch (event.kind) {
      case 'storage.fenced': {
        const { kind, host, epoch, term } = event
        trace.emit({ level: 'decision', kind, host, body: { storage, epoch, term } })
        return
      }
      case 'storage.admitted': {
        const { kind, host, epoch } = event
        trace.emit({ level: 'decision', kind, host, body: { storage, epoch } })
        return
      }
      case 'storage.session': {
        const { kind, host, lun, session, owner } = event
        trace.emit({ level: 'decision', kind, host, volume: lun, body: { session: [...session], owner } })
        return
      }
      case 'storage.owner':
        trace.emit({ level: 'decision', kind: event.kind, volume: event.lun, body: { owner: event.owner } })
        return
      case 'storage.lun-deleted':
        trace.emit({ level: 'decision', kind: event.kind, volume: event.lun, body: { storage } })
        return
      default:
        trace.emit({ level: 'decision', kind: event.kind, volume: event.lun, body: { generation: event.generation } })
    }
  }
}
