// VM1, VM2, LIV1: good traces are accepted, each way to break the rule is found.

import type { Json } from '@stellwerk/runtime/environment.ts'
import { describe, expect, test } from 'vitest'
import { TraceBuilder } from './trace-builder.ts'

const trace = () => new TraceBuilder()

describe('VM1', () => {
  const good = {
    'a migration': () =>
      trace()
        .run('web-1', 'host-a', 1)
        .step('web-1', 'host-a', 1)
        .halt('web-1', 'host-a', 1, 'released')
        .run('web-1', 'host-b', 2, 'arrive')
        .step('web-1', 'host-b', 2)
        .step('web-1', 'host-b', 2),
    'a source that resumes at its old epoch after an abort': () =>
      trace()
        .run('web-1', 'host-a', 1)
        .step('web-1', 'host-a', 1)
        .halt('web-1', 'host-a', 1, 'released')
        .run('web-1', 'host-a', 1, 'resume')
        .step('web-1', 'host-a', 1),
    'a failover after the host died': () =>
      trace()
        .run('web-1', 'host-a', 1)
        .step('web-1', 'host-a', 1)
        .dead('host-a')
        .run('web-1', 'host-b', 2)
        .step('web-1', 'host-b', 2),
    'a machine that outlives its agent and is taken over': () =>
      trace()
        .run('web-1', 'host-a', 1, 'start', { own: true })
        .step('web-1', 'host-a', 1)
        .dead('host-a')
        .run('web-1', 'host-a', 2, 'adopt', { own: true })
        .step('web-1', 'host-a', 2),
    'a machine that outlives its agent, is reaped, and starts elsewhere': () =>
      trace()
        .run('web-1', 'host-a', 1, 'start', { own: true })
        .step('web-1', 'host-a', 1)
        .dead('host-a')
        .add('machine.reaped', { vm: 'web-1', host: 'host-a' }, { instance: 'web-1@host-a' })
        .run('web-1', 'host-b', 2)
        .step('web-1', 'host-b', 2),
    'a paused host that wakes up and freezes without a step': () =>
      trace()
        .run('web-1', 'host-a', 1)
        .step('web-1', 'host-a', 1)
        .add('process.paused', { host: 'host-a' }, { process: 'host-a/agent' })
        .run('web-1', 'host-b', 2)
        .step('web-1', 'host-b', 2)
        .add('process.resumed', { host: 'host-a' }, { process: 'host-a/agent' })
        .step('web-1', 'host-b', 2)
        .halt('web-1', 'host-a', 1)
        .step('web-1', 'host-b', 2),
    'a host that tells late what it did before it lost the VM': () =>
      trace()
        .run('web-1', 'host-a', 1)
        .step('web-1', 'host-a', 1)
        .wait(5_000)
        .run('web-1', 'host-b', 2)
        .step('web-1', 'host-b', 2)
        .add('guest.step', { vm: 'web-1', host: 'host-a' }, { epoch: 1, instance: 'web-1@host-a', agoMs: 2_000 })
        .halt('web-1', 'host-a', 1)
        .step('web-1', 'host-b', 2),
    'frozen and thawed': () =>
      trace()
        .run('web-1', 'host-a', 1)
        .step('web-1', 'host-a', 1)
        .halt('web-1', 'host-a', 1)
        .run('web-1', 'host-a', 1, 'thaw')
        .step('web-1', 'host-a', 1),
    'two VMs on two hosts': () =>
      trace()
        .run('web-1', 'host-a', 5)
        .step('web-1', 'host-a', 5)
        .run('web-2', 'host-b', 1)
        .step('web-2', 'host-b', 1)
        .step('web-1', 'host-a', 5),
    'many restarts in a row': () => {
      const t = trace()
      for (let epoch = 1; epoch <= 100; epoch++) {
        const instance = `i${epoch}`
        t.add('vm.run', { vm: 'web-1', host: 'host-a' }, { epoch, instance, how: 'start' })
          .step('web-1', 'host-a', epoch, instance)
          .add('vm.halt', { vm: 'web-1', host: 'host-a' }, { epoch, instance, how: 'killed' })
      }
      return t
    },
  }
  test.each(Object.entries(good))('accepts %s', (_name, make) => {
    expect(make().judge('VM1')).toEqual([])
  })

  const bad = {
    'a step at a lower epoch than another instance has executed': [
      trace()
        .run('web-1', 'host-a', 1)
        .step('web-1', 'host-a', 1)
        .run('web-1', 'host-b', 2)
        .step('web-1', 'host-b', 2)
        .step('web-1', 'host-a', 1),
      /placement epoch 1 after another executed at 2/,
    ],
    'two instances at the same epoch': [
      trace().step('web-1', 'host-a', 3).step('web-1', 'host-b', 3),
      /two instances, web-1@host-a and web-1@host-b/,
    ],
    'a second creation at the same epoch on the same host': [
      trace().step('web-1', 'host-a', 3, 'first').step('web-1', 'host-a', 3, 'second'),
      /two instances/,
    ],
    'a new instance that executes while the old one goes on and has not halted': [
      trace()
        .run('web-1', 'host-a', 1)
        .step('web-1', 'host-a', 1)
        .run('web-1', 'host-b', 2, 'arrive')
        .step('web-1', 'host-a', 1)
        .step('web-1', 'host-b', 2),
      /while the instance on host-a runs/,
    ],
    'a step after a halt': [
      trace().run('web-1', 'host-a', 1).halt('web-1', 'host-a', 1).step('web-1', 'host-a', 1),
      /after it was halted/,
    ],
  } as const
  test.each(Object.entries(bad))('finds %s', (_name, [t, message]) => {
    const [first] = t.judge('VM1')
    expect(first?.rule).toBe('VM1')
    expect(first?.message).toMatch(message)
    expect(first?.vm).toBe('web-1')
    expect(first?.records.at(-1)?.seq).toBe(t.records.length)
  })
})

