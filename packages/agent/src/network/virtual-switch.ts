// The host's virtual switch: a learning bridge for each network that a port of this host is in, and uplinks to the peers over
// the guest network. It decides nothing about VMs: a port is attached while its machine runs here, and not a moment longer.

import { announcement, formatMac, ipAnnouncement, parseMac, sourceOf } from '@stellwerk/protocol/ethernet.ts'
import { parseIpv4 } from '@stellwerk/protocol/ipv4.ts'
import type { ClusterMap } from '@stellwerk/protocol/messages/cluster.ts'
import type { NetworkFrames } from '@stellwerk/protocol/messages/network.ts'
import type { Identity } from '@stellwerk/protocol/session.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import type { Address, Environment } from '@stellwerk/runtime/environment.ts'
import type { NetworkPort } from '../hypervisor/hypervisor.ts'
import { type Forwarding, SwitchCore, type SwitchPort } from './switch-core.ts'
import { isTold } from './told.ts'
import { Uplinks } from './uplinks.ts'

/** A network's name and what a port in it is bound to. */
export interface PortSpec {
  readonly network: string
  /** Null: whatever stands behind it may have any address. */
  readonly mac: string | null
  /** IPv4; empty: any. */
  readonly addresses: readonly string[]
  readonly placementEpoch: number
  /** For whom; in logs and traces. */
  readonly owner: string
}

export interface VirtualSwitchOptions {
  readonly env: Environment
  readonly identity: Identity
  /** Where peers' switches reach this one; null: the host is not on the guest network. */
  readonly listen: Address | null
  /** This host's own. */
  readonly epoch: () => number
  /** Networks that are bridges of this host's. */
  readonly isBridged?: (network: string) => boolean
  /** A card is in that network. */
  readonly onCard?: (network: string) => void
}

/** What operators see of a network on this host. */
export interface NetworkState {
  readonly network: string
  readonly ports: readonly { readonly mac: string | null; readonly owner: string }[]
  readonly learnt: readonly { readonly mac: string; readonly host: string }[]
  readonly dropped: { readonly malformed: number; readonly spoofed: number; readonly stale: number }
  /** Why it is not on its bridge; null: it is, or has none. */
  readonly cutOff: string | null
}

class Port implements NetworkPort, SwitchPort {
  readonly network: string
  readonly mac: string | null
  readonly address: number | null
  readonly ipAddresses: readonly number[] | null
  readonly placementEpoch: number
  readonly owner: string
  readonly #switch: VirtualSwitch
  #attached = false
  deliver: (frame: Uint8Array) => void = () => undefined

  constructor(owning: VirtualSwitch, { network, mac, addresses, placementEpoch, owner }: PortSpec) {
    this.#switch = owning
    this.network = network
    this.address = mac === null ? null : parseMac(mac)
    this.mac = this.address === null ? null : formatMac(this.address)
    this.ipAddresses = addresses.length === 0 ? null : addresses.map(parseIpv4)
    this.placementEpoch = placementEpoch
    this.owner = owner
  }

