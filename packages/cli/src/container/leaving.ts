// A host whose container is stopped has its VMs moved to others first, unless there are none: when all are stopped at once
// each finds the others leaving, and guests are shut down where they are.

import type { HostView } from '@stellwerk/coordinator/view/schemas.ts'
import { errorMessage } from '@stellwerk/runtime/errors.ts'
import { type ApiClient, pathOf } from '../api-client/client.ts'

/** The containers' engine kills what has not ended by its grace period; shutting down guests takes its time as well. */
const LEAVE_MS = 40_000
const POLL_MS = 250
/** When nothing more is going to move. */
const STUCK_MS = 3_000
export const LEAVING = 'its container is being stopped'

export interface Leaving {
  readonly api: Pick<ApiClient, 'get' | 'post'>
  readonly host: string
  readonly now: () => number
  readonly sleep: (ms: number) => Promise<void>
  readonly log: (message: string) => void
}

/** Never rejects: who can't be helped is stopped all the same. */
export async function leaveFirst({ api, host, now, sleep, log }: Leaving): Promise<void> {
  const until = now() + LEAVE_MS
  let left = Number.POSITIVE_INFINITY
  let movedAt = now()
  try {
    await api.post(pathOf('hosts', host, 'drain'), { why: LEAVING })
    while (now() < until) {
      const hosts = (await api.get(pathOf('hosts'))) as Record<string, HostView>
      const count = hosts[host]?.drain?.left.length ?? 0
      if (count === 0) return
      if (count < left) movedAt = now()
      left = count
      const others = Object.values(hosts).filter(each => each.name !== host && each.state === 'up')
      if (others.length === 0 && now() - movedAt > STUCK_MS) {
        log(`${count} VMs have nowhere to go: they are shut down here`)
        return
      }
      await sleep(POLL_MS)
    }
    log(`${left} VMs could not be moved in time: they are shut down here`)
  } catch (error) {
    log(`its VMs are shut down here: ${errorMessage(error)}`)
  }
}

/** It is back: it takes VMs again, if it was only for its container's sake that it did not. */
export async function comeBack({ api, host, sleep, log }: Omit<Leaving, 'now'>, tries: number): Promise<void> {
  let why = ''
  for (let i = 0; i < tries; i += 1) {
    try {
      const view = (await api.get(pathOf('hosts', host))) as HostView
      if (view.drain?.why !== LEAVING) return
      await api.post(pathOf('hosts', host, 'resume'))
      return
    } catch (error) {
      // The coordinator may be starting, or not know it yet.
      why = errorMessage(error)
      await sleep(POLL_MS)
    }
  }
  log(`it may still be out of service, see: stellwerk host resume ${host}; ${why}`)
}
