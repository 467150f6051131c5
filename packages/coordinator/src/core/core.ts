// The coordinator's decisions, whole: one synchronous function from an input to changes and effects. No clock, no I/O.

import type { Beat, VolumeLegLost } from '@stellwerk/protocol/messages/cluster.ts'
import type { LunShown } from '@stellwerk/protocol/messages/storage.ts'
import { announceRun, isTaken, mayAct, type RunAnswer, runAnswered, runUnanswered, whyOlderThan } from './announce.ts'
import { answered, forgetOldQuestions } from './asking.ts'
import { copyRefused, copyTaken, spreadCopy } from './cluster-copy.ts'
import { type Command, obey } from './commands.ts'
import { workOnDrains } from './drains.ts'
import { admitAnswered, fenceAcknowledged, workOnFences } from './fencing.ts'
import { attests } from './guardians.ts'
import { hostLive } from './hosts.ts'
import { followForwards } from './lasting-forwards.ts'
import { marksHeard } from './leg-verification.ts'
import { generationTold, legLost, lunCreated, lunDeleted, lunRefused, lunSeen, workOnLegs } from './legs.ts'
import { diskCreated, diskDeleted, diskHeld, vmLive, workOnVms } from './lifecycle.ts'
import { mapOf, spreadMap } from './map.ts'
import { type AgentHello, agentDown, agentUp, attestDead, BY_GUARDIAN, beat, watchHosts } from './membership.ts'
import { done, failed, loaded, progressed, sourceReady, targetReady, workOnMigrations } from './migration.ts'
import { outcomeForSource } from './migration-outcome.ts'
import { type Output, StepOutput } from './output.ts'
import { ownerRefused, workOnVolumes } from './ownership.ts'
import { workOnQuarantines } from './quarantine.ts'
import { followRoutes } from './routes.ts'
import { noteSince } from './since.ts'
import type { CoordinatorState } from './state.ts'
import { takeUnconfirmed } from './unconfirmed.ts'

type FromAgent = {
  readonly migration: string
  readonly vm: string
  readonly host: string
  readonly incarnation: number
}

/** `request` numbers what waits for an answer; a `reply` or `refuse` effect names it. */
export type Input =
  | { readonly kind: 'tick' }
  | { readonly kind: 'agent-up'; readonly hello: AgentHello }
  | { readonly kind: 'agent-down'; readonly host: string; readonly incarnation: number }
  | { readonly kind: 'beat'; readonly request: number; readonly beat: Beat }
  | {
      readonly kind: 'attest'
      readonly request: number
      readonly host: string
      readonly guardian?: string
      readonly incarnation: number
      /** VMs whose machines live on without an agent. */
      readonly survivors?: readonly string[]
    }
  | {
      readonly kind: 'migration-progress'
      readonly migration: string
      readonly converged: boolean
      readonly round?: number
      readonly pagesSent?: number
      readonly bytesSent?: number
      readonly dirtyPages?: number
      readonly forecastMs?: number
      readonly totalBytes?: number
      readonly leftBytes?: number
      readonly bytesPerSecond?: number
      readonly dirtyBytesPerSecond?: number
    }
  | {
      readonly kind: 'migration-loaded'
      readonly request: number
      readonly message: FromAgent & { readonly epoch: number }
    }
  | {
      readonly kind: 'migration-failed'
      readonly request: number
      readonly message: FromAgent & { readonly reason: string }
    }
  | {
      readonly kind: 'migration-ask'
      readonly request: number
      readonly message: FromAgent & { readonly epoch: number }
    }
  | {
      readonly kind: 'migration-done'
      readonly request: number
      readonly message: FromAgent & { readonly statistics: Record<string, number> }
    }
  | { readonly kind: 'leg-lost'; readonly request: number; readonly report: VolumeLegLost }
  | { readonly kind: 'answered'; readonly key: string; readonly body: unknown }
  | { readonly kind: 'unanswered'; readonly key: string; readonly code: string; readonly message: string }
  | { readonly kind: 'command'; readonly request: number; readonly command: Command }

/** A question that was refused or not answered is asked again after this share of the request's time. */
const RETRY_SHARE = 0.1
const FORGET_QUESTIONS_MS = 60_000

