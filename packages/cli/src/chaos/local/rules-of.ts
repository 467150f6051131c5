// What a fault is at the seams of real processes: rules of the fault file; and which faults are none there, with the reason.

import type { NetworkName } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { NetworkFaultRule } from '@stellwerk/runtime/node/faults/fault-rules.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { OPTION_OF } from '../act-words.ts'
import type { Fault, FaultKind } from '../fault.ts'
import type { ChaosCluster } from '../target.ts'
import type { Rules } from './journal.ts'

const NOTHING: Rules = { network: [], disk: [], clock: [] }
/** Of a storage: its LUNs. What else it writes is its state. */
const LUNS = { path: 'luns/', suffix: '.data' } as const

/** Done to processes or bytes, not by rules. */
const BY_HAND: ReadonlySet<FaultKind> = new Set([
  'agent-kill',
  'host-kill',
  'host-pause',
  'host-restart',
  'coordinator-kill',
  'coordinator-pause',
  'storage-kill',
  'storage-pause',
  'corrupt-block',
])

export function isByRules(kind: FaultKind): boolean {
  return !BY_HAND.has(kind)
}

/** Throws `fault-incomplete`: what the fault does not say. */
export function rulesOf(fault: Fault, cluster: ChaosCluster): Rules {
  const { kind } = fault
  if (!isByRules(kind)) return NOTHING
  const network = (...rules: NetworkFaultRule[]): Rules => ({ ...NOTHING, network: rules })
  const around = (verdict: NetworkFaultRule['verdict']): NetworkFaultRule => ({
    from: need(fault, 'host'),
    ...(fault.peer === undefined ? {} : { to: fault.peer }),
    ...networkOf(fault),
    bothWays: fault.oneWay !== true,
    verdict,
  })
  switch (kind) {
    case 'host-isolate':
      return network(around('hold'))
    case 'partition':
      return network({ ...around('hold'), to: need(fault, 'peer') })
    case 'ports-closed': {
      const to = need(fault, 'peer')
      return network({ ...around('refuse'), to }, { ...around('reset'), to })
    }
    case 'loss':
      return network(around({ loss: need(fault, 'chance') }))
    case 'delay':
      return network(around({ delayMs: need(fault, 'delayMs'), jitterMs: fault.jitterMs ?? 0 }))
    case 'duplicate':
      return network({ ...around({ repeat: need(fault, 'chance') }), class: 'control' })
    case 'slow-link':
      return network(around({ bytesPerMs: (need(fault, 'mibPerSecond') * MIB) / 1_000 }))
    case 'cable-pull':
      return network({
        from: need(fault, 'host'),
        to: [...cluster.storages],
        network: fabricOf(fault),
        bothWays: true,
        verdict: 'hold',
      })
    case 'fabric-down':
      return network({ network: fabricOf(fault), verdict: 'hold' })
    case 'disk-slow':
      return onDisk(fault, ['read', 'write', 'sync'], {
        delayMs: need(fault, 'delayMs'),
        jitterMs: fault.jitterMs ?? 0,
      })
    case 'disk-full':
      return onDisk(fault, ['write'], 'ENOSPC')
    case 'io-error':
      return onDisk(fault, ['read', 'write'], 'EIO')
    case 'clock-jump':
      return { ...NOTHING, clock: [{ node: need(fault, 'host'), byMs: need(fault, 'byMs') }] }
    default:
      return NOTHING
  }
}

/** An isolated host that keeps its storage is one that nobody hears on the cluster's network. */
function networkOf({ kind, network, fabrics }: Fault): { network?: NetworkName } {
  if (kind === 'host-isolate' && fabrics === false) return { network: 'cluster' }
  return network === undefined ? {} : { network }
}

function onDisk(
  fault: Fault,
  operation: Rules['disk'][number]['operation'],
  verdict: Rules['disk'][number]['verdict'],
): Rules {
  const { chance } = fault
  const rule = {
    node: need(fault, 'storage'),
    ...LUNS,
    operation,
    verdict,
    ...(chance === undefined ? {} : { chance }),
  }
  return { ...NOTHING, disk: [rule] }
}

function fabricOf(fault: Fault): NetworkName {
  return `fabric-${need(fault, 'fabric')}`
}

const WHAT_IT_SAYS: { readonly [option: string]: string } = {
  ...{ host: 'which host it hits', peer: 'who the other side is', storage: 'which storage it hits' },
  ...{ fabric: 'which fabric', chance: 'how often', delay: 'how long', mib: 'how slow', by: 'how far' },
}

/** Throws `fault-incomplete`. A plan's faults are complete: it is somebody at the command line who has left it out. */
export function need<K extends keyof Fault>(fault: Fault, field: K): NonNullable<Fault[K]> {
  const value = fault[field]
  if (value !== undefined && value !== null) return value
  const option = OPTION_OF[field as keyof typeof OPTION_OF]
  throw new StellwerkError('fault-incomplete', `${fault.kind} does not say ${WHAT_IT_SAYS[option] ?? option}`, {
    hint: `say it with --${option}`,
  })
}

/** Why connections between processes can't suffer this; null: they can. */
export function refusal(fault: Fault): StellwerkError | null {
  const { kind, network, oneWay } = fault
  const no = (why: string, hint: string) =>
    new StellwerkError('fault-unsupported', `${kind} can't be done to local processes: ${why}`, { hint })
  if (kind === 'duplicate' && network !== undefined && network !== 'cluster') {
    const why = `a connection on ${network} repeats nothing; only those who ask again do, on the cluster network`
    return no(why, 'leave network away, or run the plan on sim')
  }
  if (kind === 'loss' && (fault.chance ?? 0) >= 1) {
    return no('a connection that loses everything is a cut', 'say partition or host-isolate')
  }
  if (network === 'guest') return no('a plan’s guests have no network there', 'name another network')
  if (oneWay === true && fault.peer === undefined && kind === 'partition') {
    return no('a one-way partition is between two', 'say the peer')
  }
  return null
}
