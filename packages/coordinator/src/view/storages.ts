// Storages as operators see them: above all what one does not do. Pure.

import { isExternal } from '../core/external.ts'
import type { CoordinatorState } from '../core/state.ts'
import type { StorageView } from './schemas.ts'

export const NO_EPOCHS = "no epochs: a fenced host's late writes are not refused"

export function storageViews(state: CoordinatorState): StorageView[] {
  const names = [...state.storages.keys()].sort()
  return names.map(name => {
    const external = isExternal(state, name)
    const volumes = [...state.volumes.values()].filter(({ legs }) => legs.some(leg => leg.storage === name))
    return {
      name,
      kind: external ? 'external' : 'embedded',
      epochs: !external,
      warning: external ? NO_EPOCHS : null,
      volumes: volumes.map(volume => volume.name).sort(),
    }
  })
}
