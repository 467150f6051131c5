// After a restore nobody's word on legs counts but the storages' own: what each was told last stands in its marks. A volume is
// believed to be at the highest generation found, and is opened only if every leg that this one calls in sync answers: else a leg
// that has been left behind could be taken for the whole truth.

import { lunId } from '@stellwerk/protocol/lun-id.ts'
import type { LunShown } from '@stellwerk/protocol/messages/storage.ts'
import { shouldAsk } from './asking.ts'
import { isExternal } from './external.ts'
import { changeGeneration, volumeLive } from './legs.ts'
import type { StepOutput } from './output.ts'
import type { CoordinatorState, LegRecord, VolumeRecord } from './state.ts'

export interface LegMarks {
  readonly generation: number
  readonly id: string | null
  readonly legs: { readonly [leg: string]: LegRecord['role'] }
}

export function verifyLegs(state: CoordinatorState, volume: VolumeRecord, now: number, out: StepOutput): void {
  if (!volume.unsure) return
  const { marks } = volumeLive(state, volume.name)
  const [only] = volume.legs
  if (only !== undefined && volume.legs.length === 1 && isExternal(state, only.storage)) {
    believeCopy(state, volume, out)
    return
  }
  for (const { storage } of volume.legs) {
    if (isExternal(state, storage)) continue
    const key = `marks/${volume.name}/${storage}`
    if (marks.has(storage) || !shouldAsk(state, key, now, state.cluster.settings.requestMs)) continue
    out.effect({ kind: 'storage', key, storage, message: 'storage.list-luns', body: {} })
  }
}

/** What is waited for before it is known which legs count; null: it is known. */
export function whyUnsure(state: CoordinatorState, volume: VolumeRecord): string | null {
  if (!volume.unsure) return null
  const judged = judgeMarks(volume, state.liveVolumes.get(volume.name)?.marks ?? new Map())
  return typeof judged === 'string' ? judged : 'its storages are being asked'
}

/** Its one leg is on a storage that keeps no marks: what it is in nobody else can tell. */
function believeCopy(state: CoordinatorState, volume: VolumeRecord, out: StepOutput): void {
  out.put('volumes', volume.name, { ...volume, unsure: false })
  state.mapVersion += 1
  out.decide({
    kind: 'generation',
    subject: volume.name,
    saw: { generation: volume.generation },
    chose: `generation ${volume.generation}, as the copy has it`,
    why: 'after a restore: its only leg is on a storage that knows no generations',
  })
}

export function marksHeard(
  state: CoordinatorState,
  name: string,
  storage: string,
  luns: readonly LunShown[],
  out: StepOutput,
): void {
  const volume = state.volumes.get(name)
  if (volume?.unsure !== true) return
  const live = volumeLive(state, name)
  const leg = volume.legs.find(each => each.storage === storage)
  // Another one may have been made under that name since the copy was written.
  const shown = luns.find(each => each.lun === leg?.lun && each.id === lunId(volume, leg))
  if (shown !== undefined) {
    live.marks.set(storage, { generation: shown.generation, id: shown.generationId, legs: shown.legs })
  }
  const sure = judgeMarks(volume, live.marks)
  if (typeof sure === 'string') {
    live.why = sure
    return
  }
  live.why = null
  live.marks.clear()
  if ('untold' in sure) {
    const why = 'after a restore: the last generation was told to no leg that is in sync in it'
    changeGeneration(state, sure.untold, sure.untold.legs, why, out)
    return
  }
  out.put('volumes', name, sure)
  state.mapVersion += 1
  out.decide({
    kind: 'generation',
    subject: name,
    saw: { generation: volume.generation },
    chose: `generation ${sure.generation}: ${sure.legs.map(leg => `${leg.leg} ${leg.role}`).join(', ')}`,
    why: 'after a restore: every leg that the highest generation found calls in sync has answered',
  })
}

/** The volume as the marks have it; `untold`: its legs are to be told of a new generation first; a text: why it can't be told yet. */
export function judgeMarks(
  volume: VolumeRecord,
  marks: ReadonlyMap<string, LegMarks>,
): VolumeRecord | { readonly untold: VolumeRecord } | string {
  let highest: LegMarks | null = null
  for (const found of marks.values()) if (highest === null || found.generation > highest.generation) highest = found
  if (highest === null) return 'no storage has told yet which generation its leg is of'
  const { generation, id, legs: roles } = highest
  if (generation === 0) return judgeUnmirrored(volume, marks)
  // In sync, and never told so: nothing was written in that generation without it, so whoever was told has all that it has.
  const behind = new Set<string>()
  for (const [leg, role] of Object.entries(roles)) {
    if (role === 'stale') continue
    const known = volume.legs.find(each => each.leg === leg)
    if (known === undefined) return `generation ${generation} has ${leg} ${role}, which the copy does not know`
    if (role === 'syncing') {
      // It may have come in sync since, and have been the only one: whoever was lost then was told of neither.
      if (!marks.has(known.storage))
        return `${known.storage} has not answered, whose leg caught up in generation ${generation}`
      continue
    }
    const told = marks.get(known.storage)?.generation
    if (told === undefined) return `${known.storage} has not answered, whose leg is in sync in generation ${generation}`
    if (told < generation) behind.add(leg)
  }
  // Of those in sync none was told of the highest generation, so nothing was written in it: they are judged by what they were told.
  const inSync = volume.legs.filter(leg => roles[leg.leg] === 'in-sync')
  const lastTold = Math.max(...inSync.map(leg => marks.get(leg.storage)?.generation ?? 0))
  const isUntold = inSync.length > 0 && behind.size === inSync.length
  if (isUntold) for (const leg of inSync) if (marks.get(leg.storage)?.generation === lastTold) behind.delete(leg.leg)
  for (const { storage, role } of volume.legs) {
    // Of a later one that the copy has no storage may have been told.
    if (volume.generation <= generation || role !== 'in-sync' || marks.has(storage)) continue
    return `${storage} has not answered, whose leg is in sync in generation ${volume.generation}, as the copy has it`
  }
  const legs = volume.legs.map((leg): LegRecord => {
    const role = behind.has(leg.leg) ? 'stale' : (roles[leg.leg] ?? 'stale')
    // Since when it is behind is not known any more: it is copied whole.
    return role === 'in-sync' ? { ...leg, role } : { ...leg, role: 'stale', lastInSync: null }
  })
  const sure = { ...volume, legs, generation, generationId: id, generationOwed: [], unsure: false }
  return isUntold ? { untold: sure } : sure
}

/** Generation 0 is a LUN's own: its volume was no mirror yet, though a second leg may have been asked for. What counts is in the copy. */
function judgeUnmirrored(volume: VolumeRecord, marks: ReadonlyMap<string, LegMarks>): VolumeRecord | string {
  const sure = { ...volume, generation: 0, generationId: null, unsure: false }
  if (volume.legs.length === 1) return sure
  if (volume.generation > 0)
    return `no storage knows a generation of it, and it is in generation ${volume.generation} in the copy`
  const away = volume.legs.find(({ storage, role }) => role === 'in-sync' && !marks.has(storage))
  return away === undefined ? sure : `${away.storage} has not answered, whose leg is in sync in the copy`
}
