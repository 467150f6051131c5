// What can go wrong between hosts, simulated (sim/) or real (node/faults/): small rules, each matching traffic and saying what becomes of it. Rules add up: a
// hold beats everything, delays are summed. Which connection carries the traffic is connection.ts's business.

import { assert } from './assert.ts'
import type { LinkClass, NetworkName, Random } from './environment.ts'
/** `stream`: plain byte streams (NBD). */
export type TrafficClass = LinkClass | 'stream'

/** One direction of one connection. */
export interface Traffic {
  readonly network: NetworkName
  readonly from: string
  readonly to: string
  readonly class: TrafficClass
  readonly fromProcess: string
  /** Empty in a dial that nobody has taken yet. */
  readonly toProcess: string
  /** The port that was dialled, whatever the direction. */
  readonly port: number
}

/** What travels, for rules that look inside. */
export interface Cargo {
  readonly kind: 'frames' | 'control' | 'data' | 'end' | 'close' | 'reset' | 'established'
  readonly bytes: readonly Uint8Array[]
}

/**
 * `hold`: nothing arrives until the rule is lifted, and both ends notice by keepalive (a cut cable). `clog`: the same, but
 * nobody notices (a full queue). `reset`: the connection breaks as soon as something travels on it, and that is lost.
 * `refuse`: dials are refused. A shape delays, loses (which retransmission turns into delay) or limits.
 */
export type StaticVerdict = 'hold' | 'clog' | 'reset' | 'refuse' | Shape

export interface Shape {
  readonly delayMs?: number
  readonly jitterMs?: number
  /** Probability that a packet is lost and sent again. */
  readonly loss?: number
  readonly bytesPerMs?: number
}

/** Asked about each cargo as it arrives. Null: let it pass. A delay postpones it (and, in order, what follows). */
export type CargoVerdict = (cargo: Cargo, traffic: Traffic, random: Random) => 'reset' | { delayMs: number } | null

export interface TrafficMatch {
  readonly network?: NetworkName | readonly NetworkName[]
  /** Host names. */
  readonly from?: string | readonly string[]
  readonly to?: string | readonly string[]
  /** Also the other direction: what goes from `to` to `from`. */
  readonly bothWays?: boolean
  readonly class?: TrafficClass | readonly TrafficClass[]
  readonly port?: number
  readonly when?: (traffic: Traffic) => boolean
}

export interface NetworkRule extends TrafficMatch {
  readonly verdict: StaticVerdict | CargoVerdict
}

/** `silent`: nothing passes, and both ends will notice; `clogged`: nothing passes, and nobody will. */
export type PathState = 'open' | 'clogged' | 'silent'

export interface NetworkFault {
  readonly rule: NetworkRule
  heal(): void
}

/** Rules at once. */
const RULES_MAX = 10_000

export class NetworkRules {
  readonly #faults: NetworkFault[] = []
  readonly #onChange: (rule: NetworkRule, begun: boolean) => void

  constructor(onChange: (rule: NetworkRule, begun: boolean) => void) {
    this.#onChange = onChange
  }

  get size(): number {
    return this.#faults.length
  }

  add(rule: NetworkRule): NetworkFault {
    assert(this.#faults.length < RULES_MAX, `at most ${RULES_MAX} network rules at once`)
    const fault: NetworkFault = {
      rule,
      heal: () => {
        const index = this.#faults.indexOf(fault)
        if (index < 0) return
        this.#faults.splice(index, 1)
        this.#onChange(rule, false)
      },
    }
    this.#faults.push(fault)
    this.#onChange(rule, true)
    return fault
  }

  healAll(): void {
    for (const fault of [...this.#faults]) fault.heal()
  }

  /** The rules that concern this traffic. */
  matching(traffic: Traffic): readonly NetworkRule[] {
    return this.#faults.filter(fault => matchesTraffic(fault.rule, traffic)).map(fault => fault.rule)
  }
}

export function matchesTraffic(match: TrafficMatch, traffic: Traffic): boolean {
  if (match.network === undefined) {
    // A fault of "the network" is none of unix sockets.
    if (traffic.network === 'local') return false
  } else if (!includes(match.network, traffic.network)) return false
  if (match.class !== undefined && !includes(match.class, traffic.class)) return false
  if (match.port !== undefined && match.port !== traffic.port) return false
  const forward = hits(match.from, traffic.from) && hits(match.to, traffic.to)
  const backward = match.bothWays === true && hits(match.from, traffic.to) && hits(match.to, traffic.from)
  if (!forward && !backward) return false
  return match.when === undefined || match.when(traffic)
}

function hits(wanted: string | readonly string[] | undefined, value: string): boolean {
  return wanted === undefined || includes(wanted, value)
}

function includes<T extends string>(wanted: T | readonly T[], value: T): boolean {
  return typeof wanted === 'string' ? wanted === value : wanted.includes(value)
}
