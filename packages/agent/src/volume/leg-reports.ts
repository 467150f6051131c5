// Tells the coordinator that a leg is lost to this host. Said as often as the mirror says it; what came of it is in the next
// map, and in what the surviving leg's storage says.

import type { ActorSystem } from '@stellwerk/runtime/actors/actor-system.ts'
import type { Environment } from '@stellwerk/runtime/environment.ts'
import { COORDINATOR } from '../coordinator-name.ts'

const WHY_MAX = 1_000

export interface LegLost {
  readonly volume: string
  readonly leg: string
  readonly generation: number
  readonly why: string
}

export function reportLegLost(
  parts: { readonly env: Environment; readonly system: ActorSystem; readonly config: { readonly host: string } },
  lost: LegLost,
  hostEpoch: number,
  deadlineMs: number,
): void {
  const { env, system, config } = parts
  const body = { ...lost, why: lost.why.slice(0, WHY_MAX), host: config.host, hostEpoch }
  system.ask(`${config.host}/agent`, COORDINATOR, 'volume.leg-lost', body, deadlineMs).catch((error: unknown) => {
    const text = `the coordinator did not hear that ${lost.leg} is lost: ${String(error)}`
    env.log.debug({ volume: lost.volume }, text)
  })
}
