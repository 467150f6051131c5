// Opening a simulated connection: tries repeated as TCP repeats its first packet, refusal, acceptance, time-out.

import { CreditedLink } from '../credited-link.ts'
import type { Address, ByteStream, DialOptions, Link, LinkClass } from '../environment.ts'
import { StellwerkError } from '../errors.ts'
import type { Traffic, TrafficClass } from '../network-rules.ts'
import { Connection, type Opening } from './connection.ts'
import { LinkEndpoint } from './link-endpoint.ts'
import type { SimListener, SimNetwork } from './network.ts'
import type { SimProcess } from './process.ts'
import { StreamEndpoint } from './stream-endpoint.ts'

const DEFAULT_TIMEOUT_MS = 5000
/** The pause before the second try; it doubles. */
const RETRY_MS = 1000
const RETRY_MAX_MS = 8000

type Dialled = { readonly endpoint: LinkEndpoint | StreamEndpoint; readonly connection: Connection }

/** Connects to a listener that was found: gives the dialler's end. */
type Connect<T> = (listener: SimListener, connection: Connection, dial: Dial<T>) => Dialled['endpoint'] | null

export function dialLink(
  network: SimNetwork,
  process: SimProcess,
  address: Address,
  linkClass: LinkClass,
  options: DialOptions,
): Promise<Link> {
  return start<Link>(network, process, address, linkClass, options, (listener, connection, dial) => {
    const { accept } = listener
    if (accept.kind !== 'link') return null
    const near: LinkEndpoint = new LinkEndpoint(
      process,
      connection,
      dial.opening(() => new CreditedLink(near, { class: linkClass, peer: dial.peer })),
    )
    const far = new LinkEndpoint(listener.process, connection, null)
    connection.connect(near, far)
    // A link is open only once the other process has answered: a paused one does not.
    listener.process.deliver(() => {
      if (far.closed) return
      connection.backward.send({ kind: 'established' })
      remember(listener, far)
      accept.f(new CreditedLink(far, { class: linkClass, peer: process.host.name }))
    })
    return near
  })
}

export function dialStream(
  network: SimNetwork,
  process: SimProcess,
  address: Address,
  options: DialOptions,
): Promise<ByteStream> {
  return start<ByteStream>(network, process, address, 'stream', options, (listener, connection, dial) => {
    const { accept } = listener
    if (accept.kind !== 'stream') return null
    const near: StreamEndpoint = new StreamEndpoint(
      process,
      connection,
      dial.peer,
      dial.opening(() => near),
    )
    const far = new StreamEndpoint(listener.process, connection, process.host.name, null)
    near.pair(far)
    connection.connect(near, far)
    // The kernel answers, whatever the process does.
    connection.backward.send({ kind: 'established' })
    listener.process.deliver(() => {
      if (far.closed) return
      remember(listener, far)
      accept.f(far)
    })
    return near
  })
}

function remember(listener: SimListener, endpoint: LinkEndpoint | StreamEndpoint): void {
  // Closed ones are dropped now and then, not each by a callback.
  if (listener.accepted.size % 64 === 63) {
    for (const old of listener.accepted) if (old.closed) listener.accepted.delete(old)
  }
  listener.accepted.add(endpoint)
}

function start<T>(
  network: SimNetwork,
  process: SimProcess,
  address: Address,
  trafficClass: TrafficClass,
  options: DialOptions,
  connect: Connect<T>,
): Promise<T> {
  return new Promise((resolve, reject) => {
    process.effect(() => {
      const traffic: Traffic = {
        network: address.network,
        from: process.host.name,
        to: address.network === 'local' ? process.host.name : address.host,
        class: trafficClass,
        fromProcess: process.name,
        toProcess: '',
        port: address.port,
      }
      new Dial(network, process, address, traffic, connect, resolve, reject).begin(
        Math.min(options.timeoutMs ?? DEFAULT_TIMEOUT_MS, options.connectMs ?? Number.POSITIVE_INFINITY),
      )
    })
  })
}

