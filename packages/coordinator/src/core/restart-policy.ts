// How often a VM is started again, and where, before the coordinator gives it up. A machine's own crashes
// and the loss of its hosts are counted apart: what happens to a host is not the guest's fault.

import { type Static, Type } from '@stellwerk/protocol/schema/typebox.js'
import type { Settings } from '@stellwerk/protocol/settings.ts'
import type { StepOutput } from './output.ts'
import { calendar } from './quarantine.ts'
import type { CoordinatorState, VmRecord } from './state.ts'

/** So many are remembered of a VM. */
const COUNT_MAX = 100
const Ms = Type.Integer({ minimum: 10, maximum: 604_800_000 })

export const RestartPolicySchema = Type.Object(
  {
    /** A machine that crashes more often than this within `windowMs` is given up. */
    maxRestarts: Type.Integer({ minimum: 0, maximum: COUNT_MAX }),
    /** Likewise for being started on another host because its host was lost; null: as often as it takes. */
    maxRelocations: Type.Union([Type.Integer({ minimum: 0, maximum: COUNT_MAX }), Type.Null()]),
    windowMs: Ms,
    /** Before the first restart after a failure; doubled at each further one, up to `backoffMaxMs`. */
    backoffMs: Ms,
    backoffMaxMs: Ms,
  },
  { additionalProperties: false },
)
export type RestartPolicy = Static<typeof RestartPolicySchema>

export function defaultPolicy(settings: Settings): RestartPolicy {
  return {
    maxRestarts: settings.restartsMax,
    maxRelocations: null,
    windowMs: settings.restartWindowMs,
    backoffMs: settings.restartBackoffMs,
    backoffMaxMs: settings.restartBackoffMaxMs,
  }
}

/** What is wrong with it beyond its schema, or null. */
export function misfitOf(policy: RestartPolicy): string | null {
  if (policy.backoffMaxMs >= policy.backoffMs) return null
  return `a backoff of ${policy.backoffMs} ms is longer than the longest, ${policy.backoffMaxMs} ms`
}

/** Doublings beyond this are beyond every bound. */
const DOUBLINGS_MAX = 30

/** Before the next start, when the VM has failed so often in a row before. */
export function backoffAfter({ backoffMs, backoffMaxMs }: RestartPolicy, failures: number): number {
  return Math.min(backoffMaxMs, backoffMs * 2 ** Math.min(failures, DOUBLINGS_MAX))
}

/** The fields with which a VM begins anew: as created, and as an operator starts it. */
export const CLEAN_SLATE = { failures: 0, crashes: [], relocations: [], gaveUp: null } as const

/** The machine crashed by itself. Says the VM as it is then; its slate may be full. */
export function countCrash(state: CoordinatorState, vm: VmRecord, reason: string | null, now: number): VmRecord {
  const { maxRestarts, windowMs } = vm.restart
  const crashes = [...recent(vm.crashes, calendar(state, now), windowMs), calendar(state, now)].slice(-COUNT_MAX - 1)
  const counted = { ...vm, crashes }
  if (crashes.length <= maxRestarts) return counted
  const often = `it crashed ${crashes.length} times within ${minutes(windowMs)}, ${maxRestarts} restarts are allowed`
  return { ...counted, gaveUp: `${often}; last: ${reason ?? 'no reason told'}` }
}

/** It is to start on another host than the one it was lost with; null: it may not, and has to be given up. */
export function countRelocation(state: CoordinatorState, vm: VmRecord, now: number): VmRecord | null {
  const { maxRelocations, windowMs } = vm.restart
  if (maxRelocations === null) return vm
  const relocations = recent(vm.relocations, calendar(state, now), windowMs)
  if (relocations.length >= maxRelocations) return null
  return { ...vm, relocations: [...relocations, calendar(state, now)] }
}

export function giveUpRelocating(vm: VmRecord, lostHost: string, out: StepOutput): void {
  const { maxRelocations, windowMs } = vm.restart
  const often = `${maxRelocations} relocations within ${minutes(windowMs)} are allowed`
  giveUp(vm, `its host ${lostHost} was lost, and ${often}`, out)
}

/** It stays down until an operator starts it: that it does is said wherever one looks. */
export function giveUp(vm: VmRecord, why: string, out: StepOutput): void {
  out.put('vms', vm.name, { ...withoutLost(vm), placement: null, gaveUp: why })
  out.decide({
    kind: 'vm-given-up',
    subject: vm.name,
    saw: { crashes: vm.crashes.length, relocations: vm.relocations.length, policy: { ...vm.restart } },
    chose: `leave it down; start it again: stellwerk vm start ${vm.name}`,
    why,
  })
}

/** A clock set back between two runs leaves times in the future: they count as just now. */
function recent(times: readonly number[], today: number, windowMs: number): number[] {
  return times.filter(at => today - at < windowMs)
}

function minutes(ms: number): string {
  return ms < 120_000 ? `${Math.round(ms / 1000)} s` : `${Math.round(ms / 60_000)} min`
}

/** Nothing is to be restarted of it any more. */
export function withoutLost(vm: VmRecord): VmRecord {
  return vm.lost === null ? vm : { ...vm, lost: null, formerlyLost: vm.lost }
}