  send(frame: Uint8Array): void {
    if (this.#attached) this.#switch.fromPort(this, frame)
  }

  onFrame(f: (frame: Uint8Array) => void): void {
    this.deliver = f
  }

  attach(): void {
    if (this.#attached) return
    this.#attached = true
    this.#switch.attached(this)
  }

  detach(): void {
    if (!this.#attached) return
    this.#attached = false
    this.#switch.detached(this)
  }
}

export class VirtualSwitch {
  readonly #options: VirtualSwitchOptions
  readonly #networks = new Map<string, SwitchCore<Port>>()
  readonly #uplinks: Uplinks
  /** Networks that should be on a bridge and are not, and why. */
  readonly #cutOff = new Map<string, string>()
  /** Host → the epoch below which it is not heard. */
  readonly #heardFrom = new Map<string, number>()

  constructor(options: VirtualSwitchOptions) {
    this.#options = options
    const { env, identity, listen } = options
    this.#uplinks = new Uplinks({ env, identity, listen, onFrames: (host, body) => this.#fromPeer(host, body) })
  }

  listen(): Promise<void> {
    return this.#uplinks.listen()
  }

  follow({ hosts }: Pick<ClusterMap, 'hosts'>): void {
    for (const name of [...this.#heardFrom.keys()]) {
      if (hosts.some(host => host.name === name)) continue
      this.#heardFrom.delete(name)
      for (const core of this.#networks.values()) core.forget(name)
    }
    for (const { name, epoch, fenced } of hosts) {
      const from = fenced === true ? epoch + 1 : epoch
      if (from <= (this.#heardFrom.get(name) ?? 0)) continue
      this.#heardFrom.set(name, from)
      for (const core of this.#networks.values()) core.forget(name)
    }
    this.#uplinks.follow(hosts)
  }

  /** A port that is not attached yet: it neither sends nor hears. */
  port(spec: PortSpec): NetworkPort {
    return new Port(this, spec)
  }

  get states(): NetworkState[] {
    return [...this.#networks].map(([network, core]) => ({
      network,
      ports: [...core.ports].map(({ mac, owner }) => ({ mac, owner })),
      learnt: core.learnt.map(({ mac, peer }) => ({ mac: formatMac(mac), host: peer })),
      dropped: { ...core.dropped },
      cutOff: this.#cutOff.get(network) ?? null,
    }))
  }

  /** Null: it is on its bridge, where all that is here is announced; else why not. */
  bridged(network: string, why: string | null): void {
    if (why !== null) {
      this.#cutOff.set(network, why)
      return
    }
    this.#cutOff.delete(network)
    for (const port of this.#networks.get(network)?.ports ?? []) this.#announce(port)
  }

  async stop(): Promise<void> {
    await this.#uplinks.stop()
    this.#networks.clear()
  }

  // --- called by ports -----------------------------------------------------------------------------------------------------

  attached(port: Port): void {
    const isBridged = this.#options.isBridged?.(port.network) === true
    const core = this.#networks.get(port.network) ?? new SwitchCore<Port>({ isBridged })
    this.#networks.set(port.network, core)
    core.attach(port)
    this.#trace('network.attached', port)
    this.#announce(port)
    if (port.address !== null) this.#options.onCard?.(port.network)
  }

  /**
   * Every switch learns at once where it is; those on the way to a guest of its own that talks to it, too. Its neighbours learn which
   * MAC its addresses have now, where these are known: a VM that was defined anew may have another.
   */
  #announce(port: Port): void {
    if (port.address === null) return
    this.fromPort(port, announcement(port.address))
    for (const address of port.ipAddresses ?? []) this.fromPort(port, ipAnnouncement(port.address, address))
  }

  detached(port: Port): void {
    const core = this.#networks.get(port.network)
    // What it has learnt stays: of a network without ports it goes on listening, for those that come.
    core?.detach(port, this.#options.env.clock.now())
    this.#trace('network.detached', port)
  }

  fromPort(port: Port, frame: Uint8Array): void {
    const core = this.#networks.get(port.network)
    if (core === undefined) return
    const spoofed = core.dropped.spoofed
    const where = core.fromPort(port, frame, this.#options.env.clock.now())
    if (core.dropped.spoofed !== spoofed && isTold(spoofed + 1)) {
      const { log } = this.#options.env
      log.warn({ port: port.owner, dropped: spoofed + 1 }, `a frame was not let through: ${core.lastRefusal}`)
    }
    this.#deliver(where, frame)
    if (where.toPeers !== null) {
      this.#uplinks.send(where.toPeers, port.network, this.#options.epoch(), port.placementEpoch, frame)
    }
  }

  #fromPeer(host: string, { network, hostEpoch, placementEpoch, frames }: NetworkFrames): void {
    const from = this.#heardFrom.get(host)
    if ((from === undefined || hostEpoch < from) && !canary('fenced-host-heard')) return
    const core = this.#networks.get(network)
    if (core === undefined) return
    const now = this.#options.env.clock.now()
    for (const frame of frames) {
      const where = core.fromPeer(host, placementEpoch, frame, now)
      if (where.ports.length > 0) this.#traceFrame(host, hostEpoch, placementEpoch, network, frame)
      this.#deliver(where, frame)
    }
  }

  #deliver({ ports }: Forwarding<Port>, frame: Uint8Array): void {
    for (const port of ports) port.deliver(frame)
  }

  #trace(kind: string, { network, mac, owner, placementEpoch }: Port): void {
    const { env, identity } = this.#options
    const body = { network, mac, epoch: placementEpoch }
    env.trace.emit({ level: 'decision', kind, vm: owner, host: identity.node, body })
  }

  /** Evidence for NET1 and NET2 (docs/SPEC.md). */
  #traceFrame(from: string, hostEpoch: number, placementEpoch: number, network: string, frame: Uint8Array): void {
    const { env, identity } = this.#options
    if (!env.trace.on('io')) return
    const mac = formatMac(sourceOf(frame))
    const body = { from, hostEpoch, epoch: placementEpoch, network, mac, heardFrom: this.#heardFrom.get(from) ?? 0 }
    env.trace.emit({ level: 'io', kind: 'network.delivered', host: identity.node, body })
  }
}
