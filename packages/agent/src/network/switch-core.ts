// One network on one host, as a learning bridge: which ports and which peers a frame goes to. Pure; the clock's value is given.
//
// Peers are linked each with each, so what comes from a peer goes to ports alone: there are no loops (split horizon), and
// a frame comes once. Rule NET1: what a fenced host sends is not heard (`hears`). Rule NET2: what comes from an older placement
// of a VM than one that was heard is dropped, and learnt from by nobody: a VM's address is where it was placed last.

import {
  destinationOf,
  FRAME_MAX_BYTES,
  FRAME_MIN_BYTES,
  isGroup,
  isLinkLocal,
  sourceOf,
} from '@stellwerk/protocol/ethernet.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import { whyRefused } from './spoof-guard.ts'

/** An address that was not heard for so long is looked for everywhere again. */
export const AGE_MS = 300_000
/** Addresses remembered; of more the ones not heard for longest go. */
export const MAX_LEARNT = 16_384

export interface SwitchPort {
  /** Its MAC; null: whatever stands behind it may have any (a gateway). */
  readonly address: number | null
  /** IPv4 addresses it may use; null: any. */
  readonly ipAddresses: readonly number[] | null
  /** Of its VM; 0: it has none. */
  readonly placementEpoch: number
}

/** Where it goes. `toPeers`: to this one alone, to all of them, or to none. */
export interface Forwarding<P> {
  readonly ports: readonly P[]
  readonly toPeers: string | 'all' | null
}

interface Learnt {
  /** Null: its host is not listened to any more, but older placements of it are stale all the same. */
  peer: string | null
  readonly placementEpoch: number
  at: number
}

const NOWHERE: Forwarding<never> = { ports: [], toPeers: null }

export interface SwitchOptions {
  /** The network is a bridge of the host's, behind a port without an address: peers are reached by it, and not by uplinks. */
  readonly isBridged: boolean
}

export class SwitchCore<P extends SwitchPort> {
  readonly #isBridged: boolean
  readonly #ports = new Set<P>()
  readonly #byMac = new Map<number, P>()
  /** In the order in which they were heard last. */
  readonly #learnt = new Map<number, Learnt>()
  /** What stands behind ports without an address of their own. */
  readonly #behind = new Map<number, { readonly port: P; at: number }>()
  readonly dropped = { malformed: 0, spoofed: 0, stale: 0 }
  /** Why a frame of a port was dropped last. */
  lastRefusal: string | null = null

  constructor({ isBridged }: SwitchOptions = { isBridged: false }) {
    this.#isBridged = isBridged
  }

  get ports(): ReadonlySet<P> {
    return this.#ports
  }

