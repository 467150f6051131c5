// Seeds that once failed, each with what was wrong; a test replays them. When the code moves on, a seed draws another run
// from the same plan, so a regression that matters also has a test of its own beside the code it was about.

import type { PlanTuning } from './plan.ts'

/** What came last, and some seeds have. */
const YOUNGEST: PlanTuning = { qemuHang: false, resets: false, terminal: false }

/** What came later, and some seeds have. */
const BEFORE: PlanTuning = {
  ...YOUNGEST,
  ...{ guestNetwork: false, drains: false },
  ...{ storageControl: false, olderState: false, external: false, ownerInJournal: false, qemu: false },
  journalEnd: false,
  legChanges: false,
}

/** The kinds there were at first: with them a seed draws the plan that it drew then. Kinds that come later are left out. */
const FIRST: PlanTuning = {
  ...BEFORE,
  faults: [
    ...[
      'agent-kill',
      'guardian-kill',
      'host-crash',
      'host-pause',
      'agent-pause',
      'coordinator-crash',
      'coordinator-pause',
    ],
    ...['storage-kill', 'storage-power', 'control-cut', 'control-one-way', 'cluster-partition', 'host-isolated'],
    ...['fabric-cut', 'fabrics-cut', 'fabric-one-way', 'storage-control-cut', 'storages-split', 'paths-reset'],
    ...['links-reset', 'network-slow', 'network-clog', 'disk-slow', 'clock-drift'],
  ],
}

export interface Regression {
  readonly seed: string
  /** The rule that found it. */
  readonly rule: string
  readonly because: string
  /** What makes it the plan in which it was found: at least the kinds of faults there were. */
  readonly tuning: PlanTuning
  /** Another one of these or a test of its own is about the same, or it draws other runs by now: the long tests alone replay it. */
  readonly again?: true
}

