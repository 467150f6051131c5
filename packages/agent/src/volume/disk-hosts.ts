// A volume owner's way to the hosts that have its disks. Bounded: a disk's writers wait while its host is asked for a
// barrier, and a host that is not reached learns of a new size when it attaches again.

import type { Holder } from '@stellwerk/csv/format/metadata.ts'
import type { ScrubHosts } from '@stellwerk/csv/mirror/owner-scrub.ts'
import type { DiskHosts } from '@stellwerk/csv/owner/host-effects.ts'
import type { ActorSystem } from '@stellwerk/runtime/actors/actor-system.ts'
import type { Environment } from '@stellwerk/runtime/environment.ts'
import { errorMessage } from '@stellwerk/runtime/errors.ts'

export interface DiskHostsOptions {
  readonly env: Pick<Environment, 'timers' | 'log'>
  readonly system: ActorSystem
  /** This host: where the owner is. */
  readonly host: string
  readonly volume: string
  /** What one message and its answer may take. */
  readonly requestMs: number
}

/** A barrier waits for the writes in flight, which may be slow, and then the snapshot fails rather than keep writers waiting. */
export const BARRIER_REQUESTS = 2
/** How often a host is told of a new size. */
const RESIZE_TRIES = 5
const RESIZE_AGAIN_MS = 1_000

/** A part of an extent is compared in the time of a request, unless the storage is slow; it is asked again then. */
export function scrubHosts({ system, host, volume, requestMs }: DiskHostsOptions): ScrubHosts {
  const ask = <T>(to: string, kind: string, body: object): Promise<T> =>
    system.ask(`${host}/owner/${volume}`, `${to}/disks`, kind, { volume, ...body }, requestMs) as Promise<T>
  return {
    part: ({ host: to, hostEpoch, epoch }, disk, part) => ask(to, 'disk.scrub', { disk, hostEpoch, epoch, ...part }),
    slot: (to, goodLeg) => ask(to, 'disk.scrub-slot', { goodLeg }),
  }
}

export function diskHosts({ env, system, host, volume, requestMs }: DiskHostsOptions): DiskHosts {
  const ask = (holder: Holder, kind: string, body: object, deadlineMs: number): Promise<unknown> => {
    const { hostEpoch, epoch } = holder
    const full = { volume, hostEpoch, epoch, ...body }
    return system.ask(`${host}/owner/${volume}`, `${holder.host}/disks`, kind, full, deadlineMs)
  }
  return {
    async barrier(holder, disk) {
      await ask(holder, 'disk.barrier', { disk }, BARRIER_REQUESTS * requestMs)
    },
    async resized(holder, disk, sizeBytes, mapVersion) {
      for (let tries = 1; ; tries += 1) {
        try {
          await ask(holder, 'disk.resized', { disk, sizeBytes, mapVersion }, requestMs)
          return
        } catch (error) {
          if (tries === RESIZE_TRIES) {
            env.log.warn({ volume, disk }, `${holder.host} has not heard of its new size: ${errorMessage(error)}`)
            return
          }
        }
        await new Promise<void>(resolve => env.timers.after(RESIZE_AGAIN_MS, resolve))
      }
    },
  }
}
