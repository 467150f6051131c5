// How often the coordinator is asked, and what becomes of it when it goes and comes back. Over real links test/processes has it.

import { Bench } from '@stellwerk/coordinator/core/testing.ts'
import type { ClusterEvent } from '@stellwerk/coordinator/view/schemas.ts'
import { statusOf } from '@stellwerk/coordinator/view/status.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { describe, expect, it } from 'vitest'
import type { AgentsView } from '../cluster/agents-view.ts'
import type { Known } from './known.ts'
import { Watcher } from './watcher.ts'

const AGENTS: AgentsView = { coordinator: 'away', hosts: {}, vms: {}, volumes: {}, paths: {} }

/** A watcher, a clock that is moved by hand, and a coordinator that counts what it is asked. */
function bench(options: { readonly remote?: boolean } = {}) {
  const cluster = Bench.cluster()
  const asked = { status: 0, events: 0, follow: 0, agents: 0 }
  const coordinator = { there: true, past: [] as ClusterEvent[], full: false }
  let now = 0
  let stream: { readonly onEvent: (event: ClusterEvent) => void; readonly onEnd: () => void } | null = null
  let seen: Known | null = null
  const away = () => new StellwerkError('coordinator-away', 'nothing listens there')
  const watcher = new Watcher({
    intervalMs: 1_000,
    now: () => now,
    source: async () => ({
      status: async () => {
        asked.status += 1
        if (!coordinator.there) throw away()
        return statusOf(cluster.state, cluster.now)
      },
      events: async () => {
        asked.events += 1
        return coordinator.past
      },
      follow: async (onEvent, onEnd) => {
        asked.follow += 1
        if (coordinator.full) throw new StellwerkError('too-many-followers', '64 follow the events already')
        stream = { onEvent, onEnd }
        return () => {
          stream = null
        }
      },
    }),
    agents:
      options.remote === true
        ? null
        : async () => {
            asked.agents += 1
            return AGENTS
          },
    onNews: known => {
      seen = known
    },
  })
  const pass = async (ms: number) => {
    for (const until = now + ms; now < until; now += 50) await watcher.tick()
  }
  return {
    ...{ watcher, asked, coordinator, pass },
    known: () => seen!,
    say: (seq: number) => stream?.onEvent({ seq, wallMs: seq, kind: 'vm.x', subject: null, text: `event ${seq}` }),
    end: () => stream?.onEnd(),
    isFollowed: () => stream !== null,
  }
}

describe('a watcher', () => {
  it('asks once an interval while nothing happens, over one stream', async () => {
    const { asked, pass } = bench()
    await pass(10_000)
    expect(asked).toEqual({ status: 10, events: 1, follow: 1, agents: 0 })
  })

  it('asks at once when something happens, and no more than four times a second however much does', async () => {
    const { asked, pass, say, known } = bench()
    await pass(1_500)
    const before = asked.status
    say(1)
    await pass(100)
    expect(asked.status).toBe(before + 1)
    for (let seq = 2; seq <= 200; seq++) {
      say(seq)
      await pass(50)
    }
    // 199 events in ten seconds.
    expect(asked.status - before).toBeLessThanOrEqual(42)
    expect(known().events.at(-1)?.seq).toBe(200)
  })

  it('asks the agents while the coordinator is away, and knows it again when it is back', async () => {
    const { asked, coordinator, pass, known, end } = bench()
    await pass(1_500)
    coordinator.there = false
    end()
    await pass(6_000)
    expect(known()).toMatchObject({ away: { why: 'nothing listens there' }, agents: { view: AGENTS } })
    expect(known().status).not.toBe(null)
    expect(asked.agents).toBeGreaterThanOrEqual(2)
    // Links are made for each question.
    expect(asked.agents).toBeLessThanOrEqual(3)
    coordinator.there = true
    coordinator.past = [{ seq: 1, wallMs: 9, kind: 'vm.x', subject: null, text: 'of its new run' }]
    await pass(6_000)
    expect(known()).toMatchObject({ away: null, agents: null, events: [{ text: 'of its new run' }] })
    expect(asked.follow).toBe(2)
  })

  it('asks nobody else about a cluster that is elsewhere', async () => {
    const { asked, coordinator, pass, known } = bench({ remote: true })
    coordinator.there = false
    await pass(3_000)
    expect([asked.agents, known().away?.why, known().agents]).toEqual([0, 'nothing listens there', null])
  })

  it('goes on by the interval where there is no room to follow, and tries that seldom', async () => {
    const { asked, coordinator, pass } = bench()
    coordinator.full = true
    await pass(10_000)
    expect(asked).toMatchObject({ status: 10, follow: 2 })
  })

  it('lets go of the stream when it ends', async () => {
    const { watcher, pass, isFollowed } = bench()
    await pass(100)
    expect(isFollowed()).toBe(true)
    watcher.stop()
    expect(isFollowed()).toBe(false)
  })
})
