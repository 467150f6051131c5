// The simulated networks: who listens where, which connections there are, and the faults between hosts. Each host has one
// address a network, its own name. Dialling is dialling.ts; what travels is connection.ts.

import { assert } from '../assert.ts'
import type { Address, Link, Listener, Network, NetworkName } from '../environment.ts'
import { StellwerkError } from '../errors.ts'
import {
  matchesTraffic,
  type NetworkFault,
  type NetworkRule,
  NetworkRules,
  type PathState,
  type Shape,
  type Traffic,
  type TrafficClass,
  type TrafficMatch,
} from '../network-rules.ts'
import type { Connection } from './connection.ts'
import { dialLink, dialStream } from './dialling.ts'
import type { LinkEndpoint } from './link-endpoint.ts'
import type { SimProcess } from './process.ts'
import type { SimRandom } from './random.ts'
import type { Simulation } from './simulation.ts'
import type { StreamEndpoint } from './stream-endpoint.ts'

/** How one network behaves without faults; latency one way, bandwidth per connection and direction. */
export interface NetworkProfile {
  readonly latencyMs: number
  readonly jitterMs: number
  readonly bytesPerMs: number
}

export interface SimNetworkOptions {
  readonly profiles?: Readonly<Partial<Record<NetworkName, Partial<NetworkProfile>>>>
  /** After how long without an answer a connection breaks. Default 10,000. */
  readonly keepaliveMs?: number
  /** Probability that a chunk of a byte stream arrives in pieces. Default 0.1; 0 switches it off. */
  readonly fragmentation?: number
}

const DEFAULT_PROFILES: Readonly<Record<NetworkName, NetworkProfile>> = {
  local: { latencyMs: 0.02, jitterMs: 0.02, bytesPerMs: 4e6 },
  cluster: { latencyMs: 0.15, jitterMs: 0.1, bytesPerMs: 1.25e6 },
  'fabric-0': { latencyMs: 0.1, jitterMs: 0.05, bytesPerMs: 3e6 },
  'fabric-1': { latencyMs: 0.1, jitterMs: 0.05, bytesPerMs: 3e6 },
  guest: { latencyMs: 0.15, jitterMs: 0.1, bytesPerMs: 1.25e6 },
}

/** Free ports are given out from here on. */
const EPHEMERAL_PORT = 40_000
const CONNECTIONS_MAX = 100_000

/** What listens at an address. */
export interface SimListener {
  readonly process: SimProcess
  readonly address: Address
  readonly accept:
    | { readonly kind: 'link'; readonly f: (link: Link) => void }
    | { readonly kind: 'stream'; readonly f: (stream: StreamEndpoint) => void }
  readonly accepted: Set<LinkEndpoint | StreamEndpoint>
}

export interface FaultScope {
  readonly network?: NetworkName | readonly NetworkName[]
  readonly class?: TrafficClass | readonly TrafficClass[]
}

export interface Healable {
  heal(): void
}

export class SimNetwork {
  readonly sim: Simulation
  readonly random: SimRandom
  readonly rules: NetworkRules
  readonly keepaliveMs: number
  fragmentation: number
  /** Changes whenever what passes where may have. */
  version = 0
  readonly #profiles: Record<NetworkName, NetworkProfile>
  readonly #listeners = new Map<string, SimListener>()
  readonly #connections = new Set<Connection>()
  readonly #interfacesDown = new Map<string, number>()
  #nextPort = EPHEMERAL_PORT

