// Fault rules at the seam of the real network: what they say of a dial, of each direction of a connection, and who is told when
// they change. Both ends of a connection go by the same rules, so that not even its breaking passes a cut.

import type { Address, Link, LinkClass, NetworkName, Random } from '../../environment.ts'
import { StellwerkError } from '../../errors.ts'
import { matchesTraffic, type Traffic, type TrafficClass } from '../../network-rules.ts'
import { dialError, dialTimeout, formatAddress } from '../address.ts'
import type { FaultFile } from './fault-file.ts'
import { isRepeat, isShape, type NetworkFaultRule } from './fault-rules.ts'
import { CLEAR, type Judged, retransmissionMs } from './shaped-pipe.ts'

/** A first packet that is not answered is sent again after this; then the pause doubles. */
const DIAL_AGAIN_MS = 1_000
const DIAL_AGAIN_MAX_MS = 8_000
/** An end that hears nothing notices by keep-alive after this, or up to a quarter earlier; as the links' own and the system's. */
const KEEPALIVE_MS = 10_000

/** A connection that rules may concern. */
export interface Shaped {
  readonly way: Way
  reconsider(there: Judged, back: Judged): void
  broken(code: 'ECONNRESET' | 'ETIMEDOUT', reason: string): void
}

/** From this process to its peer. */
export interface Way {
  readonly network: NetworkName
  readonly class: TrafficClass
  /** The port that was dialled, by whichever end. */
  readonly port: number
  /** Null: this process dialled, and the port says whom. */
  readonly peerSource: string | null
}

/** Around a link opened while requests on it are to come twice: `chance` says how often at this moment. */
export type Repeating = (link: Link, chance: () => number) => Link

export class NetworkFaults {
  readonly random: Random
  /** What this process dials from: its peers know it by that. */
  readonly source: string
  readonly #node: string
  readonly #file: FaultFile
  readonly #repeating: Repeating | null
  readonly #connections = new Set<Shaped>()
  readonly #losses = new Map<Shaped, NodeJS.Timeout>()
  /** With what chance requests come twice, of the control links there are. */
  readonly #repeats = new Map<Shaped, number>()