/** One step. Inputs that change what should be done are followed up at once; the tick follows up what time changes. */
export function step(state: CoordinatorState, input: Input, now: number, wallMs: number): Output {
  const out = new StepOutput(state, wallMs)
  take(state, input, now, out)
  if (input.kind === 'tick') followRoutes(state, now)
  if (input.kind !== 'migration-ask') follow(state, now, out)
  const taken = isTaken(state)
  if (out.revise(taken)) announceRun(state, now, out)
  out.keep(effect => mayAct(state, taken, effect))
  if (input.kind === 'tick') forgetOldQuestions(state, now, FORGET_QUESTIONS_MS)
  return out
}

function take(state: CoordinatorState, input: Input, now: number, out: StepOutput): void {
  const taken = isTaken(state)
  if (!taken) takeUnconfirmed(state, input, now, out)
  if (taken || input.kind === 'answered' || input.kind === 'unanswered') takeConfirmed(state, input, now, out)
}

/** And the answers to what was asked before. */
function takeConfirmed(state: CoordinatorState, input: Input, now: number, out: StepOutput): void {
  switch (input.kind) {
    case 'tick':
      watchHosts(state, now, out)
      workOnQuarantines(state, now, out)
      break
    case 'agent-up':
      agentUp(state, input.hello, now, out)
      break
    case 'agent-down':
      agentDown(state, input.host, input.incarnation)
      break
    case 'beat':
      out.effect({ kind: 'reply', to: input.request, body: beat(state, input.beat, now, out) })
      break
    case 'attest':
      // A stranger's, too, is answered: it would be said again and again.
      if (attests(state, input.host, input.guardian)) {
        const { incarnation, survivors = [] } = input
        attestDead(state, input.host, { incarnation, survivors, by: BY_GUARDIAN }, now, out)
      }
      out.effect({ kind: 'reply', to: input.request, body: {} })
      break
    case 'migration-progress':
      progressed(state, input, now, out)
      break
    case 'migration-loaded':
      out.effect({
        ...{ kind: 'reply', to: input.request },
        body: { outcome: loaded(state, input.message, now, out) },
      })
      break
    case 'migration-failed':
      failed(state, input.message, now, out)
      out.effect({ kind: 'reply', to: input.request, body: {} })
      break
    case 'migration-ask':
      out.effect({
        ...{ kind: 'reply', to: input.request },
        body: { outcome: outcomeForSource(state, input.message) },
      })
      break
    case 'migration-done':
      done(state, input.message, now, out)
      out.effect({ kind: 'reply', to: input.request, body: {} })
      break
    case 'leg-lost':
      legLost(state, input.report, now, out)
      out.effect({ kind: 'reply', to: input.request, body: {} })
      break
    case 'command': {
      const result = obey(state, input.command, now, out)
      if (result.ok) out.effect({ kind: 'reply', to: input.request, body: result.body })
      else out.effect({ kind: 'refuse', to: input.request, ...result.refusal })
      break
    }
    case 'answered':
      takeAnswer(state, input.key, input.body, now, out)
      break
    case 'unanswered':
      answered(state, input.key, now + state.cluster.settings.requestMs * RETRY_SHARE)
      if (input.code === 'stale-term') out.effect({ kind: 'step-down', why: input.message, replaced: true })
      else if (input.code === 'older-state') {
        // One storage's word against another's is not the last.
        const forGood = !state.vouched
        out.effect({ kind: 'step-down', why: input.message, ...(forGood ? { forGood } : {}) })
      } else takeRefusal(state, input, now, out)
      break
  }
}

/** Level-triggered: compares what is with what should be, and orders what is missing. */
function follow(state: CoordinatorState, now: number, out: StepOutput): void {
  announceRun(state, now, out)
  if (!isTaken(state)) return
  workOnFences(state, now, out)
  workOnLegs(state, now, out)
  noteSince(state, now)
  workOnVolumes(state, now, out)
  workOnDrains(state, now, out)
  workOnMigrations(state, now, out)
  workOnVms(state, now, out)
  followForwards(state)
  mapOf(state)
  spreadMap(state, now, out)
  spreadCopy(state, now, out)
}

