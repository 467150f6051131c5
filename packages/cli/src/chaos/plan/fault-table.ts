// Of each kind of fault: what a plan may say of it, what is drawn where it does not, and what of the cluster it takes away
// while it lasts. How it is done is each target's business.

import { unreachable } from '@stellwerk/runtime/assert.ts'
import type { SimRandom } from '@stellwerk/runtime/sim/random.ts'
import type { Fault, FaultKind, NetworkOf } from '../fault.ts'
import type { ChaosCluster } from '../target.ts'
import type { FaultChoice } from './plan.ts'

/** `mibPerSecond` is `rate` in a plan, and `delayMs`, `jitterMs`, `byMs` are `delay`, `jitter`, `by`. */
export type Parameter = keyof FaultChoice

export interface FaultShape {
  readonly parameters: readonly Parameter[]
  /** How long, where a plan does not say: at least, at most. */
  readonly lastsMs: readonly [number, number]
}

const host = (lastsMs: readonly [number, number], ...more: Parameter[]): FaultShape => ({
  parameters: ['host', ...more],
  lastsMs,
})
const storage = (lastsMs: readonly [number, number], ...more: Parameter[]): FaultShape => ({
  parameters: ['storage', ...more],
  lastsMs,
})

export const FAULT_SHAPES: { readonly [kind in FaultKind]: FaultShape } = {
  'agent-kill': host([2_000, 5_000]),
  'host-kill': host([3_000, 15_000]),
  'host-pause': host([1_000, 12_000]),
  'host-restart': host([3_000, 10_000]),
  'coordinator-kill': { parameters: [], lastsMs: [1_000, 8_000] },
  'coordinator-pause': { parameters: [], lastsMs: [1_000, 10_000] },
  'storage-kill': storage([1_000, 15_000]),
  'storage-pause': storage([1_000, 10_000]),
  'host-isolate': host([2_000, 12_000], 'fabrics'),
  partition: host([2_000, 12_000], 'peer', 'network', 'oneWay'),
  'ports-closed': host([2_000, 12_000], 'peer', 'network'),
  loss: host([3_000, 15_000], 'network', 'chance'),
  delay: host([3_000, 15_000], 'network', 'delayMs', 'jitterMs'),
  duplicate: host([3_000, 15_000], 'network', 'chance'),
  'slow-link': host([3_000, 15_000], 'network', 'mibPerSecond'),
  'cable-pull': host([3_000, 25_000], 'fabric'),
  'fabric-down': { parameters: ['fabric'], lastsMs: [3_000, 20_000] },
  'disk-slow': storage([2_000, 10_000], 'delayMs', 'jitterMs'),
  'disk-full': storage([2_000, 15_000]),
  'io-error': storage([1_000, 8_000], 'chance'),
  'corrupt-block': storage([1_000, 5_000]),
  'clock-jump': host([1_000, 10_000], 'byMs'),
}

export const COORDINATOR = 'coordinator'
const NETWORKS: readonly NetworkOf[] = ['cluster', 'fabric-0', 'fabric-1']
/** What clocks jump by, either way: as Jepsen's bump does. */
const JUMP_MS = 288_000

/**
 * Draws what `choice` leaves open. Every parameter is drawn, whether it is then used or not: what a plan says of one fault
 * must not change what is drawn for the next.
 */