  constructor(options: {
    readonly node: string
    readonly source: string
    readonly file: FaultFile
    readonly random: Random
    readonly repeating?: Repeating
  }) {
    this.#node = options.node
    this.source = options.source
    this.random = options.random
    this.#file = options.file
    this.#repeating = options.repeating ?? null
    options.file.onChange(() => {
      for (const connection of [...this.#connections]) this.#reconsider(connection)
    })
  }

  /** Throws `refused` or `unreachable` as a dial does; gives what is left of the time. */
  async dialling(address: Address, trafficClass: TrafficClass, timeoutMs: number): Promise<number> {
    const way: Way = { network: address.network, class: trafficClass, port: address.port, peerSource: null }
    const until = performance.now() + timeoutMs
    for (let pauseMs = DIAL_AGAIN_MS; ; pauseMs = Math.min(2 * pauseMs, DIAL_AGAIN_MAX_MS)) {
      const there = this.#matching(way, 'there')
      if (there.some(rule => rule.verdict === 'refuse')) {
        throw dialError(address, Object.assign(new Error('refused by a fault rule'), { code: 'ECONNREFUSED' }))
      }
      const judged = judge(there)
      if (judged.state === 'open' && judge(this.#matching(way, 'back')).state === 'open') {
        const delayMs = this.#delayMs(judged)
        if (delayMs === null || performance.now() + delayMs > until) await sleep(until - performance.now())
        else if (delayMs > 0) await sleep(delayMs)
        const leftMs = until - performance.now()
        if (leftMs > 0) return leftMs
      } else await sleep(Math.min(pauseMs, until - performance.now()))
      if (performance.now() >= until) throw dialTimeout(address, timeoutMs)
    }
  }

  added(connection: Shaped): void {
    this.#connections.add(connection)
    this.#reconsider(connection)
  }

  removed(connection: Shaped): void {
    this.#connections.delete(connection)
    this.#repeats.delete(connection)
    this.#expectLoss(connection, false)
  }

  /** The link, or around it one on which requests come twice. */
  repeated(link: Link, way: Way): Link {
    if (this.#repeating === null || link.class !== 'control' || this.#chance(way) === 0) return link
    return this.#repeating(link, () => this.#chance(way))
  }

  #chance(way: Way): number {
    const chances = [...this.#matching(way, 'there'), ...this.#matching(way, 'back')].map(({ verdict }) =>
      isRepeat(verdict) ? verdict.repeat : 0,
    )
    return Math.max(0, ...chances)
  }

  #reconsider(connection: Shaped): void {
    const { way } = connection
    const there = judge(this.#matching(way, 'there'))
    const back = judge(this.#matching(way, 'back'))
    connection.reconsider(there, back)
    this.#expectLoss(connection, there.state === 'silent' || back.state === 'silent')
    if (way.class !== 'control') return
    const chance = this.#chance(way)
    const was = this.#repeats.get(connection)
    this.#repeats.set(connection, chance)
    // What there is was opened without it.
    if (was === 0 && chance > 0) connection.broken('ECONNRESET', 'connection reset')
  }

  #expectLoss(connection: Shaped, unheard: boolean): void {
    const expected = this.#losses.get(connection)
    if (unheard && expected === undefined) {
      // Counted from the last byte, which came at most a probe's pause ago.
      const afterMs = KEEPALIVE_MS * (0.75 + 0.25 * this.random.float())
      const timer = setTimeout(() => {
        this.#losses.delete(connection)
        connection.broken('ETIMEDOUT', `no answer for ${KEEPALIVE_MS} ms`)
      }, afterMs).unref()
      this.#losses.set(connection, timer)
    } else if (!unheard && expected !== undefined) {
      clearTimeout(expected)
      this.#losses.delete(connection)
    }
  }

  #matching(way: Way, direction: 'there' | 'back'): readonly NetworkFaultRule[] {
    const { network, nodes, ports } = this.#file.rules
    if (network.length === 0) return network
    const peer = way.peerSource === null ? ports[way.port] : nodes[way.peerSource]
    // Who is none of the cluster stands outside all hosts; and what stays in a host takes no network.
    if (peer === undefined || peer === this.#node) return []
    const [from, to] = direction === 'there' ? [this.#node, peer] : [peer, this.#node]
    const traffic: Traffic = { ...way, from, to, fromProcess: '', toProcess: '' }
    return network.filter(rule => matchesTraffic(rule as Parameters<typeof matchesTraffic>[0], traffic))
  }

  #delayMs({ shapes }: Judged): number | null {
    let delayMs = 0
    for (const shape of shapes) {
      const lossMs = retransmissionMs(shape, this.random)
      if (lossMs === null) return null
      delayMs += (shape.delayMs ?? 0) + (shape.jitterMs ?? 0) * this.random.float() + lossMs
    }
    return delayMs
  }
}

function judge(rules: readonly NetworkFaultRule[]): Judged {
  if (rules.length === 0) return CLEAR
  const says = (verdict: string): boolean => rules.some(rule => rule.verdict === verdict)
  return {
    state: says('hold') ? 'silent' : says('clog') ? 'clogged' : 'open',
    shapes: rules.map(({ verdict }) => verdict).filter(isShape),
    reset: says('reset'),
  }
}

export function brokenError(code: 'ECONNRESET' | 'ETIMEDOUT', reason: string, peer: string): Error {
  return Object.assign(new Error(`${reason} (${peer})`), { code })
}

/** Of what was accepted: whose it is shows by where it was dialled from. */
export function acceptedWay(address: Address, trafficClass: TrafficClass, port: number, source: string): Way {
  return { network: address.network, class: trafficClass, port, peerSource: source.replace(/^::ffff:/, '') }
}

export function dialledWay({ network, port }: Address, trafficClass: LinkClass | 'stream'): Way {
  return { network, class: trafficClass, port, peerSource: null }
}

/** Faults are made between addresses of this machine alone. Throws `bad-address`. */
export function sourceFor(faults: NetworkFaults, address: Address): string {
  if (address.host.startsWith('127.')) return faults.source
  throw new StellwerkError('bad-address', 'fault rules are for a cluster on the loopback addresses of one machine', {
    where: formatAddress(address),
    hint: 'start the process without the switch for faults',
  })
}

function sleep(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, Math.max(0, ms)))
}
