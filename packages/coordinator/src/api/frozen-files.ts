// A snapshot of a disk that a VM runs with, made while the guest's file systems stand still where an agent in it does that. Where it
// does not, or not in time, the snapshot is what a crash would have left at that moment, and that is said of it.

import type { FreezeAnswer } from '@stellwerk/protocol/messages/guest-agent.ts'
import { describeError } from '@stellwerk/runtime/errors.ts'
import { guestFactsOf } from '../core/guest-facts.ts'
import type { Placement, VmRecord } from '../core/state.ts'
import type { ApiContext } from './route.ts'

/** So long a guest may take to write down what it has in memory. */
const FREEZE_MS = 10_000
const LOOK_MS = 50
/** Until its host lets it go by itself: longer than an owner takes for a snapshot, shorter than a guest's own patience. */
const HOLD_MS = 5_000

/** `idle`: nobody ran with it. */
export const CONSISTENCIES = ['application-consistent', 'crash-consistent', 'idle'] as const

export interface Consistency {
  readonly consistency: (typeof CONSISTENCIES)[number]
  /** Why it is no better; null: it is as good as it can be. */
  readonly why: string | null
}

export interface DiskUse {
  /** The VM that has the disk, if any does. */
  readonly vm: VmRecord | null
  /** A host has it open, for whatever. */
  readonly isOpen: boolean
  /** Its guest is to be asked. */
  readonly mayFreeze: boolean
}

/** What `work` throws is thrown, once the guest is let go. */
export async function whileFrozen<T>(
  context: ApiContext,
  { vm, isOpen, mayFreeze }: DiskUse,
  work: () => Promise<T>,
): Promise<{ readonly result: T } & Consistency> {
  const crash = async (why: string) => ({ result: await work(), consistency: 'crash-consistent' as const, why })
  const placement = vm?.placement ?? null
  if (vm === null || placement === null) {
    if (isOpen) return crash('a host has it open, and no VM runs with it')
    return { result: await work(), consistency: 'idle', why: null }
  }
  if (!mayFreeze) return crash('it was not to be asked')
  if (guestFactsOf(context.coordinator.state, vm) === null) return crash('no agent answers in its guest')
  const files = new FrozenFiles(context, vm.name, placement)
  let whyNot: string | null = 'it was not frozen'
  let held = false
  let result: T
  try {
    whyNot = await files.freeze()
    result = await work()
  } finally {
    held = await files.thaw()
  }
  if (whyNot === null && held) return { result, consistency: 'application-consistent', why: null }
  return { result, consistency: 'crash-consistent', why: whyNot ?? 'its guest was let go before it was made' }
}

class FrozenFiles {
  readonly #context: ApiContext
  readonly #host: string
  readonly #order: object

  constructor(context: ApiContext, vm: string, { host, epoch, incarnation }: Placement) {
    this.#context = context
    this.#host = host
    this.#order = { vm, host, epoch, incarnation, freeze: context.env.random.id() }
  }

  /** Null: they stand still; else why they do not. */
  async freeze(): Promise<string | null> {
    const { env, coordinator } = this.#context
    const until = env.clock.now() + FREEZE_MS
    try {
      for (;;) {
        const order = { ...this.#order, holdMs: HOLD_MS }
        const { state, why } = (await coordinator.askAgent(this.#host, 'vm.freeze-files', order)) as FreezeAnswer
        if (state === 'frozen') return null
        if (state === 'failed') return why ?? 'its agent did not freeze it'
        if (env.clock.now() >= until) return `it was not frozen within ${FREEZE_MS} ms`
        await new Promise<void>(resolve => void env.timers.after(LOOK_MS, resolve))
      }
    } catch (error) {
      // The snapshot is made all the same.
      return describeError(error)
    }
  }

  /** True: until now they stood still. Where nobody answers their host lets them go by itself. */
  async thaw(): Promise<boolean> {
    const { env, coordinator } = this.#context
    try {
      const { held } = (await coordinator.askAgent(this.#host, 'vm.thaw-files', this.#order)) as { held: boolean }
      return held
    } catch (error) {
      env.log.warn({ host: this.#host }, `a guest’s files were not thawed by order: ${describeError(error)}`)
      return false
    }
  }
}