function isOlder(state: CoordinatorState, host: string, storage: string, body: unknown, out: StepOutput): boolean {
  const why = whyOlderThan(state, host, storage, body as { admitted: number; fenced: number })
  if (why !== null) out.effect({ kind: 'step-down', why })
  return why !== null
}

function takeAnswer(state: CoordinatorState, key: string, body: unknown, now: number, out: StepOutput): void {
  const [what, a = '', b = '', c = '', d = ''] = key.split('/')
  answered(state, key, null)
  switch (what) {
    case 'run':
      runAnswered(state, a, body as RunAnswer, now, out)
      break
    case 'fence':
      if (isOlder(state, a, c, body, out)) break
      fenceAcknowledged(state, a, Number(b), c, (body as { lastSeenMs: number | null }).lastSeenMs, now, out)
      break
    case 'admit':
      state.outstanding.set(key, { retryAt: now + state.cluster.settings.requestMs })
      if (!isOlder(state, a, c, body, out))
        admitAnswered(state, a, Number(b), c, body as { admitted: number; fenced: number }, out)
      break
    case 'seen':
      if (isOlder(state, a, b, body, out)) break
      hostLive(state, a).seen.set(b, { seenAgoMs: (body as { lastSeenMs: number | null }).lastSeenMs, at: now })
      state.outstanding.set(key, { retryAt: now + state.cluster.settings.heartbeatMs })
      watchHosts(state, now, out)
      break
    case 'lun':
      lunCreated(state, a, b, out)
      break
    case 'there':
      lunSeen(state, a, b, 'there')
      break
    case 'marks':
      marksHeard(state, a, b, (body as { luns: readonly LunShown[] }).luns, out)
      break
    case 'unlun':
      lunDeleted(state, a, b, c, d === '' ? undefined : d, out)
      break
    case 'generation':
      generationTold(state, a, Number(b), c, now, out)
      break
    case 'recover':
      out.remove('recoveries', `${a}/${b}/${c}`)
      break
    case 'disk-create':
      diskCreated(state, a, b, out)
      break
    case 'disk-delete':
      diskDeleted(state, a, b, out)
      break
    case 'copy':
      copyTaken(state, a, now)
      break
    case 'map':
      hostLive(state, a).mapVersion = Number(c)
      break
    case 'mig-send':
      state.outstanding.set(key, { retryAt: now + state.cluster.settings.requestMs })
      sourceReady(state, a, now, out)
      break
    case 'mig-receive':
      targetReady(state, a, now, out)
      break
    case 'start':
    case 'stop':
    case 'stray':
    case 'left':
    case 'forget':
    case 'mig-switch':
    case 'mig-outcome':
      // Its effect shows in the next beat; until then it need not be said again.
      state.outstanding.set(key, { retryAt: now + state.cluster.settings.requestMs })
      break
  }
}

function takeRefusal(
  state: CoordinatorState,
  { key, code, message }: Extract<Input, { kind: 'unanswered' }>,
  now: number,
  out: StepOutput,
): void {
  const [what, a = '', b = '', c = '', d = ''] = key.split('/')
  if (what === 'run') runUnanswered(state, a, now)
  if (what === 'admit') admitAnswered(state, a, Number(b), c, null, out)
  if (what === 'copy') copyRefused(state, a, code, message)
  if (what === 'disk-create' && state.vms.has(a)) vmLive(state, a).diskRefused = message
  if (what === 'recover' || what === 'copy') ownerRefused(state, a, code)
  if (what === 'disk-delete' && code === 'disk-attached') diskHeld(state, a, b, out)
  if (what === 'lun') lunRefused(state, a, message)
  if (what === 'there' && code === 'unknown-lun') lunSeen(state, a, b, 'missing')
  if (what === 'there' && code === 'lun-failed') lunSeen(state, a, b, { failed: message })
  if (what === 'unlun' && code === 'unknown-lun') lunDeleted(state, a, b, c, d === '' ? undefined : d, out)
  if (what === 'generation') lunRefused(state, a, message)
}