export const REGRESSIONS: readonly Regression[] = [
  {
    seed: '6',
    tuning: FIRST,
    rule: 'LIV1',
    because:
      'a migration’s target died right after the commit: the owner still had the disk for the source, which is alive, and refused the restart elsewhere for ever',
    again: true,
  },
  { seed: '8', tuning: FIRST, rule: 'LIV1', because: 'the same refusal of a disk as in 6', again: true },
  {
    seed: '20336',
    tuning: FIRST,
    rule: 'LIV1',
    because:
      'a target whose lease was out when the commit came was not looked at again when it had one: the VM stood still',
    again: true,
  },
  { seed: '20524', tuning: FIRST, rule: 'LIV1', because: 'the same as 20336', again: true },
  {
    seed: '60130',
    tuning: FIRST,
    rule: 'LIV1',
    because:
      'a VM was wanted again after its stop had been decided and before it was told: it ran on, on record as stopping, and could never be migrated',
    again: true,
  },
  {
    seed: '60152',
    tuning: FIRST,
    rule: 'LIV1',
    because:
      'a VM was told to stop while its disks were being opened, and the opening failed: it stayed stopping for ever',
    again: true,
  },
  {
    seed: '2',
    tuning: {
      ...BEFORE,
      ...{ faults: ['storage-power-in-journal', 'disk-slow', 'host-crash'], meanGapMs: 1_500 },
      ...{ trimsPerSecond: 2, passing: 20, longNames: true, safetyMs: 60_000 },
    },
    rule: 'CSV2',
    because:
      'a host asked twice to free an extent; the first was obeyed, the second refused since the disk was switching by then, and the host took it for its own again',
  },
  {
    seed: '6',
    tuning: { ...BEFORE, faults: ['storage-outage'], meanGapMs: 5_000, passing: 40, trimsPerSecond: 1 },
    rule: 'MIR1',
    because:
      'a leg’s refusal of a session that the host itself had superseded made the next VM open the volume a second time: two logs wrote one slot, each over the other’s marks',
  },
  {
    seed: '8',
    tuning: {
      ...BEFORE,
      faults: ['storage-outage', 'disk-slow'],
      together: true,
      meanGapMs: 4_000,
      scratchPerSecond: 60,
    },
    rule: 'LIV1',
    because: 'the same two openings as in 6, each ending the other’s session for ever: VMs could not be stopped',
    again: true,
  },
  {
    seed: '1',
    tuning: {
      ...BEFORE,
      ...{ faults: ['storage-outage', 'agent-kill'], together: true },
      ...{ meanGapMs: 4_000, scratchPerSecond: 30 },
    },
    rule: 'MIR1',
    because:
      'a snapshot’s extents stayed marked by the host that had written them; it died, and the recovery of its slot looked only at what it held: a leg that had missed them was called in sync without',
    again: true,
  },
  {
    seed: '1041',
    tuning: FIRST,
    rule: 'vacuous',
    because: 'most migrations were asked for while one was under way or a volume had no owner; nobody asked again',
    again: true,
  },
  {
    seed: '910345',
    tuning: { ...BEFORE, safetyMs: 66_000 },
    rule: 'CSV2',
    because:
      'a redirected write was held up on its way to a leg that had been left behind since, and landed where a snapshot shares the extent by now: nobody reads that leg before it is copied anew, so the rule was wrong to judge it',
  },
  {
    seed: '910858',
    tuning: { ...BEFORE, safetyMs: 70_000 },
    rule: 'RIO1',
    because:
      'a redirected host’s requests were held on their way to its carrier, whose probes go another way and said that all was well: it waited though another peer could carry them',
  },
  {
    seed: '1700216',
    tuning: {
      ...YOUNGEST,
      storageControl: false,
      olderState: false,
      external: false,
      ownerInJournal: false,
      journalEnd: false,
      safetyMs: 13_000,
    },
    rule: 'LIV1',
    because:
      'a migration was aborted and its source died before it had burnt the target’s reservation of the disk: the VM, which was being deleted, could not be, and its regions were never copied',
  },
  {
    seed: '8',
    tuning: {
      ...YOUNGEST,
      storageControl: true,
      olderState: true,
      external: false,
      ownerInJournal: false,
      journalEnd: false,
    },
    rule: 'LIV1',
    because:
      'agents that carried the question of an older state’s coordinator to a storage kept its term, and the newest, put back, stepped down before it',
  },
  {
    seed: '3400290',
    tuning: { ...YOUNGEST, external: false, ownerInJournal: false, journalEnd: false },
    rule: 'LIV1',
    because:
      'a host that slept through its fence attached a disk when it woke, after all it held had been released: the disk, whose VM was to be deleted, stayed attached for ever',
  },
  {
    seed: '3600877',
    tuning: { ...YOUNGEST, external: false, ownerInJournal: false, journalEnd: false },
    rule: 'MIR1',
    because:
      'a region lost its mark on a host, and the leg’s bitmap of what it missed could not be written at that moment; the next generation, in which the leg caught up, came first, and nobody copied that region',
  },
  {
    seed: '3700342',
    tuning: { ...YOUNGEST, external: false, ownerInJournal: false, journalEnd: false },
    rule: 'LIV1',
    because:
      'the target of a committed migration was lost before it had taken the disk, which its source, alive, held on record for ever: the VM could not be deleted, nor the disk’s regions be copied',
  },
  {
    seed: '4400361',
    tuning: { ...YOUNGEST, ownerInJournal: false, journalEnd: false },
    rule: 'LIV1',
    because:
      'a leg of a mirror had failed a write, and then the other one another, while the coordinator was away: neither could be reported lost, so nobody was, and both writes waited for ever',
  },
  {
    seed: '4500837',
    tuning: { ...YOUNGEST, ownerInJournal: false, journalEnd: false },
    rule: 'CSV2',
    because:
      'the judge was wrong: an owner slept between its journal’s write and its word of it, and when it woke that extent was another owner’s to give',
  },
  {
    seed: '5000652',
    tuning: { ...YOUNGEST, journalEnd: false },
    rule: 'IO1',
    because:
      'the judge was wrong: an owner slept between its journal’s write of a snapshot and its word of it, and what the disk’s VM wrote under the next owner, which had found that snapshot, was taken for part of it',
  },
  {
    seed: '5001768',
    tuning: { ...YOUNGEST, journalEnd: false },
    rule: 'LIV1',
    because:
      'a migration’s target had not been able to tell the owner yet that the disk is its own when the next migration of that VM was aborted: burning its epoch burnt the reservation of the one before, and the owner knew another holder for ever',
  },
  {
    seed: '9000134',
    tuning: { ...YOUNGEST, journalEnd: false, safetyMs: 78_000 },
    rule: 'RIO1',
    because:
      'the judge was wrong: a leg was taken away while a host was cut off from the coordinator, and its writes waited, as they must, for word of that; the rule took the deleted LUN for one that could be reached',
  },
  {
    seed: '2013',
    tuning: { qemu: true, qemuHang: true, faults: ['qemu-hang', 'qemu-pause'], meanGapMs: 4_000, aimAtAll: true },
    rule: 'crash',
    because:
      'a QEMU hung on its way into an ordered switch, which alone may be silent there; the switch was given up, and waited to hold the guest first: nobody ended that QEMU, and its VM could not be stopped',
  },
]
