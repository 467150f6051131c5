// What a coordinator takes note of before its run is taken: who is there to carry its question to the storages, and whether one of
// them is ahead of it. Nothing durable is changed, nobody is told anything that an older state could have wrong, and what was said
// here is asked to be said again afterwards.

import type { Beat, BeatReply } from '@stellwerk/protocol/messages/cluster.ts'
import { whyNotTaken } from './announce.ts'
import type { Input } from './core.ts'
import { hostLive } from './hosts.ts'
import { agentDown, aheadOf, noteSession, takeBeat } from './membership.ts'
import type { StepOutput } from './output.ts'
import type { CoordinatorState } from './state.ts'

export const UNCONFIRMED = 'unconfirmed-state'
export const UNCONFIRMED_HINT =
  'start a storage, or mend the way to it: only a storage can tell whether this is the newest state'

export function takeUnconfirmed(state: CoordinatorState, input: Input, now: number, out: StepOutput): void {
  switch (input.kind) {
    case 'agent-up':
      noteSession(hostLive(state, input.hello.host), input.hello.incarnation, now)
      break
    case 'agent-down':
      agentDown(state, input.host, input.incarnation)
      break
    case 'beat':
      out.effect({ kind: 'reply', to: input.request, body: hear(state, input.beat, now, out) })
      break
    case 'migration-loaded':
    case 'migration-ask':
      out.effect({ kind: 'reply', to: input.request, body: { outcome: 'pending' } })
      break
    case 'command':
    case 'attest':
    case 'leg-lost':
    case 'migration-failed':
    case 'migration-done': {
      const message = `nothing was changed: ${whyNotTaken(state)}`
      out.effect({ kind: 'refuse', to: input.request, code: UNCONFIRMED, message, hint: UNCONFIRMED_HINT })
      break
    }
    case 'tick':
    case 'migration-progress':
    case 'answered':
    case 'unanswered':
      break
  }
}

function hear(state: CoordinatorState, message: Beat, now: number, out: StepOutput): BeatReply {
  const live = hostLive(state, message.host)
  const ahead = aheadOf(state, message)
  if (ahead !== null) out.effect({ kind: 'step-down', why: ahead })
  else if (live.session?.incarnation === message.incarnation) takeBeat(live, message, now)
  return { status: 'wait', epoch: Math.max(1, message.epoch), leaseMs: 0, wantMachines: !live.machinesKnown }
}
