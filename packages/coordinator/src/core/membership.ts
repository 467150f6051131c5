// Who is here: hellos, heartbeats, leases, and the judgement on hosts that fell silent.

import { digestOfMachines } from '@stellwerk/protocol/machines-digest.ts'
import type { Beat, BeatReply } from '@stellwerk/protocol/messages/cluster.ts'
import type { Address } from '@stellwerk/runtime/environment.ts'
import { noteAccess, notePaths } from './access.ts'
import { OLDER_HINT } from './announce.ts'
import { shouldAsk } from './asking.ts'
import { externalsWrittenBy, orderedNames, orderedStorages } from './external.ts'
import { beginFencing } from './fencing.ts'
import { fenceIfGone } from './fencing-grounds.ts'
import { isForeignGuardian } from './guardians.ts'
import { hostLive, NO_QEMU, silentAfterMs, whoHears } from './hosts.ts'
import type { StepOutput } from './output.ts'
import { isCounted, noteFailure } from './quarantine.ts'
import type { CoordinatorState, FenceRecord, HostLive, HostRecord } from './state.ts'
import { leaveIfStranded } from './stranded.ts'

export interface AgentHello {
  readonly host: string
  readonly incarnation: number
  /** Whose agent it is. */
  readonly guardian?: string
  readonly control: Address
  readonly guest?: Address
  readonly memoryBytes: number
}

function saysOtherwise(known: HostRecord, { control, guest, memoryBytes }: AgentHello): boolean {
  const sameGuest =
    guest === undefined || known.guest === undefined ? guest === known.guest : sameAddress(guest, known.guest)
  return known.memoryBytes !== memoryBytes || !sameAddress(known.control, control) || !sameGuest
}

/** An agent's session was opened; an unknown host with the right token joins by it. */
export function agentUp(state: CoordinatorState, hello: AgentHello, now: number, out: StepOutput): void {
  // Its session was let in before another's guardian became the host's: it gets no further.
  if (isForeignGuardian(state, hello.host, hello.guardian)) return
  const known = state.hosts.get(hello.host)
  if (known !== undefined && known.guardian === undefined && hello.guardian !== undefined) {
    bindGuardian(state, known, hello.guardian, out)
  }
  if (known === undefined) {
    out.put('hosts', hello.host, {
      name: hello.host,
      epoch: 1,
      phase: 'admitting',
      fence: null,
      ...(hello.guardian === undefined ? {} : { guardian: hello.guardian }),
      control: hello.control,
      ...(hello.guest === undefined ? {} : { guest: hello.guest }),
      memoryBytes: hello.memoryBytes,
      admitOwed: orderedNames(state),
      removed: false,
      failures: [],
      quarantine: null,
      disabledFabrics: [],
    } satisfies HostRecord)
    state.mapVersion += 1
    out.decide({
      kind: 'host-joined',
      subject: hello.host,
      saw: { incarnation: hello.incarnation },
      chose: 'admit at epoch 1',
      why: 'a new host with the join token',
    })
  } else if (saysOtherwise(known, hello)) {
    const { guest: _before, ...record } = state.hosts.get(hello.host) ?? known
    const { control, guest, memoryBytes } = hello
    out.put('hosts', hello.host, { ...record, control, memoryBytes, ...(guest === undefined ? {} : { guest }) })
    state.mapVersion += 1
  }
  const live = hostLive(state, hello.host)
  // A late word of an agent that has been replaced.
  if (live.incarnation !== null && hello.incarnation < live.incarnation) return
  if (live.incarnation === null || hello.incarnation > live.incarnation) countReplaced(state, hello, live, now, out)
  noteSession(live, hello.incarnation, now)
  live.greeted = true
}

/** What is known of the host by its live agent alone. */
export function noteSession(live: HostLive, incarnation: number, now: number): void {
  if (live.incarnation !== null && incarnation < live.incarnation) return
  if (live.incarnation === null || incarnation > live.incarnation) {
    live.incarnation = incarnation
    live.machines = new Map()
    live.machinesKnown = false
    live.clean = false
    live.ended = false
    live.survivors = new Map()
    live.volumes = new Map()
    live.resyncs = new Map()
  }
  live.session = { incarnation }
  live.greeted = false
  live.mapVersion = 0
  live.beatMapVersion = 0
  // A process that has just started may take its time to the first beat.
  live.lastBeatAt = now
}