describe('VM2', () => {
  test.each([
    ['one entry after the other', trace().recovered('web-1', 'host-a', 0).acknowledged('web-1', 'host-a', 1, 2, 3)],
    [
      'a boot that finds all of them',
      trace().acknowledged('web-1', 'host-a', 1, 2).recovered('web-1', 'host-b', 2).acknowledged('web-1', 'host-b', 3),
    ],
    [
      'a boot that finds one more than was heard',
      trace().acknowledged('web-1', 'host-a', 1, 2).recovered('web-1', 'host-b', 3).acknowledged('web-1', 'host-b', 4),
    ],
  ])('accepts %s', (_name, t) => {
    expect(t.judge('VM2')).toEqual([])
  })

  test.each([
    [
      'a lost entry',
      trace().acknowledged('web-1', 'host-a', 1, 2, 3).recovered('web-1', 'host-b', 2),
      /lost entries 3 to 3/,
    ],
    [
      'a damaged ledger',
      trace().acknowledged('web-1', 'host-a', 1).recovered('web-1', 'host-b', 1, false),
      /not there once each/,
    ],
    ['a duplicate', trace().acknowledged('web-1', 'host-a', 1, 2, 2), /entry 2 after entry 2/],
    ['a reordering', trace().acknowledged('web-1', 'host-a', 1, 2, 3, 2), /entry 2 after entry 3/],
    ['a gap', trace().acknowledged('web-1', 'host-a', 1, 3), /entry 3 where 2 had to come/],
    [
      'a gap after a boot',
      trace().acknowledged('web-1', 'host-a', 1).recovered('web-1', 'host-b', 2).acknowledged('web-1', 'host-b', 5),
      /entry 5 where 2 to 3/,
    ],
  ])('finds %s', (_name, t, message) => {
    const [first] = t.judge('VM2')
    expect(first?.message).toMatch(message)
  })

  test('what is typed may be lost, come late, and be the same elsewhere, but is read once', () => {
    expect(trace().answered('web-1', 1, 3, 2).answered('web-2', 1).judge('VM2')).toEqual([])
    const [first] = trace().answered('web-1', 1, 2, 1).judge('VM2')
    expect(first?.message).toBe('web-1: line 1, typed once, was read a second time')
  })

  test('where lines may go unheard a gap is let pass, but not a duplicate', () => {
    const options = { vm2: { mayMissLines: true } }
    expect(trace().acknowledged('web-1', 'host-a', 1, 5).judge('VM2', options)).toEqual([])
    expect(trace().acknowledged('web-1', 'host-a', 1, 5, 5).judge('VM2', options).length).toBe(1)
  })

  test('so of a VM in QEMU, and of no other: its console may lose lines when its right to run ends', () => {
    const options = { vm2: { mayMissLines: (vm: string) => vm === 'in-qemu' } }
    expect(trace().acknowledged('in-qemu', 'host-a', 1, 5).judge('VM2', options)).toEqual([])
    expect(trace().acknowledged('web-1', 'host-a', 1, 5).judge('VM2', options)).toHaveLength(1)
    expect(trace().acknowledged('in-qemu', 'host-a', 1, 5, 3).judge('VM2', options)).toHaveLength(1)
  })
})

