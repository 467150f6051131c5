// The coordinator's one deciding actor: turns messages into inputs of the core, makes what it decided durable, then sends.
// It has no policy. The order is the contract: commit, and only then is anybody told.

import type { Beat } from '@stellwerk/protocol/messages/cluster.ts'
import type { ActorContext, Behavior, Message } from '@stellwerk/runtime/actors/message.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import type { Json, Store } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { isTaken } from './core/announce.ts'
import type { Command } from './core/commands.ts'
import { type Input, step } from './core/core.ts'
import { foreignGuardian, isForeignGuardian } from './core/guardians.ts'
import { whoHears, whoPassesOn } from './core/hosts.ts'
import { markAsOlder } from './core/load.ts'
import type { AgentHello } from './core/membership.ts'
import type { Effect } from './core/output.ts'
import type { CoordinatorState } from './core/state.ts'
import { outlineOf } from './replay/outline.ts'
import { COORDINATOR_CORE, type FedInput } from './replay/replay.ts'
import { snapshotOf } from './snapshot.ts'

export const DECIDER = 'coordinator/decider'

/** How often time alone may change what should be done. */
export const TICK_MS = 100

/** The exit status of a coordinator whose state is older than the cluster. */
export const EXIT_DEPOSED = 75
/** And of one that has seen a higher term than its own: it may be started again. */
export const EXIT_REPLACED = 76

/** Messages that the shell sends to the decider, besides those of the protocol. */
export type ShellMessage =
  | { readonly kind: 'shell.agent-down'; readonly body: { readonly host: string; readonly incarnation: number } }
  | { readonly kind: 'shell.command'; readonly body: { readonly command: Command } }

export interface DeciderParts {
  readonly state: CoordinatorState
  readonly store: Store
  /** Whether the storage's control link is up: if not, an agent with a path relays. */
  readonly reaches: (storage: string) => boolean
}

/** How much later a canary makes its decision durable than it tells of it. */
const CANARY_DELAY_MS = 5

export class Decider implements Behavior {
  readonly #parts: DeciderParts
  /** Orders under way: the seq of the message, and the key that the core knows it by. */
  readonly #keys = new Map<number, string>()
  /** Requests of the step under way: the core answers each in the step that takes it. */
  readonly #requests = new Map<number, Message>()

  constructor(parts: DeciderParts) {
    this.#parts = parts
  }

  started(context: ActorContext): void {
    context.env.trace.snapshot(COORDINATOR_CORE, snapshotOf(this.#parts.state))
    this.#tick(context)
  }

  receive(message: Message, context: ActorContext): void {
    if (message.re !== undefined) {
      this.#answered(message, message.re, context)
      return
    }
    if (message.kind === 'shell.tick') {
      this.#tick(context)
      return
    }
    const input = inputOf(message)
    if (input === null) {
      context.fail(message, new StellwerkError('unknown-kind', `the coordinator does not take ${message.kind}`))
      return
    }
    if ('request' in input) this.#requests.set(message.seq, message)
    this.#step(input, context)
    // `cluster.join` is answered by what the shell knows; everything else by the core.
    if (input.kind === 'agent-up') {
      const { host, guardian } = input.hello
      if (isForeignGuardian(this.#parts.state, host, guardian)) {
        const { code, message: why } = foreignGuardian(host)
        context.fail(message, new StellwerkError(code, why))
        return
      }
      const { term, settings } = this.#parts.state.cluster
      context.reply(message, { term, settings })
    }
  }

  #tick(context: ActorContext): void {
    this.#step({ kind: 'tick' }, context)
    context.after(TICK_MS, 'shell.tick', null)
  }

  #answered(message: Message, re: number, context: ActorContext): void {
    const key = this.#keys.get(re)
    if (key === undefined) return
    this.#keys.delete(re)
    if (message.error === undefined) {
      const relayed = message.kind === 'storage.relay' || message.kind === 'owner.relay'
      const body = relayed ? (message.body as { body: unknown }).body : message.body
      this.#step({ kind: 'answered', key, body }, context)
    } else {
      const { code, message: text } = message.error
      this.#step({ kind: 'unanswered', key, code, message: text }, context)
    }
  }

  #step(input: Input, context: ActorContext): void {
    const { state, store } = this.#parts
    const { env } = context
    const fed: FedInput = { now: env.clock.now(), wallMs: env.clock.wall(), input }
    env.trace.input(COORDINATOR_CORE, fed as unknown as Json)
    const output = step(state, input, fed.now, fed.wallMs)
    env.trace.output(COORDINATOR_CORE, () => outlineOf(output))
    const early = canary('commit-not-durable') && input.kind === 'migration-loaded'
    const late = canary('abort-before-durable') && output.effects.some(isAbort)
    if ((early || late) && output.changes.length > 0) {
      // Planted bug: tells first. The trace record of the durable decision comes when it is durable, as it should.
      const told = output.effects.filter(effect => effect.kind !== 'trace')
      const recorded = output.effects.filter(effect => effect.kind === 'trace')
      for (const effect of told) this.#carryOut(effect, context)
      env.timers.after(CANARY_DELAY_MS, () => {
        store.commit(output.changes)
        for (const effect of recorded) this.#carryOut(effect, context)
      })
      return
    }
    if (output.changes.length > 0) store.commit(output.changes)
    for (const effect of output.effects) this.#carryOut(effect, context)
  }