/** Its incarnations are counted by another guardian than those that were seen here before. */
function bindGuardian(state: CoordinatorState, host: HostRecord, guardian: string, out: StepOutput): void {
  out.put('hosts', host.name, { ...host, guardian })
  const live = hostLive(state, host.name)
  if (live.session === null) live.incarnation = null
}

/** An agent that a newer one has replaced has died, unless its host's silence or fence has counted as that. */
function countReplaced(state: CoordinatorState, hello: AgentHello, live: HostLive, now: number, out: StepOutput): void {
  const host = state.hosts.get(hello.host)
  if (host?.phase !== 'admitted' || live.incarnation === null || live.silenceCounted) return
  if (isCounted(host, hello.incarnation - 1)) return
  noteFailure(state, host, hello.incarnation - 1, 'its agent died, and a newer one came', now, out)
}

export function agentDown(state: CoordinatorState, host: string, incarnation: number): void {
  const live = hostLive(state, host)
  if (live.session?.incarnation === incarnation) live.session = null
}

/** Takes a heartbeat in and says what the host may do. A lease is counted from before the answer leaves. */
export function beat(state: CoordinatorState, message: Beat, now: number, out: StepOutput): BeatReply {
  const host = state.hosts.get(message.host)
  const live = hostLive(state, message.host)
  // Also where its hello was heard before this run was taken.
  if (host === undefined || live.session?.incarnation !== message.incarnation || !live.greeted) {
    return { status: 'wait', epoch: 0, leaseMs: 0, wantMachines: false }
  }
  const ahead = aheadOf(state, message)
  if (ahead !== null) {
    out.effect({ kind: 'step-down', why: ahead })
    return { status: 'wait', epoch: host.epoch, leaseMs: 0, wantMachines: false }
  }
  noteAccess(live, message, out)
  notePaths(live, message, out)
  takeBeat(live, message, now)
  noteUnreached(state, live, now)
  noteLostMachines(state, host, live, now, out)
  const current = state.hosts.get(message.host) ?? host
  const wantMachines = !live.machinesKnown
  switch (current.phase) {
    case 'admitting':
      return { status: 'wait', epoch: current.epoch, leaseMs: 0, wantMachines }
    case 'fencing':
    case 'fenced':
      // Only an agent that says it knows the fence can be clean of it.
      live.ended = message.clean && message.epoch === current.epoch
      live.clean = live.ended && live.survivors.size === 0
      return { status: 'fenced', epoch: current.epoch, leaseMs: 0, wantMachines }
    case 'admitted': {
      if (message.clean && message.epoch === current.epoch) {
        // It was fenced at storage, of which this coordinator's state knows nothing: it is given a new epoch.
        beginFencing(state, current, 'its agent was refused by storage', null, out)
        live.ended = true
        live.clean = live.survivors.size === 0
        return { status: 'fenced', epoch: current.epoch, leaseMs: 0, wantMachines }
      }
      if (message.epoch !== current.epoch) {
        return { status: 'admitted', epoch: current.epoch, leaseMs: 0, wantMachines }
      }
      const leaseMs = state.cluster.settings.leaseMs
      live.lastGrantAt = now
      out.trace({
        level: 'message',
        kind: 'lease.granted',
        host: current.name,
        body: { epoch: current.epoch, leaseMs },
      })
      return { status: 'admitted', epoch: current.epoch, leaseMs, wantMachines }
    }
  }
}

/** What this host was told is newer than what we know: our state is an older copy, and must decide nothing. */
export function aheadOf(state: CoordinatorState, message: Beat): string | null {
  const host = state.hosts.get(message.host)
  if (host !== undefined && message.epoch > host.epoch)
    return `host ${host.name} is at epoch ${message.epoch}, known here: ${host.epoch}; ${OLDER_HINT}`
  for (const machine of message.machines ?? []) {
    // Each placement takes a decision, so that one of a VM that is known no more was given out by then.
    const known = state.vms.get(machine.vm)?.epoch ?? state.decisionSeq
    if (machine.epoch > known) {
      return `VM ${machine.vm} is at placement epoch ${machine.epoch}, known here: ${known}; ${OLDER_HINT}`
    }
  }
  for (const { volume, ownerEpoch } of message.volumes) {
    const known = state.volumes.get(volume)?.ownerEpoch
    if (known !== undefined && ownerEpoch > known) {
      return `volume ${volume} is at owner epoch ${ownerEpoch}, known here: ${known}; ${OLDER_HINT}`
    }
  }
  return null
}