  constructor(sim: Simulation, options: SimNetworkOptions) {
    this.sim = sim
    this.random = sim.random.fork('network')
    this.rules = new NetworkRules((rule, begun) => this.#ruleChanged(rule, begun))
    this.keepaliveMs = options.keepaliveMs ?? 10_000
    this.fragmentation = options.fragmentation ?? 0.1
    this.#profiles = { ...DEFAULT_PROFILES }
    for (const [name, profile] of Object.entries(options.profiles ?? {})) {
      this.setProfile(name as NetworkName, profile)
    }
  }

  // --- for scenarios -------------------------------------------------------------------------------------------------

  profile(network: NetworkName): NetworkProfile {
    return this.#profiles[network]
  }

  setProfile(network: NetworkName, profile: Partial<NetworkProfile>): void {
    this.#profiles[network] = { ...this.#profiles[network], ...profile }
  }

  rule(rule: NetworkRule): NetworkFault {
    return this.rules.add(rule)
  }

  /** Nothing passes between `a` and `b`; with `oneWay`, only nothing from `a` to `b`. */
  cut(
    a: string | readonly string[],
    b: string | readonly string[],
    scope: FaultScope & { readonly oneWay?: boolean } = {},
  ): NetworkFault {
    const { oneWay = false, ...where } = scope
    return this.rule({ ...where, from: a, to: b, bothWays: !oneWay, verdict: 'hold' })
  }

  /** Nothing passes between the host and any other. */
  isolate(host: string, scope: FaultScope = {}): NetworkFault {
    const others = (traffic: Traffic) => (traffic.from === host) !== (traffic.to === host)
    return this.rule({ ...scope, when: others, verdict: 'hold' })
  }

  /** Two hosts reach each other if some group has both: groups that overlap make bridges and rings. */
  partition(groups: readonly (readonly string[])[], scope: FaultScope = {}): NetworkFault {
    const together = ({ from, to }: Traffic) =>
      from === to || groups.some(group => group.includes(from) && group.includes(to))
    return this.rule({ ...scope, when: traffic => !together(traffic), verdict: 'hold' })
  }

  slow(match: TrafficMatch, shape: Shape): NetworkFault {
    return this.rule({ ...match, verdict: shape })
  }

  /** Holds everything, unnoticed, until healed; then all of it arrives. */
  clog(match: TrafficMatch): NetworkFault {
    return this.rule({ ...match, verdict: 'clog' })
  }

  /**
   * The connections there are now stay behind: nothing arrives on them until healed. Who dialled one gives it up after a
   * while and dials anew, which works; what was sent on the old one arrives in the end, behind all that the new one brought.
   */
  strand(match: TrafficMatch, givenUpAfterMs: number): NetworkFault {
    const stranded = this.#matching(match)
    const directions = new Set(stranded.flatMap(({ forward, backward }) => [forward.traffic, backward.traffic]))
    const fault = this.clog({ when: traffic => directions.has(traffic) })
    this.sim.schedule(givenUpAfterMs, null, () => {
      for (const connection of stranded) connection.giveUp(`no answer for ${givenUpAfterMs} ms`)
    })
    return fault
  }

  refuseDials(match: TrafficMatch): NetworkFault {
    return this.rule({ ...match, verdict: 'refuse' })
  }

  /** Breaks the connections that match, with bytes in flight. Gives how many. */
  reset(match: TrafficMatch): number {
    const hit = this.#matching(match)
    for (const connection of hit) connection.reset('connection reset')
    return hit.length
  }

  /** The host's address on that network is gone: its dials fail at once, and nothing reaches it. */
  interfaceDown(host: string, network: NetworkName): Healable {
    const key = `${host}|${network}`
    this.#interfacesDown.set(key, (this.#interfacesDown.get(key) ?? 0) + 1)
    this.changed()
    let down = true
    return {
      heal: () => {
        if (!down) return
        down = false
        const left = (this.#interfacesDown.get(key) ?? 1) - 1
        if (left === 0) this.#interfacesDown.delete(key)
        else this.#interfacesDown.set(key, left)
        this.changed()
      },
    }
  }

  /** Lifts all rules and puts all interfaces up. */
  healAll(): void {
    this.#interfacesDown.clear()
    this.rules.healAll()
    this.changed()
  }

  /** Connections of which some end or byte is still there. */
  get connectionCount(): number {
    return this.#connections.size
  }

  // --- for the parts of the simulation -------------------------------------------------------------------------------

  environment(process: SimProcess): Network {
    return {
      dial: (address, linkClass, options) => dialLink(this, process, address, linkClass, options ?? {}),
      dialStream: (address, options) => dialStream(this, process, address, options ?? {}),
      listen: (address, accept) => this.#listen(process, address, { kind: 'link', f: accept }),
      listenStream: (address, accept) => this.#listen(process, address, { kind: 'stream', f: accept }),
    }
  }

  interfaceUp(host: string, network: NetworkName): boolean {
    return !this.#interfacesDown.has(`${host}|${network}`)
  }

  /** What becomes of this traffic by rules, power and interfaces. */
  path(traffic: Traffic): { readonly rules: readonly NetworkRule[]; readonly state: PathState } {
    const rules = this.rules.size === 0 ? [] : this.rules.matching(traffic)
    const { network, from, to } = traffic
    const reaches =
      this.interfaceUp(from, network) && this.interfaceUp(to, network) && this.sim.hostNamed(to)?.powered === true
    const silent = !reaches || rules.some(rule => rule.verdict === 'hold')
    const state = silent ? 'silent' : rules.some(rule => rule.verdict === 'clog') ? 'clogged' : 'open'
    return { rules, state }
  }

  listenerAt(host: string, address: Address): SimListener | null {
    return this.#listeners.get(listenerKey(host, address)) ?? null
  }

  added(connection: Connection): void {
    assert(this.#connections.size < CONNECTIONS_MAX, `at most ${CONNECTIONS_MAX} connections`)
    this.#connections.add(connection)
  }

  forgetWhenOver(connection: Connection): void {
    if (connection.over) this.#connections.delete(connection)
  }

  processEnded(process: SimProcess, connections: 'reset' | 'silent'): void {
    for (const [key, listener] of this.#listeners) if (listener.process === process) this.#listeners.delete(key)
    for (const connection of [...this.#connections]) {
      for (const endpoint of connection.endpoints) {
        if (endpoint.process !== process) continue
        const wasOpen = !endpoint.closed
        endpoint.abandon()
        if (wasOpen && connections === 'reset') {
          connection.pipeFrom(endpoint).send({ kind: 'reset', reason: 'connection reset by peer' })
        }
        this.forgetWhenOver(connection)
      }
    }
  }

  /** Its links' peers will notice, since a paused process answers no ping; its streams are its kernel's. */
  processPausedOrResumed(process: SimProcess): void {
    for (const connection of [...this.#connections]) {
      if (connection.endpoints.some(endpoint => endpoint.process === process)) connection.reconsider()
    }
  }

  /** Power, interfaces or rules changed. */
  changed(): void {
    this.version++
    for (const connection of [...this.#connections]) connection.reconsider()
  }

  #matching(match: TrafficMatch): Connection[] {
    return [...this.#connections].filter(
      ({ broken, forward, backward }) =>
        !broken && (matchesTraffic(match, forward.traffic) || matchesTraffic(match, backward.traffic)),
    )
  }

  #ruleChanged(rule: NetworkRule, begun: boolean): void {
    const { verdict, network, from, to, class: trafficClass } = rule
    this.sim.emit({
      level: 'decision',
      kind: begun ? 'fault.began' : 'fault.ended',
      body: {
        verdict: typeof verdict === 'function' ? 'inspect' : typeof verdict === 'string' ? verdict : { ...verdict },
        network: network ?? 'any',
        from: from ?? 'any',
        to: to ?? 'any',
        class: trafficClass ?? 'any',
      },
    })
    this.changed()
  }

  #listen(process: SimProcess, wanted: Address, accept: SimListener['accept']): Promise<Listener> {
    return new Promise((resolve, reject) => {
      process.effect(() => {
        const { network, host } = wanted
        const foreign = network !== 'local' && host !== process.host.name
        const port = network !== 'local' && wanted.port === 0 ? this.#nextPort++ : wanted.port
        const address: Address = { network, host, port }
        const key = listenerKey(process.host.name, address)
        const taken = this.#listeners.has(key)
        if (foreign || taken) {
          const problem = taken
            ? new StellwerkError('address-in-use', `${host}:${port} on ${network} is taken`, { where: process.name })
            : new StellwerkError('address-not-available', `${host} is no address of ${process.host.name}`, {
                where: process.name,
                hint: 'in a simulation a host listens at its own name',
              })
          process.later(0, () => reject(problem))
          return
        }
        const listener: SimListener = { process, address, accept, accepted: new Set() }
        this.#listeners.set(key, listener)
        const close = () =>
          new Promise<void>(closed => {
            process.effect(() => {
              if (this.#listeners.get(key) === listener) this.#listeners.delete(key)
              for (const endpoint of listener.accepted) {
                if ('destroy' in endpoint) endpoint.destroy()
                else endpoint.closeFor('closed', 'the listener was closed')
              }
              listener.accepted.clear()
              process.later(0, closed)
            })
          })
        process.later(0, () => resolve({ address, close }))
      })
    })
  }
}

function listenerKey(host: string, address: Address): string {
  return address.network === 'local'
    ? `local|${host}|${address.host}`
    : `${address.network}|${address.host}|${address.port}`
}
