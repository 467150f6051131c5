// Why something is as it is, or is not: sentences about now, and the decisions on record. Pure.

import { isTaken, whyNotTaken } from '../core/announce.ts'
import { externalsOfVm, whyNotSilent } from '../core/external.ts'
import { fencesOwed } from '../core/fencing.ts'
import { isWanted, vmsAt, volumesOf } from '../core/hosts.ts'
import { leftAt } from '../core/live-moves.ts'
import { isServing } from '../core/ownership.ts'
import { quarantineLeftMs } from '../core/quarantine.ts'
import type { CoordinatorState, DecisionRecord, HostRecord, VmRecord, VolumeRecord } from '../core/state.ts'
import { ageOfHost, hostState, liveOf, lookAt } from './hosts.ts'
import type { Why } from './schemas.ts'
import { rungText } from './storage-ladder.ts'
import { vmView } from './vms.ts'
import { volumeState, volumeWhyNot } from './volumes.ts'

export type WhyWhat = 'vm' | 'host' | 'volume'

/** Decisions told at most. */
const DECISIONS_TOLD = 20

/** A name may be both a VM's and a host's: which decisions are about which. */
const KINDS: { readonly [what in WhyWhat]: readonly string[] } = {
  vm: [
    'place',
    'vm-lost',
    'vm-failed',
    'vm-given-up',
    'vm-halted',
    'vm-reset',
    'migrate',
    'migration-abort',
    'export-ended',
    'snapshot',
  ],
  host: [
    'host-joined',
    'strand',
    'strand-over',
    'fence',
    'fenced',
    'silent',
    'admit',
    'not-fenced',
    'quarantine',
    'quarantine-over',
    'drain',
    'drain-over',
    'readmit',
  ],
  volume: ['owner', 'owner-leaves'],
}

/** Null: there is nothing of that name. `decisions` oldest first. */
export function whyOf(
  state: CoordinatorState,
  what: WhyWhat,
  name: string,
  decisions: readonly DecisionRecord[],
  now: number,
): Why | null {
  const sentences = sentencesOf(lookAt(state), what, name, now)
  if (sentences === null) return null
  const about = decisions.filter(decision => decision.subject === name && KINDS[what].includes(decision.kind))
  return {
    what,
    name,
    now: isTaken(state) ? sentences : [...sentences, `For the moment ${whyNotTaken(state)}.`],
    decisions: about.slice(-DECISIONS_TOLD).map(decision => ({
      ...decision,
      rejected: decision.rejected.map(rejected => ({ ...rejected })),
    })),
  }
}

function sentencesOf(state: CoordinatorState, what: WhyWhat, name: string, now: number): string[] | null {
  switch (what) {
    case 'vm': {
      const vm = state.vms.get(name)
      return vm === undefined ? null : ofVm(state, vm, now)
    }
    case 'host': {
      const host = state.hosts.get(name)
      return host === undefined ? null : ofHost(state, host, now)
    }
    case 'volume': {
      const volume = state.volumes.get(name)
      return volume === undefined ? null : ofVolume(state, volume, now)
    }
  }
}

function ofVm(state: CoordinatorState, vm: VmRecord, now: number): string[] {
  const view = vmView(state, vm, now)
  const said = [`It is ${view.state}${view.host === null ? '' : ` on ${view.host}`}; it is to be ${vm.desired}.`]
  if (view.why !== null) said.push(`Its host says: ${view.why}.`)
  if (view.whyNot !== null) said.push(`It is not started because ${view.whyNot}.`)
  if (view.storage !== null && view.storage.rung !== 'direct') said.push(`Its storage: ${rungText(view.storage)}.`)
  if (vm.placement !== null) said.push(`It was placed on ${vm.placement.host} because ${vm.placement.why}.`)
  if (vm.desired === 'running' && !isWanted(state, vm)) said.push('The cluster is being halted: nothing is to run.')
  const host = vm.placement === null ? undefined : state.hosts.get(vm.placement.host)
  const owed = host?.fence == null ? [] : fencesOwed(state, host.fence, volumesOf(vm))
  if (owed.length > 0) said.push(`Host ${host?.name} is being fenced; still to acknowledge: ${owed.join(', ')}.`)
  else if (host?.fence != null) {
    const waits = whyNotSilent(state, host, externalsOfVm(state, vm))
    said.push(
      waits === null
        ? `Host ${host.name} is fenced; it starts elsewhere when its old instance is attested dead or waited out.`
        : `Host ${host.name} is fenced; it does not start elsewhere yet because ${waits}.`,
    )
  }
  if (view.migration !== null) {
    said.push(`It is being migrated from ${view.migration.from} to ${view.migration.to}: ${view.migration.phase}.`)
  }
  for (const { forward, hosts } of view.forwards) {
    for (const { host, state: is, why } of hosts) {
      if (is === 'closed') said.push(`Its forward ${forward} is not open on ${host} because ${why}; it is tried again.`)
    }
  }
  return said
}

