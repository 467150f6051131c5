// Is a finished history of one object linearizable? The search of Wing and Gong with Lowe's memo of (what is done,
// state). It judges whole histories, of a register with reads, writes and compare-and-sets unless told another model,
// and is the yardstick for register-judge.ts, which judges disks' sectors while they run; it is not itself on the
// simulator's hot path.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'

export type RegisterCall<V> =
  | { readonly kind: 'read'; readonly value: V }
  | { readonly kind: 'write'; readonly value: V }
  | { readonly kind: 'cas'; readonly expected: V; readonly value: V }

/** How an object behaves when nothing is concurrent. States are compared by `===`. */
export interface Model<State, Call> {
  readonly initial: State
  /** The state after the call, or REFUSED if the call cannot have had the result it had. */
  apply(state: State, call: Call): State | typeof REFUSED
  /** A call that changes nothing: of unknown outcome it says nothing. */
  isRead(call: Call): boolean
}

export const REFUSED: unique symbol = Symbol('refused')

export function register<V>(initial: V): Model<V, RegisterCall<V>> {
  return {
    initial,
    apply(state, call) {
      if (call.kind === 'write') return call.value
      if (call.kind === 'read') return state === call.value ? state : REFUSED
      return state === call.expected ? call.value : REFUSED
    },
    isRead: call => call.kind === 'read',
  }
}

/**
 * What a client asked and, for a read, got. `invoked` and `returned` order the events of a history: all of them differ.
 * `returned: null`: the outcome is unknown, the call may take effect at any time after `invoked` or never. A call that
 * failed without effect does not belong in a history.
 */
export interface Operation<Call> {
  readonly call: Call
  readonly invoked: number
  readonly returned: number | null
}

/** Steps of the search after which it gives up with `search-too-large`; the 102 known histories take a few thousand. */
const MAX_STEPS = 20_000_000

interface Entry<Call> {
  readonly operation: number
  readonly call: Call | null
  /** The return of a call's entry; null when there is none. */
  match: Entry<Call> | null
  previous: Entry<Call> | null
  next: Entry<Call> | null
}

/**
 * Sound and complete: true exactly if there is an order of the completed operations and some of the unknown ones that
 * keeps real time and which the model can go through.
 */
export function isLinearizable<State, Call>(
  operations: readonly Operation<Call>[],
  model: Model<State, Call>,
): boolean {
  const history = operations.filter(each => each.returned !== null || !model.isRead(each.call))
  const head = linkEntries(history)
  let pending = history.reduce((count, each) => count + (each.returned === null ? 0 : 1), 0)
  const done = new Done(history.length)
  const seen = new Memo<State>()
  const undo: { readonly entry: Entry<Call>; readonly state: State }[] = []
  let state = model.initial
  let entry = head.next
  for (let steps = 0; pending > 0; steps++) {
    if (steps > MAX_STEPS) {
      throw new StellwerkError(
        'search-too-large',
        `the history of ${operations.length} operations is too concurrent to judge`,
      )
    }
    // A return is always ahead while something is pending, so the list cannot end here.
    const current = entry!
    if (current.call !== null) {
      const after = model.apply(state, current.call)
      if (after !== REFUSED) {
        done.flip(current.operation)
        if (seen.add(done, after)) {
          undo.push({ entry: current, state })
          state = after
          lift(current)
          if (current.match !== null) pending--
          entry = head.next
          continue
        }
        done.flip(current.operation)
      }
      entry = current.next
      continue
    }
    // Something returned that is not linearized yet: the last choice was wrong.
    const last = undo.pop()
    if (last === undefined) return false
    state = last.state
    done.flip(last.entry.operation)
    unlift(last.entry)
    if (last.entry.match !== null) pending++
    entry = last.entry.next
  }
  return true
}

function linkEntries<Call>(history: readonly Operation<Call>[]): Entry<Call> {
  const events: { readonly at: number; readonly entry: Entry<Call> }[] = []
  for (const [operation, { call, invoked, returned }] of history.entries()) {
    const entry: Entry<Call> = { operation, call, match: null, previous: null, next: null }
    events.push({ at: invoked, entry })
    if (returned === null) continue
    entry.match = { operation, call: null, match: null, previous: null, next: null }
    events.push({ at: returned, entry: entry.match })
  }
  events.sort((a, b) => a.at - b.at)
  const head: Entry<Call> = { operation: -1, call: null, match: null, previous: null, next: null }
  let last = head
  for (const { entry } of events) {
    last.next = entry
    entry.previous = last
    last = entry
  }
  return head
}

/** Takes a call and its return out of the list. */
function lift<Call>(entry: Entry<Call>): void {
  unlink(entry)
  if (entry.match !== null) unlink(entry.match)
}

function unlift<Call>(entry: Entry<Call>): void {
  if (entry.match !== null) relink(entry.match)
  relink(entry)
}

function unlink<Call>(entry: Entry<Call>): void {
  entry.previous!.next = entry.next
  if (entry.next !== null) entry.next.previous = entry.previous
}

function relink<Call>(entry: Entry<Call>): void {
  entry.previous!.next = entry
  if (entry.next !== null) entry.next.previous = entry
}

/** The set of linearized operations, with a hash kept as it changes. */
class Done {
  readonly words: Uint32Array
  hash = 0

  constructor(size: number) {
    this.words = new Uint32Array(Math.ceil(size / 32))
  }

  flip(bit: number): void {
    this.words[bit >>> 5]! ^= 1 << (bit & 31)
    let mixed = Math.imul(bit + 1, 0x9e3779b1)
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x85ebca77)
    this.hash ^= mixed ^ (mixed >>> 13)
  }
}

/** Configurations that were tried: from an equal one nothing new can come. */
class Memo<State> {
  readonly #seen = new Map<number, { readonly words: Uint32Array; readonly state: State }[]>()

  /** False if it was there. */
  add(done: Done, state: State): boolean {
    const bucket = this.#seen.get(done.hash)
    if (bucket === undefined) {
      this.#seen.set(done.hash, [{ words: done.words.slice(), state }])
      return true
    }
    for (const each of bucket) if (each.state === state && equal(each.words, done.words)) return false
    bucket.push({ words: done.words.slice(), state })
    return true
  }
}

function equal(a: Uint32Array, b: Uint32Array): boolean {
  for (let index = 0; index < a.length; index++) if (a[index] !== b[index]) return false
  return true
}