  /** Addresses and the peers they are at. */
  get learnt(): readonly { readonly mac: number; readonly peer: string }[] {
    return [...this.#learnt].flatMap(([mac, { peer }]) => (peer === null ? [] : [{ mac, peer }]))
  }

  attach(port: P): void {
    this.#ports.add(port)
    if (port.address === null) return
    this.#byMac.set(port.address, port)
    this.#learnt.delete(port.address)
  }

  /** `now`: where its VM goes from here is to be heard of; older placements than this one are stale. */
  detach(port: P, now: number): void {
    this.#ports.delete(port)
    if (port.address !== null && this.#byMac.get(port.address) === port) {
      this.#byMac.delete(port.address)
      this.#remember(port.address, { peer: null, placementEpoch: port.placementEpoch, at: now })
    }
    for (const [mac, behind] of this.#behind) if (behind.port === port) this.#behind.delete(mac)
  }

  /** A peer is another now, or none: nothing is sent there by what was learnt of it. */
  forget(peer: string): void {
    for (const learnt of this.#learnt.values()) if (learnt.peer === peer) learnt.peer = null
  }

  fromPort(port: P, frame: Uint8Array, now: number): Forwarding<P> {
    if (!this.#ports.has(port) || !this.#isSound(frame)) return NOWHERE
    if (port.address !== null) {
      const refusal = whyRefused(frame, port.address, port.ipAddresses)
      if (refusal !== null) {
        this.dropped.spoofed += 1
        this.lastRefusal = refusal
        return NOWHERE
      }
    } else if (!this.#learnBehind(port, sourceOf(frame), now)) return NOWHERE
    const destination = destinationOf(frame)
    const known = this.#portOf(destination, now)
    if (known !== null) return known === port ? NOWHERE : { ports: [known], toPeers: null }
    if (this.#isBridged) {
      // An address that is not a port's can only be on the bridge, or is not for anybody here.
      const others = isGroup(destination) ? [...this.#ports] : this.#unaddressed()
      return { ports: others.filter(other => other !== port), toPeers: null }
    }
    const at = this.#peerOf(destination, now)
    if (at !== null) return { ports: [], toPeers: at }
    return { ports: this.#others(port), toPeers: 'all' }
  }

  fromPeer(peer: string, placementEpoch: number, frame: Uint8Array, now: number): Forwarding<P> {
    // Of a host that does not have the bridge: its way would be a second one.
    if (this.#isBridged || !this.#isSound(frame)) return NOWHERE
    const source = sourceOf(frame)
    if (!this.#learn(source, peer, placementEpoch, now)) {
      this.dropped.stale += 1
      return NOWHERE
    }
    const destination = destinationOf(frame)
    const known = this.#portOf(destination, now)
    if (known !== null) return { ports: [known], toPeers: null }
    // Somebody's who is elsewhere by now, or whom nobody knows.
    return { ports: isGroup(destination) ? [...this.#ports] : this.#unaddressed(), toPeers: null }
  }

  #isSound(frame: Uint8Array): boolean {
    const { byteLength } = frame
    const isOne =
      byteLength >= FRAME_MIN_BYTES &&
      byteLength <= FRAME_MAX_BYTES &&
      !isGroup(sourceOf(frame)) &&
      !isLinkLocal(destinationOf(frame))
    if (!isOne) this.dropped.malformed += 1
    return isOne
  }

  /** False: an older placement says so, or another than the one that is here. */
  #learn(mac: number, peer: string, placementEpoch: number, now: number): boolean {
    const here = this.#byMac.get(mac)
    const before = this.#learnt.get(mac)
    const isStale =
      (here !== undefined && placementEpoch <= here.placementEpoch) ||
      (before !== undefined && placementEpoch < before.placementEpoch)
    if (isStale && !canary('stale-placement-heard')) return false
    this.#behind.delete(mac)
    this.#remember(mac, { peer, placementEpoch, at: now })
    return true
  }

  #remember(mac: number, learnt: Learnt): void {
    this.#learnt.delete(mac)
    if (this.#learnt.size >= MAX_LEARNT) {
      const oldest = this.#learnt.keys().next()
      if (oldest.done !== true) this.#learnt.delete(oldest.value)
    }
    this.#learnt.set(mac, learnt)
  }

  /** False: the address belongs to a port here. */
  #learnBehind(port: P, mac: number, now: number): boolean {
    if (this.#byMac.has(mac)) {
      this.dropped.spoofed += 1
      this.lastRefusal = 'it is from the MAC of another port'
      return false
    }
    if (this.#behind.size >= MAX_LEARNT && !this.#behind.has(mac)) this.#behind.clear()
    this.#behind.set(mac, { port, at: now })
    this.#learnt.delete(mac)
    return true
  }

  #portOf(mac: number, now: number): P | null {
    const own = this.#byMac.get(mac)
    if (own !== undefined) return own
    const behind = this.#behind.get(mac)
    if (behind === undefined) return null
    if (now - behind.at < AGE_MS) return behind.port
    this.#behind.delete(mac)
    return null
  }

  #peerOf(mac: number, now: number): string | null {
    const learnt = this.#learnt.get(mac)
    if (learnt === undefined) return null
    if (now - learnt.at < AGE_MS) return learnt.peer
    // Only the place is forgotten, not that older placements of it are stale.
    return null
  }

  #others(port: P): P[] {
    return [...this.#ports].filter(other => other !== port)
  }

  /** An unknown address can only be behind a port that has none of its own. */
  #unaddressed(): P[] {
    return [...this.#ports].filter(port => port.address === null)
  }
}