export function takeBeat(live: HostLive, message: Beat, now: number): void {
  live.lastBeatAt = now
  live.verdict = 'up'
  live.suspectSince = null
  live.silenceCounted = false
  live.whyNotFenced = null
  live.seen = new Map()
  live.peers = new Map(message.peers.map(peer => [peer.host, peer.heardAgoMs]))
  live.peersAt = now
  live.beatMapVersion = message.mapVersion
  live.paths = message.paths
  live.access = message.access
  live.reachableStorages = message.storages
  live.whyNoQemu = message.qemu === undefined ? NO_QEMU : message.qemu.why
  live.cpu = message.qemu?.cpu ?? null
  if (message.forwards !== undefined) live.forwards = message.forwards
  else delete live.forwards
  live.volumes = new Map(message.volumes.map(({ volume, ...reported }) => [volume, reported]))
  live.survivors = new Map((message.survivors ?? []).map(({ vm, epoch }) => [vm, epoch]))
  live.resyncs = new Map((message.resyncs ?? []).map(({ volume, ...copied }) => [volume, copied]))
  if (message.machines !== null) {
    live.machines = new Map(message.machines.map(machine => [machine.vm, machine]))
    live.machinesKnown = true
  } else if (machinesDigest(live) !== message.digest) {
    live.machinesKnown = false
  }
}

function noteUnreached(state: CoordinatorState, live: HostLive, now: number): void {
  for (const storage of state.storages.keys()) {
    if (live.reachableStorages.includes(storage)) live.unreachedSince.delete(storage)
    else if (!live.unreachedSince.has(storage)) live.unreachedSince.set(storage, now)
  }
}

function machinesDigest(live: HostLive): number {
  return live.machinesKnown ? digestOfMachines([...live.machines.values()]) : -1
}

/** A newer incarnation that does not list a VM placed with an older one attests its death, or that its machine has outlived it. */
function noteLostMachines(
  state: CoordinatorState,
  host: HostRecord,
  live: HostLive,
  now: number,
  out: StepOutput,
): void {
  if (!live.machinesKnown || live.session === null) return
  const incarnation = live.session.incarnation
  let lost = false
  for (const vm of state.vms.values()) {
    const placement = vm.placement
    if (placement === null || placement.host !== host.name || placement.hostEpoch !== host.epoch) continue
    if (placement.incarnation < incarnation && !live.machines.has(vm.name)) lost = true
  }
  if (!lost) return
  const by = 'a newer incarnation of the agent, which does not have it'
  attestDead(state, host.name, { incarnation: incarnation - 1, survivors: [...live.survivors.keys()], by }, now, out)
}

/** Who attests the death of an agent that it has seen end. */
export const BY_GUARDIAN = 'its guardian'

/** Nothing that the agent ran in this or an earlier incarnation is left, but the machines of these VMs. */
export interface Attestation {
  readonly incarnation: number
  readonly survivors: readonly string[]
  readonly by: string
}

/** Saves the wait, never the fence. */
export function attestDead(
  state: CoordinatorState,
  name: string,
  attestation: Attestation,
  now: number,
  out: StepOutput,
): void {
  const host = state.hosts.get(name)
  if (host === undefined) return
  const concerned = [...state.vms.values()].some(
    vm =>
      vm.placement?.host === name &&
      vm.placement.hostEpoch === host.epoch &&
      vm.placement.incarnation <= attestation.incarnation,
  )
  // An owner, too, is waited for where no storage refuses it.
  if (!concerned && externalsWrittenBy(state, host).length === 0) return
  takeAttestation(state, host, attestation, now, out)
}

