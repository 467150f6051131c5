import { Bench } from '@stellwerk/coordinator/core/testing.ts'
import type { ClusterEvent } from '@stellwerk/coordinator/view/schemas.ts'
import { statusOf } from '@stellwerk/coordinator/view/status.ts'
import { describe, expect, it } from 'vitest'
import { EVENTS_KEPT, essence, happened, heardAnew, NOTHING_KNOWN, newEvents } from './known.ts'

const event = (seq: number, wallMs = seq): ClusterEvent => ({
  ...{ seq, wallMs, kind: 'vm.started', subject: 'web', text: `event ${seq}` },
})
const seqs = (events: readonly ClusterEvent[]) => events.map(({ seq }) => seq)

describe('what is known', () => {
  it('has each event once, though a stream and a question tell them both, and only the last ones', () => {
    const known = happened(heardAnew(NOTHING_KNOWN, [event(1), event(2)]), [event(2), event(3)])
    expect(seqs(known.events)).toEqual([1, 2, 3])
    const many = Array.from({ length: EVENTS_KEPT + 50 }, (_, n) => event(n + 4))
    expect(happened(known, many).events).toHaveLength(EVENTS_KEPT)
  })

  it('tells what is new, also of a coordinator that has started anew and counts anew', () => {
    const before = heardAnew(NOTHING_KNOWN, [event(1), event(2), event(3)])
    expect(seqs(newEvents(before, null, 2))).toEqual([2, 3])
    expect(seqs(newEvents(before, event(2), 2))).toEqual([3])
    const anew = heardAnew(before, [event(1, 2), event(2, 50)])
    expect(seqs(newEvents(anew, event(3), 2))).toEqual([2])
  })

  it('is essentially the same while only time passes, and not when anything else does', () => {
    const bench = Bench.cluster()
    const first = essence(statusOf(bench.state, bench.now))
    bench.round(3)
    expect(essence(statusOf(bench.state, bench.now))).toBe(first)
    bench.command({ kind: 'vm-migrate', name: 'web', to: null, id: 'm1' })
    expect(essence(statusOf(bench.state, bench.now))).not.toBe(first)
  })
})
