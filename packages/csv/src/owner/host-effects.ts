// What an owner needs of the host that has a disk: a barrier for a snapshot, and to know that the disk has grown. The way
// there is given; it must end in bounded time, for while a barrier is asked for the disk's writers wait.

import { errorMessage } from '@stellwerk/runtime/errors.ts'
import type { Holder } from '../format/metadata.ts'
import { refuse } from './refusal.ts'
import type { Effect, EffectOutcome } from './state.ts'

export interface DiskHosts {
  /** Rejects when the host did not do it, or nobody knows. */
  barrier(holder: Holder, disk: string): Promise<void>
  /** Until the host has heard it, or is not to be reached: it learns it when it attaches again. */
  resized(holder: Holder, disk: string, sizeBytes: number, mapVersion: number): Promise<void>
}

export type HostEffect = Extract<Effect, { type: 'barrier' | 'tell-size' }>

export function isHostEffect(effect: Effect): effect is HostEffect {
  return effect.type === 'barrier' || effect.type === 'tell-size'
}

export async function runHostEffect(hosts: DiskHosts | null, effect: HostEffect): Promise<EffectOutcome> {
  const { holder, disk } = effect
  try {
    if (hosts === null) throw new Error('this owner reaches no hosts')
    if (effect.type === 'barrier') await hosts.barrier(holder, disk)
    else await hosts.resized(holder, disk, effect.sizeBytes, effect.mapVersion)
    return { ok: true }
  } catch (error) {
    const why = refuse(
      'barrier-failed',
      `disk ${disk} is in use by ${holder.vm} on ${holder.host}, which did not hold its writes: ${errorMessage(error)}`,
      { where: disk, hint: 'nothing was changed: try again when that host is reached, or stop the VM', cause: error },
    )
    return { ok: false, full: false, why }
  }
}
