// Scrubs of mirrored volumes: whether one may begin, and what its owner says came of it. The scrub is the owner's; what it
// found is kept here in numbers, so that it outlives the owner.

import { accept, type CommandResult, refuse } from './command-result.ts'
import { hostLive } from './hosts.ts'
import { volumeLive } from './legs.ts'
import type { StepOutput } from './output.ts'
import { isServing } from './ownership.ts'
import type { CoordinatorState, VolumeRecord } from './state.ts'

/** `good`: a leg, by its id or its storage, which is right where nothing else decides. */
export function mayScrub(state: CoordinatorState, volume: VolumeRecord, good: string | null): CommandResult {
  const { name, legs } = volume
  if (legs.length < 2) {
    return refuse(
      'not-mirrored',
      `volume "${name}" has one leg: there is nothing to compare`,
      `give it a second one: stellwerk volume mirror ${name} --to STORAGE`,
    )
  }
  const behind = legs.find(leg => leg.role !== 'in-sync')
  if (behind !== undefined) {
    const hint = `wait until it is in sync: stellwerk volume show ${name}`
    return refuse('leg-not-in-sync', `${behind.leg} of volume "${name}" on ${behind.storage} is ${behind.role}`, hint)
  }
  const leg = good === null ? null : legs.find(each => each.leg === good || each.storage === good)
  if (leg === undefined) {
    const known = legs.map(each => `${each.leg} (${each.storage})`).join(', ')
    return refuse('unknown-leg', `volume "${name}" has no leg "${good}"`, `it has ${known}`)
  }
  const reported = volume.owner === null ? undefined : hostLive(state, volume.owner.host).volumes.get(name)
  if (!isServing(state, name) || reported?.generation !== volume.generation) {
    return refuse('owner-away', `volume "${name}" has no owner that serves it now`, `see: stellwerk why volume ${name}`)
  }
  if (reportedScrub(state, volume)?.state === 'running') {
    const hint = `see: stellwerk volume show ${name}`
    return refuse('scrub-running', `volume "${name}" is being scrubbed already`, hint)
  }
  return accept({ volume: name, goodLeg: leg?.leg ?? null })
}

export function reportedScrub(state: CoordinatorState, { name, owner }: VolumeRecord) {
  if (owner === null) return null
  const reported = hostLive(state, owner.host).volumes.get(name)
  return reported?.ownerEpoch === owner.epoch ? reported.scrub : null
}

/** What has begun or ended since its owner was heard last becomes known, and is kept. */
export function noteScrub(state: CoordinatorState, volume: VolumeRecord, out: StepOutput): void {
  if (volume.owner === null || !isServing(state, volume.name)) return
  const live = volumeLive(state, volume.name)
  const scrub = reportedScrub(state, volume)
  const before = live.scrub
  live.scrub = scrub === null ? null : { id: scrub.scrub, running: scrub.state === 'running' }
  const tell = (chose: string, why: string): void => {
    out.decide({ kind: 'scrub', subject: volume.name, saw: { owner: volume.owner?.host ?? null }, chose, why })
  }
  if (before?.running === true && before.id !== scrub?.scrub) {
    tell('its scrub has ended early', 'it has another owner: begin it again')
  }
  if (scrub === null) return
  const isNew = before !== undefined && before?.id !== scrub.scrub
  if (scrub.state === 'running') {
    if (isNew) tell('a scrub has begun', 'an operator asked for it')
    return
  }
  const ended = before?.id === scrub.scrub && before.running
  if (!isNew && !ended) return
  const { repaired, unresolved, skipped } = scrub
  const lastScrub = { scrub: scrub.scrub, state: scrub.state, wallMs: out.now.wallMs, repaired, unresolved, skipped }
  out.put('volumes', volume.name, { ...volume, lastScrub })
  const found = `${repaired} places repaired, ${unresolved} undecided, ${skipped} not compared`
  tell(scrub.state === 'done' ? 'a scrub is done' : 'a scrub has ended early', found)
}