describe('LIV1', () => {
  const healed = (vms: readonly string[]) => trace().add('faults.ended', {}, { withinMs: 1000, vms }, 'simulator')

  test('accepts VMs that make progress in the last quarter', () => {
    const t = healed(['web-1', 'web-2'])
      .wait(800)
      .acknowledged('web-1', 'host-a', 1)
      .step('web-2', 'host-b', 1)
      .wait(300)
    expect(t.judge('LIV1')).toEqual([])
  })

  test('accepts a trace that ends before the budget does', () => {
    expect(healed(['web-1']).wait(500).judge('LIV1')).toEqual([])
  })

  test.each([
    ['a VM that never runs', healed(['web-1', 'web-2']).wait(900).step('web-2', 'host-b', 1).wait(200)],
    ['a VM that ran early and stopped', healed(['web-1']).wait(100).step('web-1', 'host-a', 1).wait(1000)],
    ['a VM that comes too late', healed(['web-1']).wait(1001).step('web-1', 'host-a', 1).wait(10)],
    [
      'a ledger that executes but acknowledges nothing',
      trace()
        .acknowledged('web-1', 'host-a', 1)
        .add('faults.ended', {}, { withinMs: 1000, vms: ['web-1'] })
        .wait(900)
        .step('web-1', 'host-a', 1)
        .wait(200),
    ],
  ])('finds %s', (_name, t) => {
    const [first] = t.judge('LIV1')
    expect(first?.message).toMatch(/^web-1: no progress/)
  })

  describe('of a cluster that was inspected', () => {
    const whole = {
      hosts: [{ host: 'host-a', epoch: 1, stands: 'up', agent: 'admitted' }],
      volumes: [{ volume: 'csv1', owner: 'host-a', acts: 'yes' }],
      vms: [
        { vm: 'web-1', desired: 'running', host: 'host-a', epoch: 4, phase: 'running' },
        { vm: 'web-2', desired: 'stopped', host: null, epoch: 2, phase: 'unplaced' },
      ],
      machines: [{ host: 'host-a', vm: 'web-1', epoch: 4, state: 'running' }],
      migrations: [],
      disks: [
        { volume: 'csv1', disk: 'd-1', vm: 'web-1', holder: { host: 'host-a', epoch: 4 }, reserved: null },
        { volume: 'csv1', disk: 'd-2', vm: 'web-2', holder: null, reserved: null },
      ],
      paths: [{ host: 'host-a', path: 'fabric-0/san-a', state: 'up' }],
    }
    const inspected = (found: Partial<typeof whole> | { [key: string]: Json }) =>
      healed([])
        .wait(900)
        .add('cluster.inspected', {}, { ...whole, ...found } as { [key: string]: Json }, 'simulator')
        .wait(200)

    test('accepts one that is whole', () => expect(inspected({}).judge('LIV1')).toEqual([]))

    test('judges the last inspection, and none before the last quarter', () => {
      const broken = { ...whole, paths: [{ host: 'host-a', path: 'p', state: 'failed' }] }
      const early = healed([]).wait(100).add('cluster.inspected', {}, broken).wait(1000)
      expect(early.judge('LIV1')).toEqual([])
      const late = healed([]).wait(800).add('cluster.inspected', {}, broken).wait(50)
      expect(late.add('cluster.inspected', {}, whole).wait(200).judge('LIV1')).toEqual([])
    })

    test.each([
      ['host host-a is suspect', { hosts: [{ host: 'host-a', epoch: 1, stands: 'suspect', agent: 'admitted' }] }],
      ['the agent of host-a is fenced', { hosts: [{ host: 'host-a', epoch: 1, stands: 'up', agent: 'fenced' }] }],
      ['its owner \\(none\\) is not there', { volumes: [{ volume: 'csv1', owner: null, acts: 'is not there' }] }],
      ['web-1 should run and is starting', { vms: [{ ...whole.vms[0], phase: 'starting' }, whole.vms[1]] }],
      ['web-2 should stand still', { vms: [whole.vms[0], { ...whole.vms[1], host: 'host-b' }] }],
      ['web-1 is deleted and still on record', { vms: [{ ...whole.vms[0], desired: 'deleted' }, whole.vms[1]] }],
      [
        'still has VM web-1 .* epoch 3, outgoing',
        { machines: [...whole.machines, { host: 'host-b', vm: 'web-1', epoch: 3, state: 'outgoing' }] },
      ],
      ['VM web-1 does not run on host-a', { machines: [] }],
      [
        'migration m-1 of web-1 is still committed',
        { migrations: [{ migration: 'm-1', vm: 'web-1', phase: 'committed' }] },
      ],
      ['d-1 on csv1 is attached nowhere', { disks: [{ ...whole.disks[0], holder: null }] }],
      [
        'd-1 on csv1 is attached to host-a at epoch 3',
        { disks: [{ ...whole.disks[0], holder: { host: 'host-a', epoch: 3 } }] },
      ],
      ['d-2 on csv1 is attached to host-a', { disks: [{ ...whole.disks[1], holder: { host: 'host-a', epoch: 2 } }] }],
      [
        'd-1 on csv1 is still reserved for host-b',
        { disks: [{ ...whole.disks[0], reserved: { host: 'host-b', epoch: 5 } }] },
      ],
      ['d-3 on csv1 belongs to no VM', { disks: [{ ...whole.disks[0], disk: 'd-3', vm: null }] }],
      ['path fabric-0/san-a of host-a is failed', { paths: [{ ...whole.paths[0], state: 'failed' }] }],
    ])('finds that %s', (message, found) => {
      expect(inspected(found as { [key: string]: Json }).judge('LIV1')[0]?.message).toMatch(new RegExp(message))
    })
  })

  test('finds it when a second round of faults follows', () => {
    const t = healed(['web-1']).wait(1500).add('faults.ended', {}, { withinMs: 1000, vms: [] })
    expect(t.judge('LIV1').length).toBe(1)
  })
})