class Dial<T> {
  readonly peer: string
  readonly #network: SimNetwork
  readonly #process: SimProcess
  readonly #address: Address
  readonly #traffic: Traffic
  readonly #connect: Connect<T>
  readonly #resolve: (value: T) => void
  readonly #reject: (error: unknown) => void
  #dialled: Dialled | null = null
  #done = false

  constructor(
    network: SimNetwork,
    process: SimProcess,
    address: Address,
    traffic: Traffic,
    connect: Connect<T>,
    resolve: (value: T) => void,
    reject: (error: unknown) => void,
  ) {
    this.#network = network
    this.#process = process
    this.#address = address
    this.#traffic = traffic
    this.#connect = connect
    this.#resolve = resolve
    this.#reject = reject
    this.peer = address.network === 'local' ? address.host : `${address.host}:${address.port}`
  }

  begin(timeoutMs: number): void {
    const { network, from } = this.#traffic
    if (!this.#network.interfaceUp(from, network)) {
      this.#process.later(0, () => this.#fail('unreachable', `no address on ${network}`))
      return
    }
    const timeout = this.#process.later(this.#process.host.virtualDelay(timeoutMs), () => {
      this.#fail('unreachable', `no answer within ${timeoutMs} ms`)
    })
    this.#ended = () => this.#network.sim.cancel(timeout)
    this.#try(RETRY_MS)
  }

  #ended: () => void = () => undefined

  opening(open: () => T): Opening {
    return {
      established: () => {
        if (this.#done) return
        this.#done = true
        this.#ended()
        this.#resolve(open())
      },
      failed: reason => this.#fail('unreachable', reason),
    }
  }

  #try(nextMs: number): void {
    if (this.#done || !this.#process.alive) return
    const { sim } = this.#network
    const there = this.#network.path(this.#traffic)
    const back = this.#network.path({ ...this.#traffic, from: this.#traffic.to, to: this.#traffic.from })
    if (there.state !== 'open' || back.state !== 'open') {
      sim.schedule(nextMs, null, () => this.#try(Math.min(2 * nextMs, RETRY_MAX_MS)))
      return
    }
    let latency = this.#latency()
    for (const { verdict } of there.rules) {
      if (typeof verdict === 'object')
        latency += (verdict.delayMs ?? 0) + (verdict.jitterMs ?? 0) * this.#network.random.float()
    }
    const refused = there.rules.some(rule => rule.verdict === 'refuse')
    sim.schedule(latency, null, () => this.#arrived(refused, nextMs))
  }

  #arrived(refused: boolean, nextMs: number): void {
    if (this.#done || !this.#process.alive) return
    const { sim } = this.#network
    if (this.#network.path(this.#traffic).state !== 'open') {
      sim.schedule(nextMs, null, () => this.#try(Math.min(2 * nextMs, RETRY_MAX_MS)))
      return
    }
    const listener = refused ? null : this.#network.listenerAt(this.#traffic.to, this.#address)
    if (listener !== null) {
      const connection = new Connection(this.#network, { ...this.#traffic, toProcess: listener.process.name })
      const endpoint = this.#connect(listener, connection, this)
      if (endpoint !== null) {
        this.#dialled = { endpoint, connection }
        this.#network.added(connection)
        connection.reconsider()
        return
      }
    }
    sim.schedule(this.#latency(), null, () => {
      this.#process.deliver(() => this.#fail('refused', 'connection refused'))
    })
  }

  #latency(): number {
    const { latencyMs, jitterMs } = this.#network.profile(this.#traffic.network)
    return latencyMs + jitterMs * this.#network.random.float()
  }

  #fail(code: 'refused' | 'unreachable', reason: string): void {
    if (this.#done) return
    this.#done = true
    this.#ended()
    if (this.#dialled !== null) {
      const { endpoint, connection } = this.#dialled
      endpoint.abandon()
      connection.pipeFrom(endpoint).send({ kind: 'reset', reason: 'the dial was given up' })
    }
    const { network } = this.#traffic
    this.#reject(
      new StellwerkError(code, `${this.peer} on ${network}: ${reason}`, {
        retryable: true,
        where: this.#process.name,
        hint: 'check that it runs and that the network between is up',
      }),
    )
  }
}
