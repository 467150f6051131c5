// How hosts get at volumes, as operators see it. Pure. A host that is not heard says nothing any more.

import type { CoordinatorState, VolumeRecord } from '../core/state.ts'
import { ageOfHost, isFresh, liveOf, sortedHosts } from './hosts.ts'
import type { HostView, VolumeView } from './schemas.ts'

export function accessOfHost(state: CoordinatorState, host: string, now: number): HostView['access'] {
  const fresh = isFresh(state, host, now)
  return liveOf(state, host)
    .access.map(({ volume, storage, state: is, via, why, sinceMs }) => ({
      ...{ volume, storage, state: fresh ? is : 'unknown', via: fresh ? via : null, why },
      sinceMs: sinceMs + (ageOfHost(state, host, now) ?? 0),
    }))
    .sort((a, b) => (`${a.volume}/${a.storage}` < `${b.volume}/${b.storage}` ? -1 : 1))
}

export function accessToVolume(state: CoordinatorState, volume: VolumeRecord, now: number): VolumeView['access'] {
  return sortedHosts(state).flatMap(({ name }) => {
    const open = accessOfHost(state, name, now).filter(access => access.volume === volume.name)
    return volume.legs.map(({ storage }) => {
      const access = open.find(each => each.storage === storage)
      if (access !== undefined) {
        const { state: is, via, why, sinceMs } = access
        return { host: name, storage, state: is, via, why, sinceMs }
      }
      const is = isFresh(state, name, now) ? 'detached' : 'unknown'
      return { host: name, storage, state: is, via: null, why: 'it is not open there', sinceMs: null }
    })
  })
}