/** Whatever the host had is over: it is fenced for that where it is not yet. */
export function takeAttestation(
  state: CoordinatorState,
  host: HostRecord,
  attestation: Attestation,
  now: number,
  out: StepOutput,
): void {
  const { incarnation, by } = attestation
  // Of those before the one that has the host now: what they had was settled before it got its epoch.
  if (host.phase === 'admitted' && incarnation < (host.givenTo ?? 0)) return
  if (host.phase === 'admitted') {
    const why = `its agent is dead, attested by ${by}`
    if (!isCounted(host, incarnation)) noteFailure(state, host, incarnation, why, now, out)
    beginFencing(state, state.hosts.get(host.name) ?? host, why, attestation, out)
  } else if (host.fence !== null) {
    const fence = attestedFence(host.fence, attestation)
    if (fence !== host.fence) out.put('hosts', host.name, { ...host, fence })
  }
}

/** Nobody who has ended comes back: of one incarnation the survivors become only fewer, whatever is heard late. */
function attestedFence(fence: FenceRecord, { incarnation, by, survivors }: Attestation): FenceRecord {
  const known = fence.attestedIncarnation ?? -1
  if (incarnation < known) return fence
  const before = fence.survivors ?? []
  const left = incarnation > known ? survivors : before.filter(vm => survivors.includes(vm))
  if (incarnation === known && left.length === before.length) return fence
  const { survivors: _, ...rest } = fence
  const attested = { ...rest, attestedIncarnation: incarnation, attestedBy: by }
  return left.length === 0 ? attested : { ...attested, survivors: left }
}

/** Judges hosts that have been silent too long; asks storages; fences those that are gone, or have lost their storage. */
export function watchHosts(state: CoordinatorState, now: number, out: StepOutput): void {
  const atMost = silentAfterMs(state)
  for (const host of state.hosts.values()) {
    if (host.removed) continue
    const live = hostLive(state, host.name)
    const heardAt = live.lastBeatAt ?? state.startedAt
    if (now - heardAt <= atMost) {
      leaveIfStranded(state, host, now, out)
      continue
    }
    live.stranded = null
    live.suspectSince ??= now
    askStorages(state, host, now, out)
    const verdict = judge(state, host, live, now)
    if (verdict !== live.verdict) {
      live.verdict = verdict
      out.trace({
        level: 'decision',
        kind: 'host.verdict',
        host: host.name,
        body: { verdict, silentMs: Math.round(now - heardAt) },
      })
    }
    if (host.phase === 'admitted') fenceIfGone(state, host, live, now, out)
  }
}

function askStorages(state: CoordinatorState, host: HostRecord, now: number, out: StepOutput): void {
  for (const storage of orderedNames(state)) {
    const key = `seen/${host.name}/${storage}`
    if (!shouldAsk(state, key, now, state.cluster.settings.heartbeatMs)) continue
    out.effect({ kind: 'storage', key, storage, message: 'storage.seen', body: { host: host.name } })
  }
}

function judge(state: CoordinatorState, host: HostRecord, live: HostLive, now: number): HostLive['verdict'] {
  if (whoHears(state, host.name, now).length > 0) return 'link-cut'
  if (whoHasSeen(state, live, now).length > 0) return 'isolated'
  return live.seen.size === 0 && orderedStorages(state).length > 0 ? 'suspect' : 'gone'
}

/** Storages that have answered it lately, by their own last answer: what has passed since we asked is not the host's silence. */
function whoHasSeen(state: CoordinatorState, live: HostLive, now: number): string[] {
  const recentMs = state.cluster.settings.heartbeatMs * 2
  const recently = [...live.seen].filter(
    ([, { seenAgoMs, at }]) => seenAgoMs !== null && seenAgoMs < recentMs && now - at < recentMs,
  )
  return recently.map(([storage]) => storage).sort()
}

/** Who has heard of the host a moment ago, whatever it is thought to be; null: nobody. */
export function signOfLife(state: CoordinatorState, name: string, now: number): string | null {
  const atMost = silentAfterMs(state)
  const live = hostLive(state, name)
  if (live.lastBeatAt !== null && now - live.lastBeatAt <= atMost) return 'it was heard a moment ago'
  // Nobody has been asked yet.
  if (now - state.startedAt <= atMost) return 'this coordinator has just started, and may hear it yet'
  const peers = whoHears(state, name, now).map(host => host.name)
  if (peers.length > 0) return `${peers.join(', ')} has heard it a moment ago`
  const storages = whoHasSeen(state, live, now)
  return storages.length > 0 ? `it has just asked ${storages.join(', ')}` : null
}

function sameAddress(a: Address, b: Address): boolean {
  return a.network === b.network && a.host === b.host && a.port === b.port
}
