// Where frames go: to whom they are for, to all who may be meant, never back, never round, and never from who is no more.

import { BROADCAST } from '@stellwerk/protocol/ethernet.ts'
import { beforeEach, describe, expect, it } from 'vitest'
import { AGE_MS, MAX_LEARNT, SwitchCore, type SwitchPort } from './switch-core.ts'
import { frame } from './testing/frames.ts'

interface Named extends SwitchPort {
  readonly name: string
}

const A = 0x525400000001
const B = 0x525400000002
const FAR = 0x525400000003
const UNKNOWN = 0x525400000009
const port = (name: string, address: number | null, placementEpoch = 1): Named => ({
  name,
  address,
  ipAddresses: null,
  placementEpoch,
})

let core: SwitchCore<Named>
let a: Named
let b: Named
const shown = ({ ports, toPeers }: { ports: readonly Named[]; toPeers: string | null }) => [
  ports
    .map(({ name }) => name)
    .sort()
    .join(),
  toPeers,
]
const fromPort = (from: Named, destination: number, source = from.address!, now = 0) =>
  shown(core.fromPort(from, frame(destination, source), now))
const fromPeer = (peer: string, destination: number, source: number, epoch = 1, now = 0) =>
  shown(core.fromPeer(peer, epoch, frame(destination, source), now))

beforeEach(() => {
  core = new SwitchCore()
  a = port('a', A)
  b = port('b', B)
  core.attach(a)
  core.attach(b)
})

describe('a frame of a guest here', () => {
  it('goes to the guest here that it is for, and to nobody else', () => {
    expect(fromPort(a, B)).toEqual(['b', null])
  })

  it('goes to all when it is for all, but not back', () => {
    expect(fromPort(a, BROADCAST)).toEqual(['b', 'all'])
  })

  it('goes to all when nobody knows the address, and to the peer where it was heard', () => {
    expect(fromPort(a, FAR)).toEqual(['b', 'all'])
    fromPeer('host-b', A, FAR)
    expect(fromPort(a, FAR)).toEqual(['', 'host-b'])
  })

  it('is looked for everywhere again when the address was not heard for long', () => {
    fromPeer('host-b', A, FAR)
    expect(fromPort(a, FAR, A, AGE_MS - 1)).toEqual(['', 'host-b'])
    expect(fromPort(a, FAR, A, AGE_MS)).toEqual(['b', 'all'])
  })

  it('is dropped when its source is not the port’s, or a group, when it is too short, or of neighbours’ protocols', () => {
    expect(fromPort(a, BROADCAST, B)).toEqual(['', null])
    expect(core.dropped.spoofed).toBe(1)
    expect(fromPort(a, BROADCAST, BROADCAST)).toEqual(['', null])
    expect(fromPort(a, 0x0180c2000000)).toEqual(['', null])
    expect(shown(core.fromPort(a, new Uint8Array(13), 0))).toEqual(['', null])
    expect(core.dropped.malformed).toBe(3)
  })

  it('to itself goes nowhere, and of a port that is not attached neither', () => {
    expect(fromPort(a, A)).toEqual(['', null])
    core.detach(a, 0)
    expect(fromPort(a, B)).toEqual(['', null])
    expect(fromPort(b, A)).toEqual(['', 'all'])
  })
})