export function completeChoice(
  kind: FaultKind,
  choice: FaultChoice,
  { hosts, storages }: ChaosCluster,
  random: SimRandom,
): FaultChoice {
  const pick = <T>(items: readonly T[]): T => items[random.int(items.length)]!
  const between = (least: number, most: number): number => least + random.int(most - least + 1)
  const drawn = {
    host: pick(hosts),
    storage: pick(storages),
    fabric: pick([0, 1] as const),
    network: pick(NETWORKS),
    oneWay: random.chance(0.3),
    percent: random.float(),
    short: between(10, 100),
    jitter: between(0, 30),
    mib: between(1, 16),
    jump: between(-JUMP_MS, JUMP_MS),
    peer: random.float(),
  }
  const at = choice.host ?? (drawn.host === choice.peer ? nextTo(drawn.host, hosts) : drawn.host)
  const peers = [...hosts.filter(name => name !== at), COORDINATOR, ...storages]
  const open = (parameters: FaultChoice): FaultChoice => ({ ...parameters, ...choice })
  switch (kind) {
    case 'coordinator-kill':
    case 'coordinator-pause':
      return open({})
    case 'agent-kill':
    case 'host-kill':
    case 'host-pause':
    case 'host-restart':
    case 'host-isolate':
      return open({ host: at })
    case 'storage-kill':
    case 'storage-pause':
    case 'disk-full':
    case 'corrupt-block':
      return open({ storage: drawn.storage })
    case 'partition':
      return open({
        host: at,
        peer: peers[Math.floor(drawn.peer * peers.length)]!,
        oneWay: drawn.oneWay,
      })
    case 'ports-closed':
      return open({ host: at, peer: peers[Math.floor(drawn.peer * peers.length)]! })
    case 'loss':
      return open({ host: at, network: drawn.network, chance: percent(0.01 + drawn.percent * 0.19) })
    case 'duplicate':
      return open({ host: at, network: 'cluster', chance: percent(0.1 + drawn.percent * 0.4) })
    case 'delay':
      return open({ host: at, network: drawn.network, delayMs: drawn.short, jitterMs: drawn.jitter })
    case 'slow-link':
      return open({ host: at, network: drawn.network, mibPerSecond: drawn.mib })
    case 'cable-pull':
      return open({ host: at, fabric: drawn.fabric })
    case 'fabric-down':
      return open({ fabric: drawn.fabric })
    case 'disk-slow':
      return open({ storage: drawn.storage, delayMs: 3 * drawn.short, jitterMs: drawn.jitter })
    case 'io-error':
      return open({ storage: drawn.storage, chance: percent(0.1 + drawn.percent * 0.9) })
    case 'clock-jump':
      return open({ host: at, byMs: drawn.jump })
    default:
      return unreachable(kind)
  }
}

/** Nobody is cut off from itself. */
function nextTo(name: string, names: readonly string[]): string {
  return names[(names.indexOf(name) + 1) % names.length] ?? name
}

/** To two digits, so that a plan can say it. */
function percent(chance: number): number {
  return Math.round(chance * 100) / 100
}

/** What is broken, or as good as, while the fault lasts: names that `limits` count. */
export interface Taken {
  readonly hosts: readonly string[]
  readonly storages: readonly string[]
  readonly fabrics: readonly string[]
  readonly cables: readonly string[]
  readonly coordinator: readonly string[]
}

const NOTHING: Taken = { hosts: [], storages: [], fabrics: [], cables: [], coordinator: [] }

export function taken(fault: Fault, storages: readonly string[]): Taken {
  const { kind, host: at = '', storage: of = '', fabric = 0, network, peer } = fault
  switch (kind) {
    case 'coordinator-kill':
    case 'coordinator-pause':
      return { ...NOTHING, coordinator: [COORDINATOR] }
    case 'storage-kill':
    case 'storage-pause':
    case 'disk-slow':
    case 'disk-full':
    case 'io-error':
    case 'corrupt-block':
      return { ...NOTHING, storages: [of] }
    case 'fabric-down':
      return { ...NOTHING, fabrics: [String(fabric)] }
    case 'cable-pull':
      return { ...NOTHING, cables: [`${at} ${fabric}`] }
    case 'partition':
    case 'ports-closed': {
      // On one fabric, from storage: no more than a cable.
      const isCable = storages.includes(peer ?? '') && network?.startsWith('fabric-') === true
      return isCable ? { ...NOTHING, cables: [`${at} ${network.slice(-1)}`] } : { ...NOTHING, hosts: [at] }
    }
    case 'clock-jump':
      return NOTHING
    case 'agent-kill':
    case 'host-kill':
    case 'host-pause':
    case 'host-restart':
    case 'host-isolate':
    case 'loss':
    case 'delay':
    case 'duplicate':
    case 'slow-link':
      return { ...NOTHING, hosts: [at] }
    default:
      return unreachable(kind)
  }
}