function ofHost(state: CoordinatorState, host: HostRecord, now: number): string[] {
  const ageMs = ageOfHost(state, host.name, now)
  const heard =
    ageMs === null ? 'it was not heard since the coordinator started' : `last heard ${Math.round(ageMs)} ms ago`
  const said = [host.removed ? 'It was removed.' : `It is ${hostState(state, host)} at epoch ${host.epoch}; ${heard}.`]
  if (host.fence !== null) said.push(`It is fenced because ${host.fence.why}.`)
  if (host.fence?.attestedBy != null) said.push(`Its agent's death was attested by ${host.fence.attestedBy}.`)
  const owed = host.fence === null ? [] : fencesOwed(state, host.fence)
  if (owed.length > 0) said.push(`Its fence is still to be acknowledged by ${owed.join(', ')}: what is there waits.`)
  if (host.admitOwed.length > 0) said.push(`Its epoch is still unknown to ${host.admitOwed.join(', ')}.`)
  const live = liveOf(state, host.name)
  if (host.phase === 'fenced' && live.session === null) said.push('It is admitted again when its agent is back.')
  if (host.phase === 'fenced' && live.session !== null && !live.ended)
    said.push('It is admitted again when its agent has said that nothing of its own runs there.')
  const survivors = [...new Set([...(host.fence?.survivors ?? []), ...live.survivors.keys()])]
  if (survivors.length > 0)
    said.push(
      `${survivors.join(', ')} had a machine there that outlived its agent: the next agent takes it over, or it ends in time.`,
    )
  const leftMs = quarantineLeftMs(state, host, now)
  if (leftMs !== null) {
    said.push(
      `It is in quarantine because ${host.quarantine?.why}: no VM is placed on it for another ${Math.ceil(leftMs / 1000)} s` +
        `, unless no other host can take it; end it: stellwerk host resume ${host.name}.`,
    )
  }
  const left = leftAt(state, host.name).map(({ vm, why }) => (why === null ? vm : `${vm} (${why})`))
  if (host.drain !== undefined) {
    said.push(
      `It is taken out of service because ${host.drain.why}; left there: ${left.join(', ') || 'nothing'}` +
        `; end it: stellwerk host resume ${host.name}.`,
    )
  }
  if (live.stranded?.host === 'left') {
    said.push(
      'Some of its VMs have no way to their storage, and start elsewhere once it is fenced; before that the others are moved away;' +
        ` on it now: ${left.join(', ')}.`,
    )
  }
  if (live.stranded?.host === 'kept') {
    said.push(
      'Some of its VMs have no way to their storage; it is not fenced for the sake of others, which cannot be moved;' +
        ` on it now: ${left.join(', ')}.`,
    )
  }
  if (live.whyNotFenced !== null) said.push(`It is not fenced because ${live.whyNotFenced}.`)
  const vms = vmsAt(state, host.name)
  if (vms.length > 0) said.push(`It has ${vms.map(vm => vm.name).join(', ')}.`)
  return said
}

function ofVolume(state: CoordinatorState, volume: VolumeRecord, now: number): string[] {
  const owner =
    volume.owner === null ? 'nobody owns it' : `owned by ${volume.owner.host} at epoch ${volume.owner.epoch}`
  const said = [`It is ${volumeState(state, volume, now)}; ${owner}.`]
  const whyNot = volumeWhyNot(state, volume, now)
  if (whyNot !== null) said.push(`It can't be used because ${whyNot}.`)
  if (volume.owner !== null && volume.phase === 'ready' && !isServing(state, volume.name)) {
    const reported = liveOf(state, volume.owner.host).volumes.get(volume.name)
    said.push(`Its owner says: ${reported === undefined ? 'nothing of it yet' : reported.state}.`)
  }
  for (const recovery of state.recoveries.values()) {
    if (recovery.volume === volume.name) said.push(`What ${recovery.host} left on it is being recovered.`)
  }
  return said
}