  #carryOut(effect: Effect, context: ActorContext): void {
    const { state } = this.#parts
    switch (effect.kind) {
      case 'order':
        this.#ask(effect.key, `${effect.host}/agent`, effect.message, effect.body, context)
        break
      case 'owner':
        this.#askOwner(effect, context)
        break
      case 'storage':
        this.#askStorage(effect, context)
        break
      case 'reply': {
        const request = this.#requests.get(effect.to)
        this.#requests.delete(effect.to)
        if (request !== undefined) context.reply(request, effect.body)
        break
      }
      case 'refuse': {
        const request = this.#requests.get(effect.to)
        this.#requests.delete(effect.to)
        const { code, message, hint } = effect
        if (request !== undefined)
          context.fail(request, new StellwerkError(code, message, hint === undefined ? {} : { hint }))
        break
      }
      case 'trace':
        context.env.trace.emit(effect.event)
        break
      case 'step-down':
        if (effect.forGood === true) markAsOlder(this.#parts.store, effect.why)
        context.env.log.error({ term: state.cluster.term }, `this coordinator must not decide any more: ${effect.why}`)
        context.env.processes.exit(effect.replaced === true ? EXIT_REPLACED : EXIT_DEPOSED)
        break
    }
  }

  #ask(key: string, to: string, kind: string, body: unknown, context: ActorContext): void {
    const { state } = this.#parts
    const { term, settings } = state.cluster
    // Agents keep the highest term that they hear: one of a run that may be an older state's would bar the newest's.
    const rank = isTaken(state) ? { term } : {}
    const seq = context.send(to, kind, body, { deadlineMs: settings.requestMs, ...rank })
    this.#keys.set(seq, key)
  }

  /** Directly, or where only its link to us is cut through an agent that hears it: else nothing of its volume could start. */
  #askOwner(effect: Extract<Effect, { kind: 'owner' }>, context: ActorContext): void {
    const { state } = this.#parts
    const { key, host, volume, message, body } = effect
    const cut = state.liveHosts.get(host)?.verdict === 'link-cut'
    const relay = cut ? whoHears(state, host, context.env.clock.now())[0] : undefined
    if (relay === undefined) this.#ask(key, `${host}/owner/${volume}`, message, body, context)
    else this.#ask(key, `${relay.name}/agent`, 'owner.relay', { owner: host, volume, kind: message, body }, context)
  }

  /** Directly, or where the control link is down through an agent that has a path (it passes it on as it is). */
  #askStorage(effect: Extract<Effect, { kind: 'storage' }>, context: ActorContext): void {
    const { state, reaches } = this.#parts
    const { key, storage, message, body } = effect
    const relay = reaches(storage) ? undefined : whoPassesOn(state, storage)
    if (relay === undefined) this.#ask(key, `${storage}/control`, message, body, context)
    else this.#ask(key, `${relay.name}/agent`, 'storage.relay', { storage, kind: message, body }, context)
  }
}

function isAbort(effect: Effect): boolean {
  return effect.kind === 'order' && effect.message === 'migration.abort'
}

/** The core's input for a message of the protocol or the shell; null for anything else. */
function inputOf(message: Message): Input | null {
  const request = message.seq
  const body = message.body as never
  switch (message.kind) {
    case 'cluster.join':
      return { kind: 'agent-up', hello: body as AgentHello }
    case 'shell.agent-down':
      return { kind: 'agent-down', ...(body as { host: string; incarnation: number }) }
    case 'shell.command':
      return { kind: 'command', request, command: (body as { command: Command }).command }
    case 'cluster.beat':
      return { kind: 'beat', request, beat: body as Beat }
    case 'guardian.attest':
      return { kind: 'attest', request, ...(body as Omit<Extract<Input, { kind: 'attest' }>, 'kind' | 'request'>) }
    case 'migration.progress':
      return { kind: 'migration-progress', ...(body as { migration: string; converged: boolean; round: number }) }
    case 'migration.loaded':
      return { kind: 'migration-loaded', request, message: body }
    case 'volume.leg-lost':
      return { kind: 'leg-lost', request, report: body }
    case 'migration.failed':
      return { kind: 'migration-failed', request, message: body }
    case 'migration.ask':
      return { kind: 'migration-ask', request, message: body }
    case 'migration.done':
      return { kind: 'migration-done', request, message: body }
    default:
      return null
  }
}
