import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { describe, expect, test } from 'vitest'
import { assertWithinLimits, drawSchedule } from './draw.ts'
import { libraryPlans } from './library.ts'
import { parsePlan } from './parse-plan.ts'
import { writePlan } from './write-plan.ts'

const HEAD = 'name: p\nsummary: s\nduration: 20s\n'

function refusal(source: string): StellwerkError {
  try {
    const plan = parsePlan('p.yaml', source)
    assertWithinLimits(plan, '1')
  } catch (error) {
    if (error instanceof StellwerkError) return error
    throw error
  }
  throw new Error('it was taken')
}

test('a plan is understood: names, milliseconds, bytes, and what is not said', () => {
  const plan = parsePlan(
    'p.yaml',
    `${HEAD}seed: 7
workload: { vms: 2, memory: 64MiB, dirtyRate: 2MiB, writesPerSecond: 5, migrateEvery: 1.5s }
faults:
  - { at: 2s, kind: delay, host: host-b, network: cluster, delay: 40ms, jitter: 5ms, for: 3s..4s }
  - { at: 1s, every: 6s, kind: agent-kill, for: 2s }
random: { meanGap: 5s, kinds: { clock-jump: 2, cable-pull: { weight: 3, fabric: 1 } } }
limits: { gap: 500ms }
hold:
  rules: [VM1, IO1]
  objectives: { failover: 2 lease + 500ms, outage: { within: 9s, disturbed: true }, migrations: 3 }
`,
  )
  expect(plan).toMatchObject({
    seed: '7',
    cluster: { hosts: ['host-a', 'host-b', 'host-c'], storages: ['san-a', 'san-b'] },
    workload: { vms: 2, memoryBytes: 64 * MIB, dirtyBytesPerSecond: 2 * MIB, writesPerSecond: 5 },
    migrateEveryMs: 1_500,
    durationMs: 20_000,
    convergeMs: 30_000,
    random: {
      fromMs: 0,
      untilMs: 20_000,
      meanGapMs: 5_000,
      kinds: [
        { kind: 'clock-jump', weight: 2, choice: {} },
        { kind: 'cable-pull', weight: 3, choice: { fabric: 1 } },
      ],
    },
    limits: { hosts: 1, storages: 1, fabrics: 1, coordinator: 1, gapMs: 500 },
    rules: ['VM1', 'IO1'],
    objectives: [
      { name: 'failover', within: { leases: 2, ms: 500 }, disturbed: false },
      { name: 'outage', within: { leases: 0, ms: 9_000 }, disturbed: true },
      { name: 'migrations', atLeast: 3 },
    ],
  })
  expect(plan.faults[0]).toMatchObject({
    lastsMs: [3_000, 4_000],
    choice: { host: 'host-b', network: 'cluster', delayMs: 40, jitterMs: 5 },
  })
  // Every six seconds, as long as it is over before the plan is.
  expect(plan.faults.slice(1).map(({ atMs }) => atMs)).toEqual([1_000, 7_000, 13_000])
})

test('another duration leaves out what would not be over by then, and repeats what comes again', () => {
  const source = `${HEAD}faults:\n  - { at: 2s, every: 10s, kind: agent-kill, for: 3s }\n  - { at: 15s, kind: coordinator-kill, for: 2s }\n`
  const at = (ms: number) => parsePlan('p', source, ms).faults.map(({ kind, atMs }) => `${kind} ${atMs}`)
  expect(at(10_000)).toEqual(['agent-kill 2000'])
  expect(at(30_000)).toEqual(['agent-kill 2000', 'agent-kill 12000', 'agent-kill 22000', 'coordinator-kill 15000'])
})

