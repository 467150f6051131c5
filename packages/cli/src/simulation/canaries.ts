// The planted bugs: what each is, the rule that must find it, and a seed in which it does. They stand in the code behind
// `canary(NAME)`; nothing but a simulation that is asked to ever switches one on.

import type { RuleId } from '@stellwerk/protocol/monitors/monitor.ts'
import type { PlanTuning } from './plan.ts'

export interface Canary {
  readonly name: string
  /** Of the product; the tests of different parts run side by side. */
  readonly part: 'storage' | 'volume' | 'mirror' | 'cluster'
  readonly rule: RuleId
  readonly what: string
  /** A seed that finds it, soon. The search goes on from here, should the code have moved on since. */
  readonly seed: number
  /** Takes a minute or more to find: left to `npm run test:long`. */
  readonly slow?: true
  /** What makes it show within 200 seeds, and early in a run: more of what brings it to light. */
  readonly tuning: PlanTuning
}

export const CANARIES: readonly Canary[] = [
  {
    name: 'fence-before-drain',
    part: 'storage',
    rule: 'IO3',
    what: 'a fence is acknowledged before the writes in flight are drained',
    seed: 5,
    // A host that the coordinator has lost and storage has not is fenced while its guests' writes take their time.
    tuning: { faults: ['control-cut', 'disk-slow'], meanGapMs: 1_200, settings: { isolatedMs: 5_000 } },
  },
  {
    name: 'epoch-not-checked',
    part: 'storage',
    rule: 'IO3',
    what: 'a fenced host’s next connection is admitted',
    seed: 1,
    // Cut off from storage when it is fenced: it does not hear of it when its connections are closed, but comes back.
    tuning: { faults: ['control-cut', 'host-isolated'], meanGapMs: 1_500, settings: { isolatedMs: 5_000 } },
  },
  {
    name: 'session-not-drained',
    part: 'storage',
    rule: 'IO3',
    what: 'the connections of a lower session stay open when a higher one comes',
    seed: 1,
    tuning: { faults: ['network-clog', 'fabric-cut', 'paths-reset', 'fabric-one-way'], meanGapMs: 2_000 },
  },
  {
    name: 'session-not-raised',
    part: 'storage',
    slow: true,
    rule: 'IO1',
    what: 'a write of unknown outcome is sent again on another path without raising the session',
    seed: 3,
    tuning: { faults: ['network-clog'], meanGapMs: 2_000, scratchPerSecond: 40 },
  },
  {
    name: 'owner-not-refused',
    part: 'storage',
    rule: 'CSV1',
    what: 'the zeroing of a deposed owner is not refused',
    seed: 8,
    tuning: { faults: ['host-pause', 'agent-pause', 'control-cut', 'network-slow'], meanGapMs: 2_000, passing: 12 },
  },
  {
    name: 'ack-before-sync',
    part: 'storage',
    rule: 'IO2',
    what: 'storage acknowledges a write before it has synced it',
    seed: 2,
    tuning: { faults: ['storage-power', 'disk-slow'], meanGapMs: 2_000 },
  },
  {
    name: 'extent-not-zeroed',
    part: 'volume',
    rule: 'CSV3',
    what: 'an extent that was given back is granted again without having been zeroed',
    seed: 6,
    tuning: { faults: ['links-reset'], passing: 40, migrations: 0 },
  },
  {
    name: 'freed-extent-before-drain',
    part: 'volume',
    rule: 'CSV2',
    what: 'a trimmed extent is given back while writes to it are in flight',
    seed: 1,
    tuning: {
      ...{ faults: ['disk-slow', 'network-slow'], meanGapMs: 1_500, passing: 20 },
      ...{ trimsPerSecond: 3, scratchPerSecond: 30 },
    },
  },
  {
    name: 'in-place-write-after-barrier',
    part: 'volume',
    rule: 'CSV2',
    what: 'a host writes in place after a snapshot’s barrier',
    seed: 1,
    tuning: { faults: ['links-reset'], snapshots: 12, scratchPerSecond: 10, migrations: 0 },
  },
  {
    name: 'shared-extent-written-in-place',
    part: 'volume',
    rule: 'CSV2',
    what: 'a host that attaches a disk does not look at what of it is shared',
    seed: 1,
    tuning: { faults: ['links-reset'], snapshots: 12, scratchPerSecond: 10, migrations: 0 },
  },
  {
    name: 'clone-refcount-missed',
    part: 'volume',
    rule: 'CSV2',
    what: 'a clone does not count as one more that has its extents',
    seed: 1,
    tuning: { faults: ['links-reset'], snapshots: 12, migrations: 0 },
  },
  {
    name: 'unshared-before-copy',
    part: 'volume',
    rule: 'IO1',
    what: 'the first write to a shared extent is given an extent that nothing has been copied to',
    seed: 1,
    tuning: { faults: ['links-reset'], snapshots: 12, scratchPerSecond: 10, migrations: 0 },
  },
  {
    name: 'unreadable-is-journal-end',
    part: 'volume',
    rule: 'CSV2',
    what: 'a block that cannot be read is taken for the end of the only leg’s journal',
    seed: 1,
    tuning: { faults: ['journal-end-unreadable'], meanGapMs: 6_000, mirrored: false, passing: 20 },
  },
  {
    name: 'commit-not-durable',
    part: 'cluster',
    rule: 'MIG1',
    what: 'a migration’s commit is told before it is durable',
    seed: 1,
    tuning: { faults: ['links-reset'] },
  },
  {
    name: 'run-before-commit',
    part: 'cluster',
    rule: 'MIG1',
    what: 'the target runs as soon as it has loaded the guest',
    seed: 1,
    tuning: { faults: ['links-reset'] },
  },
  {
    name: 'abort-before-durable',
    part: 'cluster',
    rule: 'MIG2',
    what: 'a migration’s abort is told before it is durable',
    seed: 3,
    tuning: { faults: ['agent-kill', 'host-crash', 'links-reset'], aimAtAll: true, phases: ['switching'] },
  },
  {
    name: 'resume-after-released',
    part: 'cluster',
    rule: 'MIG2',
    what: 'the source resumes after it has released the guest, without the coordinator’s word',
    seed: 2,
    tuning: { faults: ['coordinator-crash', 'coordinator-pause'], aimAtAll: true, phases: ['switching'] },
  },
  {
    name: 'fence-missing-leg',
    part: 'cluster',
    rule: 'FEN1',
    what: 'a fence counts as complete with one leg missing',
    seed: 3,
    tuning: { faults: ['host-isolated', 'host-pause', 'storage-control-cut'], meanGapMs: 3_000 },
  },
  {
    name: 'older-state-taken',
    part: 'cluster',
    rule: 'MIG2',
    what: 'storage takes the run of a coordinator whose state is older than it has heard of',
    seed: 6,
    tuning: {
      ...{ faults: ['coordinator-rolled-back', 'control-cut', 'control-one-way'] },
      ...{ meanGapMs: 1_500, migrations: 60 },
    },
  },
  {
    name: 'syncing-leg-read',
    part: 'mirror',
    slow: true,
    rule: 'IO1',
    what: 'a leg that is catching up is read from',
    seed: 1,
    tuning: { faults: ['storage-outage', 'disk-slow'], together: true, meanGapMs: 4_000, scratchPerSecond: 30 },
  },
  {
    name: 'acknowledged-by-one-leg',
    part: 'mirror',
    rule: 'IO1',
    what: 'a write is acknowledged when one leg has it, and forgotten where the other does not',
    seed: 2,
    tuning: { faults: ['storage-outage', 'agent-kill'], together: true, meanGapMs: 4_000, scratchPerSecond: 30 },
  },
  {
    name: 'resync-wrong-direction',
    part: 'mirror',
    rule: 'IO1',
    what: 'regions are copied from the leg that is behind',
    seed: 1,
    tuning: { faults: ['storage-outage'], meanGapMs: 5_000 },
  },
  {
    name: 'region-cleared-while-stale',
    part: 'mirror',
    rule: 'MIR1',
    what: 'a region’s mark is taken away while a leg misses what was written there, and is written down nowhere',
    seed: 1,
    tuning: { faults: ['storage-outage'], meanGapMs: 5_000 },
  },
  {
    name: 'synced-too-early',
    part: 'mirror',
    rule: 'MIR1',
    what: 'a leg counts as in sync before everything has been copied to it',
    seed: 1,
    tuning: { faults: ['storage-outage'], meanGapMs: 5_000 },
  },
  {
    name: 'new-leg-not-copied',
    part: 'mirror',
    rule: 'MIR1',
    what: 'a leg that was never in sync is given the metadata alone, as if nothing were marked for it',
    seed: 1,
    // Only who gives a volume a second leg while it has guests' data sees that.
    tuning: { faults: ['links-reset'], legChanges: true, migrations: 0 },
  },
  {
    name: 'marked-past-barrier',
    part: 'mirror',
    rule: 'MIR1',
    what: 'a snapshot’s extents stay marked by the host that wrote them, where no recovery looks',
    seed: 7,
    tuning: {
      ...{ faults: ['storage-outage', 'agent-kill'], together: true, meanGapMs: 4_000 },
      ...{ scratchPerSecond: 30, snapshots: 16 },
    },
  },
  {
    name: 'resync-without-range-lock',
    part: 'mirror',
    rule: 'MIR1',
    what: 'a resync copies a range while guests write there',
    seed: 11,
    slow: true,
    tuning: {
      ...{ faults: ['storage-outage', 'network-slow', 'storage-kill'], together: true },
      ...{ meanGapMs: 4_000, scratchPerSecond: 200 },
    },
  },
  {
    name: 'slot-reused-without-recovery',
    part: 'mirror',
    rule: 'MIR1',
    what: 'a dead host’s slot is cleared though what it marks was not made equal',
    seed: 2,
    tuning: {
      ...{ faults: ['paths-clogged', 'network-clog', 'fabric-one-way', 'host-crash', 'agent-kill'], together: true },
      ...{ meanGapMs: 1_500, scratchPerSecond: 40 },
    },
  },
  {
    name: 'started-before-recovery',
    part: 'mirror',
    slow: true,
    rule: 'MIR1',
    what: 'a VM starts elsewhere while what its dead host had marked is still being made equal',
    seed: 27,
    tuning: {
      ...{ faults: ['host-crash', 'disk-slow', 'agent-kill', 'network-slow'], together: true },
      ...{ meanGapMs: 1_500, scratchPerSecond: 100 },
    },
  },
  {
    name: 'overlaps-not-ordered',
    part: 'mirror',
    slow: true,
    rule: 'MIR1',
    what: 'overlapping writes of a guest reach the legs in any order',
    seed: 2,
    tuning: { faults: ['disk-slow', 'network-slow'], together: true, meanGapMs: 2_000, scratchPerSecond: 60 },
  },
  {
    name: 'scrub-from-bad-copy',
    part: 'mirror',
    rule: 'MIR1',
    what: 'a scrub takes the bad copy for the good one',
    seed: 1,
    tuning: { faults: ['disk-rot'], meanGapMs: 6_000 },
  },
  {
    name: 'lease-unchecked',
    part: 'cluster',
    rule: 'FEN2',
    what: 'a host that wakes up does not check its lease before it runs guests',
    seed: 6,
    tuning: { faults: ['host-pause', 'coordinator-crash'], meanGapMs: 3_000 },
  },
  {
    name: 'redirect-under-peers-epoch',
    part: 'cluster',
    rule: 'IO3',
    what: 'a redirected path is opened under the epoch and session of the peer that carries it',
    seed: 1,
    tuning: { faults: ['paths-lost', 'hbas-dead'], meanGapMs: 2_000 },
  },
  {
    name: 'routes-not-ahead',
    part: 'cluster',
    rule: 'RIO1',
    what: 'a host knows whom to ask only while the coordinator tells it',
    seed: 46,
    tuning: { faults: ['control-cut', 'paths-lost', 'hbas-dead'], meanGapMs: 1_000, migrations: 0 },
  },
  {
    name: 'no-fail-back',
    part: 'cluster',
    rule: 'RIO2',
    what: 'a host that was redirected stays so while the peer carries it',
    seed: 1,
    tuning: { faults: ['paths-lost', 'hba-dead'], meanGapMs: 3_000 },
  },
  {
    name: 'silence-not-awaited',
    part: 'cluster',
    rule: 'MIR1',
    what: 'the fence of other storages is taken for the silence of a host on one that has no epochs',
    seed: 8,
    // An agent sleeps until its host is fenced, wakes up, and writes where nobody asks for its epoch.
    tuning: { external: true, faults: ['agent-pause'], meanGapMs: 1_500 },
  },
  {
    name: 'late-word-heard',
    part: 'cluster',
    rule: 'VM2',
    what: 'what a QEMU has said is heard although its right to run is over, and its VM runs elsewhere',
    seed: 1,
    // An agent sleeps with a line unread, and wakes up when the VM has long gone on on another host.
    tuning: { qemu: true, faults: ['agent-pause', 'host-pause'], meanGapMs: 1_500 },
  },
  {
    name: 'survivors-unheard',
    part: 'cluster',
    rule: 'FEN1',
    what: 'an agent is attested dead, and what its guardian says of machines that have outlived it is not heard',
    seed: 1,
    tuning: { qemu: true, faults: ['agent-kill'], meanGapMs: 1_500 },
  },
  {
    name: 'hang-unseen',
    part: 'cluster',
    rule: 'LIV1',
    what: 'a QEMU that hangs is not ended',
    seed: 4,
    tuning: { qemu: true, faults: ['qemu-hang'], meanGapMs: 8_000, migrations: 4 },
  },
  {
    name: 'keys-typed-again',
    part: 'cluster',
    rule: 'VM2',
    what: 'a terminal types again what may have been typed already',
    seed: 30,
    tuning: { qemu: true, terminal: true, faults: ['agent-pause', 'network-clog', 'control-cut'], meanGapMs: 1_500 },
  },
  {
    name: 'fenced-host-heard',
    part: 'cluster',
    rule: 'NET1',
    what: 'a switch listens to a host whose epoch has been taken from it',
    seed: 1,
    tuning: {
      ...{ faults: ['guest-links', 'control-cut', 'host-isolated'], together: true, guestNetwork: true },
      ...{ meanGapMs: 1_500, settings: { isolatedMs: 5_000 } },
    },
  },
  {
    name: 'stale-placement-heard',
    part: 'cluster',
    rule: 'NET2',
    what: 'a switch passes on what an older placement of a VM has sent than the one it has heard',
    seed: 1,
    tuning: { faults: ['guest-links'], guestNetwork: true, meanGapMs: 1_000, migrations: 40 },
  },
]

export function canaryNamed(name: string): Canary | null {
  return CANARIES.find(canary => canary.name === name) ?? null
}
