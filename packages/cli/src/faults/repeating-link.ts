// The fault by which requests come twice (B10), on one link. A connection never repeats or reorders what it carries; senders do: whoever
// hears nothing asks again. So of a control link a request is now and then delivered a second time, a little later and
// among whatever came meanwhile, the first answer is lost, and the sender hears the second: exactly what it sees when it
// asks again itself, only far more often. Only what senders do ask again is repeated.
//
// It stands between a process and its links, and counts messages anew where it adds or drops one.

import { packr } from '@stellwerk/protocol/msgpack.ts'
import { assert, present } from '@stellwerk/runtime/assert.ts'
import type { Link, Timers } from '@stellwerk/runtime/environment.ts'

/** The places of an envelope's fields on the wire, as in protocol/codec.ts. */
const KIND = 1
const SEQ = 4
const RE = 5
const DEADLINE_MS = 9

/** Beats, probes, typed lines and handshakes are sent once each: the next one says more than a repetition would. */
const NEVER_REPEATED =
  /^(session\.|console\.|cluster\.beat$|cluster\.peer-beat$|vm\.input$|storage\.probe$|migration\.progress$)/
/** The second one comes at most so much later: well within what its sender waits for an answer. */
export const LATER_MAX_MS = 800
/** Requests of one link whose numbers are remembered for an answer. */
const NUMBERS_MAX = 8_192

/** Number → number, the newest kept. */
class Numbers {
  readonly #of = new Map<number, number>()

  set(from: number, to: number): void {
    this.#of.set(from, to)
    if (this.#of.size <= NUMBERS_MAX) return
    for (const oldest of this.#of.keys()) {
      this.#of.delete(oldest)
      break
    }
  }

  get(from: number): number {
    return present(this.#of.get(from), `message ${from}, which is answered`)
  }
}

/** `laterMs`, asked for each request that comes: after how long it comes again; null: not. */
export function repeating(link: Link, timers: Timers, laterMs: () => number | null): Link {
  // The process counts what it gets and sends; the wire counts what really travels.
  let got = 0
  let sent = 0
  /** Of what came: the process's number → the wire's. Of what goes: the wire's → the process's. */
  const came = new Numbers()
  const went = new Numbers()
  /** By the process's number: what came twice, and the answer to the first is lost. */
  const unheard = new Set<number>()
  let closed = false

  const deliver = (f: (frame: Uint8Array) => void | Promise<void>, fields: readonly unknown[], wire: number) => {
    got++
    came.set(got, wire)
    return f(packr.pack(fields.with(SEQ, got)))
  }

  return {
    class: link.class,
    peer: link.peer,
    trySend: frames => {
      const out: Uint8Array[] = []
      const lost: number[] = []
      const mine: number[] = []
      for (const frame of frames) {
        const fields = fieldsOf(frame)
        const re = fields[RE]
        if (typeof re === 'number' && unheard.has(re)) {
          lost.push(re)
          continue
        }
        mine.push(fields[SEQ] as number)
        const renumbered = fields.with(SEQ, sent + mine.length)
        out.push(packr.pack(typeof re === 'number' ? renumbered.with(RE, came.get(re)) : renumbered))
      }
      if (out.length > 0 && !link.trySend(out)) return false
      for (const number of mine) went.set(++sent, number)
      for (const number of lost) unheard.delete(number)
      return true
    },
    onCredit: f => link.onCredit(f),
    onFrame: f =>
      link.onFrame(frame => {
        const fields = fieldsOf(frame)
        const wire = fields[SEQ] as number
        const re = fields[RE]
        if (typeof re === 'number') return deliver(f, fields.with(RE, went.get(re)), wire)
        const repeated = fields[DEADLINE_MS] !== null && !NEVER_REPEATED.test(fields[KIND] as string)
        const later = repeated ? laterMs() : null
        if (later !== null) {
          unheard.add(got + 1)
          timers.after(later, () => {
            if (!closed) void deliver(f, fields, wire)
          })
        }
        return deliver(f, fields, wire)
      }),
    onClose: f =>
      link.onClose((code, reason) => {
        closed = true
        f(code, reason)
      }),
    close: (code, reason) => {
      closed = true
      link.close(code, reason)
    },
  }
}

function fieldsOf(frame: Uint8Array): readonly unknown[] {
  const fields: unknown = packr.unpack(frame)
  assert(Array.isArray(fields), 'a frame of a session is an array')
  return fields
}