describe('what is wrong is told with its line and column', () => {
  const cases: readonly (readonly [what: string, source: string, where: string, message: string])[] = [
    ['an unknown fault', `${HEAD}faults:\n  - at: 2s\n    kind: agent-kil\n`, '6:11', 'unknown fault "agent-kil"'],
    [
      'an unknown fault to draw',
      `${HEAD}random:\n  meanGap: 2s\n  kinds:\n    host-kil: 1\n`,
      '7:5',
      'unknown fault "host-kil"',
    ],
    [
      'an unknown host',
      `${HEAD}faults:\n  - { at: 2s, kind: host-kill, host: host-x }\n`,
      '5:38',
      'unknown host "host-x"',
    ],
    [
      'an unknown storage',
      `${HEAD}faults:\n  - { at: 2s, kind: disk-full, storage: san-c }\n`,
      '5:41',
      'unknown storage "san-c"',
    ],
    [
      'an unknown peer',
      `${HEAD}faults:\n  - { at: 2s, kind: partition, peer: nobody }\n`,
      '5:38',
      'unknown host, storage or coordinator "nobody"',
    ],
    [
      'an unknown network',
      `${HEAD}faults:\n  - { at: 2s, kind: loss, network: lan }\n`,
      '5:36',
      'unknown network "lan"',
    ],
    ['an unknown fabric', `${HEAD}faults:\n  - { at: 2s, kind: fabric-down, fabric: 2 }\n`, '5:42', 'unknown fabric 2'],
    [
      'an unknown objective',
      `${HEAD}faults: [{ at: 1s, kind: agent-kill }]\nhold:\n  objectives:\n    downtime-p98: 1s\n`,
      '7:5',
      'unknown objective "downtime-p98"',
    ],
    [
      'an unknown rule',
      `${HEAD}faults: [{ at: 1s, kind: agent-kill }]\nhold: { rules: [VM1, VM9] }\n`,
      '5:22',
      'unknown rule "VM9"',
    ],
    ['an unknown key', `${HEAD}faults: [{ at: 1s, kind: agent-kill }]\nlimit: 3\n`, '5:1', 'unknown key "limit"'],
    [
      'an unknown key within',
      `${HEAD}faults:\n  - { at: 2s, kind: host-kill, hots: host-a }\n`,
      '5:32',
      'unknown key "hots"',
    ],
    [
      'a parameter of another fault',
      `${HEAD}faults:\n  - { at: 2s, kind: host-kill, storage: san-a }\n`,
      '5:32',
      'host-kill has no "storage"',
    ],
    ['a missing key', 'name: p\nsummary: s\nfaults: []\n', '1:1', '"duration" is missing'],
    ['a missing kind', `${HEAD}faults:\n  - at: 2s\n`, '5:5', '"kind" is missing'],
    ['a number without a unit', 'name: p\nsummary: s\nduration: 60\nfaults: []\n', '3:11', '60 is no duration'],
    ['a duration out of range', `${HEAD}faults:\n  - { at: 21s, kind: host-kill }\n`, '5:11', '"21s" is out of range'],
    [
      'a fault that outlasts the plan',
      `${HEAD}faults:\n  - { at: 18s, kind: host-kill, for: 3s }\n`,
      '5:38',
      'the fault may last longer than the plan',
    ],
    [
      'a chance out of range',
      `${HEAD}faults:\n  - { at: 1s, kind: loss, chance: 1.5 }\n`,
      '5:35',
      '1.5 is no number from 0.001 to 1',
    ],
    ['a size that is none', `${HEAD}workload: { memory: 16 }\nfaults: []\n`, '4:21', '16 is no size'],
    [
      'a limit that is none',
      `${HEAD}faults: [{ at: 1s, kind: agent-kill }]\nhold: { objectives: { failover: soon } }\n`,
      '5:33',
      '"soon" is no limit of an objective',
    ],
    ['a weight that is none', `${HEAD}random: { meanGap: 2s, kinds: { host-kill: -1 } }\n`, '4:44', '"weight"'],
    ['too many hosts', `${HEAD}cluster: { hosts: 99 }\nfaults: []\n`, '4:19', '99 is no number from 1 to 26'],
    ['a name that came twice', `${HEAD}cluster: { hosts: [a, b, a] }\nfaults: []\n`, '4:26', '"a" came twice'],
    [
      'a host cut off from itself',
      `${HEAD}faults:\n  - { at: 1s, kind: partition, host: host-a, peer: host-a }\n`,
      '5:52',
      '"host-a" is cut off from itself',
    ],
    [
      'the only host cut off from itself',
      `${HEAD}cluster: { hosts: 1 }\nfaults:\n  - { at: 1s, kind: partition, peer: host-a }\n`,
      '6:38',
      '"host-a" is cut off from itself',
    ],
    [
      'a host by the name of a storage',
      `${HEAD}cluster: { hosts: [a, san-a] }\nfaults: []\n`,
      '4:23',
      '"san-a" is the name of another machine',
    ],
    ['nothing to break', HEAD, '1:1', 'the plan has neither "faults" nor "random"'],
    ['what is no YAML', `${HEAD}faults: [{ at: 1s\n`, '5:1', 'it is no YAML'],
    ['an alias of nothing', 'name: p\nsummary: *nope\n', '2:10', "it can't be read"],
    ['an empty file', '', '1:1', 'the plan must be object'],
    [
      'a fixed fault of what is down by another',
      `${HEAD}faults:\n  - { at: 1s, kind: host-pause, host: host-a, for: 2s }\n  - { at: 2s, kind: agent-kill, host: host-a, for: 5s }\n`,
      '6:5',
      'agent-kill host-a for 5s at 2s breaks a limit: host-a is down or asleep by another fault then',
    ],
    [
      'a fixed fault that breaks a limit',
      `${HEAD}faults:\n  - { at: 1s, kind: host-kill, host: host-a, for: 5s }\n  - { at: 3s, kind: host-pause, host: host-b, for: 1s }\n`,
      '6:5',
      'host-pause host-b for 1s at 3s breaks a limit: hosts: 2 at once, or within the gap, where 1 is allowed',
    ],
  ]
  for (const [what, source, where, message] of cases) {
    test(what, () => {
      const error = refusal(source)
      expect(error.message).toContain(message)
      expect(error.where).toBe(`p.yaml:${where}`)
      expect(errorCode(error)).toBe('bad-plan')
      expect(error.hint).not.toBe('')
    })
  }
})

test('every plan of the library is sound, and its schedule written down is the same plan of fixed faults', async () => {
  const plans = await libraryPlans()
  expect(plans.map(({ file }) => file)).toEqual([
    'chaos/cable-monkey.yaml',
    'chaos/coordinator-storm.yaml',
    'chaos/everything.yaml',
    'chaos/rolling-kill.yaml',
    'chaos/split-brain.yaml',
    'chaos/storage-loss.yaml',
  ])
  for (const { file, source } of plans) {
    const plan = parsePlan(file, source)
    for (const seed of ['1', '2', 'x']) {
      assertWithinLimits(plan, seed)
      const schedule = drawSchedule(plan, seed)
      expect(schedule.length, file).toBeGreaterThan(3)
      const again = parsePlan('again.yaml', writePlan(plan, schedule, seed, ['a comment']))
      expect(drawSchedule(again, seed)).toEqual(schedule)
      // Whatever the seed: nothing is left to be drawn.
      expect(drawSchedule(again, 'another')).toEqual(schedule)
      assertWithinLimits(again, seed)
      const { faults: _, random: __, seed: ___, ...rest } = plan
      expect(again).toMatchObject(rest)
      expect(again.seed).toBe(seed)
    }
  }
})
