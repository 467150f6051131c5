// Before a volume gets a leg on a storage, it is looked whether that can take it: what is in the way is said to whoever asked, and
// nothing has changed. The core meets it again when the leg is made: what has come in the way meanwhile is in the volume's status.

import type { CheckExport } from '@stellwerk/protocol/messages/cluster.ts'
import type { LunShown } from '@stellwerk/protocol/messages/storage.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { Coordinator } from '../coordinator.ts'
import { isExternal } from '../core/external.ts'
import { usableHosts, whoPassesOn } from '../core/hosts.ts'

export interface NewLeg extends Omit<CheckExport, 'storage'> {
  /** That its LUN will have. */
  readonly lunId: string
}

/** Throws what keeps the storage from taking the leg that the core would grant. */
export async function checkNewLeg(
  coordinator: Pick<Coordinator, 'state' | 'askAgent' | 'askStorage'>,
  storage: string,
  { lunId, ...wanted }: NewLeg,
): Promise<void> {
  if (isExternal(coordinator.state, storage)) await checkExport(coordinator, { storage, ...wanted })
  else await checkName(coordinator, storage, wanted.lun, lunId)
}

/** One of the hosts that reach it looks at the export. */
async function checkExport(
  { state, askAgent }: Pick<Coordinator, 'state' | 'askAgent'>,
  wanted: CheckExport,
): Promise<void> {
  const near = whoPassesOn(state, wanted.storage) ?? usableHosts(state)[0]
  if (near === undefined) {
    throw new StellwerkError('no-host', `no host is up that could look at storage "${wanted.storage}"`, {
      retryable: true,
      hint: 'see: stellwerk host list',
    })
  }
  await askAgent(near.name, 'storage.check-export', wanted)
}

/** A LUN of that name which is not this leg's holds what somebody else put there. */
async function checkName(
  { askStorage }: Pick<Coordinator, 'askStorage'>,
  storage: string,
  lun: string,
  lunId: string,
): Promise<void> {
  const luns = await whatIsThere({ askStorage }, storage, lun)
  const other = luns?.find(({ id }) => id !== lunId)
  if (other === undefined) return
  const message = `storage "${storage}" has a LUN "${lun}" already, which is not this volume's (id ${other.id})`
  throw new StellwerkError('lun-exists', message, {
    where: storage,
    hint: `name another storage; or, if no volume has it, delete it: see stellwerk lun list ${storage}`,
  })
}

/** On an embedded storage; `lun`: that one alone. Rejects where it cannot be asked now. */
export async function lunsOf(
  { askStorage }: Pick<Coordinator, 'askStorage'>,
  storage: string,
  lun?: string,
): Promise<readonly LunShown[]> {
  const reply = await askStorage(storage, 'storage.list-luns', lun === undefined ? {} : { lun })
  return (reply as { readonly luns: readonly LunShown[] }).luns
}

/** Null where the storage cannot be asked now: it makes the LUN when it is back. */
async function whatIsThere(
  coordinator: Pick<Coordinator, 'askStorage'>,
  storage: string,
  lun: string,
): Promise<readonly LunShown[] | null> {
  try {
    return await lunsOf(coordinator, storage, lun)
  } catch (error) {
    if (error instanceof StellwerkError && error.retryable) return null
    throw error
  }
}
