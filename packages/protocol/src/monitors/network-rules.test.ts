// NET1 and NET2: what may be heard is accepted, each way to break them is found.

import { describe, expect, it } from 'vitest'
import { TraceBuilder } from './trace-builder.ts'

const MAC = '52:54:00:00:00:01'

/** At `host` a frame of a VM came from `from`, sent in that host epoch and placement epoch. */
const heard = (
  t: TraceBuilder,
  host: string,
  from: string,
  { hostEpoch = 1, heardFrom = 1, epoch = 4, network = 'lan' } = {},
) => t.add('network.delivered', { host }, { from, hostEpoch, heardFrom, epoch, network, mac: MAC })

describe('NET1', () => {
  it('accepts a host in the epoch that it has, or in a newer one than is known', () => {
    const t = heard(new TraceBuilder(), 'host-a', 'host-b')
    expect(heard(t, 'host-a', 'host-b', { hostEpoch: 3, heardFrom: 2 }).judge('NET1')).toEqual([])
  })

  it('finds that a fenced host is heard', () => {
    const [found] = heard(new TraceBuilder(), 'host-a', 'host-b', { hostEpoch: 1, heardFrom: 2 }).judge('NET1')
    expect(found).toMatchObject({ rule: 'NET1', host: 'host-a' })
    expect(found?.message).toMatch(/frame that host-b sent in epoch 1, of which it hears no epoch below 2/)
  })

  it('finds that one is heard that is no member', () => {
    const [found] = heard(new TraceBuilder(), 'host-a', 'host-b', { heardFrom: 0 }).judge('NET1')
    expect(found?.message).toMatch(/which is no member/)
  })
})

describe('NET2', () => {
  it('accepts placements that follow each other, each host and network for itself', () => {
    const t = heard(new TraceBuilder(), 'host-a', 'host-b')
    heard(heard(t, 'host-a', 'host-c', { epoch: 5 }), 'host-a', 'host-c', { epoch: 5 })
    heard(heard(t, 'host-d', 'host-b', { epoch: 4 }), 'host-a', 'host-b', { epoch: 1, network: 'dmz' })
    expect(t.judge('NET2')).toEqual([])
  })

  it('finds that an older placement is heard after a newer one', () => {
    const t = heard(heard(new TraceBuilder(), 'host-a', 'host-c', { epoch: 5 }), 'host-a', 'host-b', { epoch: 4 })
    const [found] = t.judge('NET2')
    expect(found).toMatchObject({ rule: 'NET2', host: 'host-a' })
    expect(found?.message).toMatch(/placement epoch 4 on host-b, after it had heard epoch 5 from host-c/)
    expect(found?.records.length).toBe(2)
  })

  it('a switch that has ended with its agent knows nothing any more', () => {
    const t = heard(new TraceBuilder(), 'host-a', 'host-c', { epoch: 5 }).dead('host-a')
    expect(heard(t, 'host-a', 'host-b', { epoch: 4 }).judge('NET2')).toEqual([])
  })
})
