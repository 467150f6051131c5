// FEN1, FEN2: good traces are accepted, each way to break the rule is found.

import { describe, expect, test } from 'vitest'
import { TraceBuilder } from './trace-builder.ts'

/** web-1 runs on host-a, whose lease was just granted and whose probe was just answered. */
const running = () => new TraceBuilder().run('web-1', 'host-a', 1).lease('host-a', 1).probed('san-a', 'host-a', 1)
/** The same as a process of its own. */
const own = () =>
  new TraceBuilder().run('web-1', 'host-a', 1, 'start', { own: true }).lease('host-a', 1).probed('san-a', 'host-a', 1)
const lost = () => running().wait(500).fenced('san-a', 'host-a', 1)

describe('FEN1', () => {
  test.each([
    ['a failover after fence and wait', lost().wait(2500).failover('web-1', 'host-a', 1)],
    [
      'an attested death, without the wait',
      running().dead('host-a').fenced('san-a', 'host-a', 1).failover('web-1', 'host-a', 1, { attested: true }),
    ],
    ['an attestation of an instance that never ran there', lost().failover('web-2', 'host-a', 1, { attested: true })],
    [
      'a clean agent, which killed what it had',
      lost().halt('web-1', 'host-a', 1, 'killed').failover('web-1', 'host-a', 1, { attested: true }),
    ],
    [
      'an attested death of the machine alone',
      running()
        .halt('web-1', 'host-a', 1, 'crashed')
        .failover('web-1', 'host-a', 1, { attested: true, legs: [] })
        .lease('host-a', 1),
    ],
    [
      'an attested death of a machine that had outlived its agent',
      own()
        .dead('host-a')
        .fenced('san-a', 'host-a', 1)
        .add('machine.reaped', { vm: 'web-1', host: 'host-a' }, { instance: 'web-1@host-a' })
        .failover('web-1', 'host-a', 1, { attested: true }),
    ],
    [
      'the death of a guardian, which ends all that it had started',
      own()
        .dead('host-a', 'host-a/guardian')
        .fenced('san-a', 'host-a', 1)
        .failover('web-1', 'host-a', 1, { attested: true }),
    ],
    [
      'a host that comes back at a higher epoch',
      lost().wait(3000).failover('web-1', 'host-a', 1).lease('host-a', 2).applied('host-a', { epoch: 2 }, 'san-b'),
    ],
    [
      'the leases of other hosts',
      lost().wait(3000).lease('host-b', 7).probed('san-a', 'host-b', 7).failover('web-1', 'host-a', 1),
    ],
  ])('accepts %s', (_name, t) => {
    expect(t.judge('FEN1')).toEqual([])
  })
  test.each([
    ['no fence at all', running().wait(5000).failover('web-1', 'host-a', 1), /before san-a had fenced epoch 1/],
    [
      'one leg not fenced',
      lost()
        .wait(5000)
        .failover('web-1', 'host-a', 1, { legs: ['san-a', 'san-b'] }),
      /before san-b had fenced/,
    ],
    ['a fence of a lower epoch', lost().wait(5000).failover('web-1', 'host-a', 2), /fenced epoch 2/],
    [
      'an attestation that saved the fence too',
      running().dead('host-a').failover('web-1', 'host-a', 1, { attested: true }),
      /before san-a had fenced/,
    ],
    [
      'no wait after the last lease',
      lost().wait(2400).failover('web-1', 'host-a', 1),
      /2900 ms after host-a was last given the right to run \(lease\.granted\)/,
    ],
    [
      'a lease granted late, after the fence',
      lost().wait(1000).lease('host-a', 1).wait(2900).failover('web-1', 'host-a', 1),
      /lease\.granted/,
    ],
    [
      'no wait after the last probe',
      lost().wait(1000).probed('san-a', 'host-a', 1).wait(2500).failover('web-1', 'host-a', 1),
      /storage\.probed/,
    ],
    ['an attestation of one that lives', lost().failover('web-1', 'host-a', 1, { attested: true }), /has not ended/],
    [
      'an attestation of a machine that has outlived its agent',
      own().dead('host-a').fenced('san-a', 'host-a', 1).failover('web-1', 'host-a', 1, { attested: true }),
      /has not ended/,
    ],
    [
      'an attestation of an earlier creation of it',
      own()
        .add('machine.reaped', { vm: 'web-1', host: 'host-a' }, { instance: 'web-1@host-a' })
        .run('web-1', 'host-a', 2, 'adopt', { own: true })
        .dead('host-a')
        .fenced('san-a', 'host-a', 1)
        .failover('web-1', 'host-a', 1, { attested: true }),
      /has not ended/,
    ],
    [
      'an attestation of one that is only frozen',
      lost().halt('web-1', 'host-a', 1, 'frozen').failover('web-1', 'host-a', 1, { attested: true }),
      /has not ended/,
    ],
    [
      'an attestation of an earlier death',
      new TraceBuilder()
        .dead('host-a')
        .run('web-1', 'host-a', 1)
        .fenced('san-a', 'host-a', 1)
        .failover('web-1', 'host-a', 1, { attested: true }),
      /has not ended/,
    ],
    [
      'a lease renewed after the failover',
      lost().wait(3000).failover('web-1', 'host-a', 1).lease('host-a', 1),
      /granted a lease at epoch 1 after/,
    ],
  ])('finds %s', (_name, t, message) => {
    const [first] = t.judge('FEN1')
    expect(first?.message).toMatch(message)
  })
})