describe('a frame of a peer', () => {
  it('goes to ports alone, never on to other peers', () => {
    expect(fromPeer('host-b', BROADCAST, FAR)).toEqual(['a,b', null])
    expect(fromPeer('host-b', A, FAR)).toEqual(['a', null])
    expect(fromPeer('host-b', UNKNOWN, FAR)).toEqual(['', null])
  })

  it('of a VM that was placed anew is learnt at once, and its older placement is not heard any more (NET2)', () => {
    fromPeer('host-b', BROADCAST, FAR, 4)
    expect(fromPeer('host-c', BROADCAST, FAR, 5)).toEqual(['a,b', null])
    expect(fromPort(a, FAR)).toEqual(['', 'host-c'])
    expect(fromPeer('host-b', BROADCAST, FAR, 4)).toEqual(['', null])
    expect(fromPort(a, FAR)).toEqual(['', 'host-c'])
    expect(core.dropped.stale).toBe(1)
  })

  it('is not heard though its address has aged, when it is of an older placement', () => {
    fromPeer('host-b', BROADCAST, FAR, 5)
    expect(fromPeer('host-c', BROADCAST, FAR, 4, 10 * AGE_MS)).toEqual(['', null])
  })

  it('of a VM that runs here is of an older placement, unless it is of a newer one', () => {
    expect(fromPeer('host-b', B, A, 1)).toEqual(['', null])
    expect(fromPeer('host-b', B, A, 3)).toEqual(['b', null])
    // What is here has not heard yet that it is no more.
    expect(fromPeer('host-c', B, A, 2)).toEqual(['', null])
  })

  it('does not take a VM away that has come here', () => {
    fromPeer('host-b', BROADCAST, FAR, 4)
    const far = port('far', FAR, 5)
    core.attach(far)
    expect(fromPort(a, FAR)).toEqual(['far', null])
    expect(fromPeer('host-b', BROADCAST, FAR, 4)).toEqual(['', null])
  })

  it('is looked for anew when its peer is forgotten, but what is older stays stale (NET2)', () => {
    fromPeer('host-b', A, FAR, 5)
    core.forget('host-b')
    expect(fromPort(a, FAR)).toEqual(['b', 'all'])
    expect(core.learnt).toEqual([])
    expect(fromPeer('host-c', A, FAR, 4)).toEqual(['', null])
    expect(fromPeer('host-c', A, FAR, 6)).toEqual(['a', null])
  })

  it('of an older placement than the one that was here is stale (NET2)', () => {
    const far = port('far', FAR, 5)
    core.attach(far)
    core.detach(far, 0)
    expect(fromPeer('host-b', A, FAR, 4)).toEqual(['', null])
    expect(fromPeer('host-b', A, FAR, 6)).toEqual(['a', null])
  })
})

describe('a port behind which there is any address (a gateway)', () => {
  it('is learnt from, gets what nobody else is known for, and may not be another port', () => {
    const gate = port('gate', null, 0)
    core.attach(gate)
    expect(fromPeer('host-b', UNKNOWN, FAR)).toEqual(['gate', null])
    expect(fromPort(gate, A, UNKNOWN)).toEqual(['a', null])
    expect(fromPort(a, UNKNOWN)).toEqual(['gate', null])
    expect(fromPort(gate, A, B)).toEqual(['', null])
    expect(fromPort(a, UNKNOWN, A, AGE_MS)).toEqual(['b,gate', 'all'])
    core.detach(gate, 0)
    expect(fromPort(a, UNKNOWN)).toEqual(['b', 'all'])
  })
})

it('remembers a bounded number of addresses, those heard last', () => {
  for (let i = 0; i <= MAX_LEARNT; i += 1) fromPeer('host-b', BROADCAST, 0x020000000000 + i)
  expect(core.learnt.length).toBe(MAX_LEARNT)
  expect(fromPort(a, 0x020000000000)).toEqual(['b', 'all'])
  expect(fromPort(a, 0x020000000001)).toEqual(['', 'host-b'])
})

describe('a network that is a bridge', () => {
  const OUTSIDE = 0x0a0000000001
  let bridge: Named

  beforeEach(() => {
    core = new SwitchCore({ isBridged: true })
    bridge = port('bridge', null, 0)
    for (const each of [a, b, bridge]) core.attach(each)
  })

  it('is reached by its port alone: peers are sent nothing, and not heard', () => {
    expect(fromPort(a, B)).toEqual(['b', null])
    expect(fromPort(a, BROADCAST)).toEqual(['b,bridge', null])
    expect(fromPort(a, UNKNOWN)).toEqual(['bridge', null])
    expect(fromPeer('host-b', BROADCAST, FAR)).toEqual(['', null])
    expect(fromPeer('host-b', A, FAR)).toEqual(['', null])
  })

  it('brings what is for a guest here or for all, and nothing goes back to it', () => {
    expect(fromPort(bridge, A, OUTSIDE)).toEqual(['a', null])
    expect(fromPort(bridge, BROADCAST, OUTSIDE)).toEqual(['a,b', null])
    expect(fromPort(bridge, UNKNOWN, OUTSIDE)).toEqual(['', null])
    expect(fromPort(a, OUTSIDE)).toEqual(['bridge', null])
  })

  it('brings nobody else’s frames under a guest’s address that is here', () => {
    expect(fromPort(bridge, BROADCAST, A)).toEqual(['', null])
    // It has moved: from then on the bridge is where it is.
    core.detach(a, 0)
    expect(fromPort(bridge, BROADCAST, A)).toEqual(['b', null])
    expect(fromPort(b, A)).toEqual(['bridge', null])
  })
})