describe('FEN2', () => {
  const options = { fen2: { driftFraction: 0.005, slackMs: 0 } }
  const leased = () => new TraceBuilder().lease('host-a', 1)

  test.each([
    ['steps within the lease', leased().wait(2999).step('web-1', 'host-a', 1)],
    [
      'steps within the lease that are told of later',
      leased().wait(9000).add('guest.step', { vm: 'web-1', host: 'host-a' }, { epoch: 1, instance: 'i', agoMs: 6000 }),
    ],
    ['steps at the very end of the stretched lease', leased().wait(3060).step('web-1', 'host-a', 1)],
    [
      'a host that only storage answers',
      leased().wait(4000).probed('san-a', 'host-a', 1).wait(2000).step('web-1', 'host-a', 1),
    ],
    [
      'a VM all of whose storages answer',
      leased()
        .run('web-1', 'host-a', 1, 'start', { storages: ['san-a', 'san-b'] })
        .wait(4000)
        .probed('san-a', 'host-a', 1)
        .probed('san-b', 'host-a', 1)
        .step('web-1', 'host-a', 1),
    ],
    ['a renewed lease', leased().wait(2900).lease('host-a', 1).wait(2900).step('web-1', 'host-a', 1)],
  ])('accepts %s', (_name, t) => {
    expect(t.judge('FEN2', options)).toEqual([])
  })
  test.each([
    [
      'a step without any right',
      new TraceBuilder().step('web-1', 'host-a', 1),
      /never granted a lease, never answered by storage/,
    ],
    [
      'a step past the lease that is told of later',
      leased().wait(9000).add('guest.step', { vm: 'web-1', host: 'host-a' }, { epoch: 1, instance: 'i', agoMs: 5000 }),
      /lease granted 4000 ms ago/,
    ],
    ['a step past the lease', leased().wait(3061).step('web-1', 'host-a', 1), /lease granted 3061 ms ago/],
    ['a step by the lease of another host', leased().step('web-1', 'host-b', 1), /never granted/],
    [
      'a step past the last probe',
      leased().wait(3000).probed('san-a', 'host-a', 1).wait(3100).step('web-1', 'host-a', 1),
      /answered by storage 3100 ms ago/,
    ],
    [
      'a VM one of whose storages is silent',
      leased()
        .run('web-1', 'host-a', 1, 'start', { storages: ['san-a', 'san-b'] })
        .wait(4000)
        .probed('san-a', 'host-a', 1)
        .step('web-1', 'host-a', 1),
      /no right to run/,
    ],
    [
      'a VM without storages past the coordinator’s lease',
      leased()
        .run('web-1', 'host-a', 1, 'start', { storages: [] })
        .wait(4000)
        .probed('san-a', 'host-a', 1)
        .step('web-1', 'host-a', 1),
      /no right to run/,
    ],
  ])('finds %s', (_name, t, message) => {
    const [first] = t.judge('FEN2', options)
    expect(first?.message).toMatch(message)
    expect(first?.vm).toBe('web-1')
  })
})
