// Networks of the guests that are bridges of this host's: a port of the virtual switch that leads to a tap device on the bridge, from the
// first card in that network on. For root. Another host's guests are reached by the bridges' own cables, and not by the uplinks:
// there is one way, and so there are no loops.

import type { CommandExit, Environment, Timer } from '@stellwerk/runtime/environment.ts'
import { describeError, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { removeMachines, type StartProgram } from '../hypervisor/qemu/qemu-process.ts'
import type { VirtualSwitch } from './virtual-switch.ts'
import { WiredQemu } from './wired-qemu.ts'

/** Among the agent's files. */
export const BRIDGES = 'bridges'
/** nobody: once its device is made it needs nothing of root's. */
const USER = '65534:65534'
const AGAIN_MIN_MS = 1_000
const AGAIN_MAX_MS = 30_000

export interface BridgesOptions {
  readonly env: Environment
  /** Network → the name of a Linux bridge. */
  readonly bridges: { readonly [network: string]: string }
  readonly start: StartProgram
  readonly network: VirtualSwitch
}

export class Bridges {
  readonly #options: BridgesOptions
  readonly #open = new Map<string, WiredQemu | null>()
  readonly #again = new Map<string, Timer>()
  /** What a dead predecessor has left goes first. */
  #leftovers: Promise<void> | null = null
  #isOver = false

  constructor(options: BridgesOptions) {
    this.#options = options
  }

  /** A card is in that network now. */
  wanted(network: string): void {
    const bridge = this.#options.bridges[network]
    if (bridge === undefined || this.#open.has(network) || this.#isOver) return
    this.#open.set(network, null)
    this.#keep(network, bridge, AGAIN_MIN_MS)
  }

  /** With the agent's end: their devices go with their programs. */
  stop(): void {
    this.#isOver = true
    for (const timer of this.#again.values()) timer.cancel()
    for (const qemu of this.#open.values()) qemu?.kill()
  }

  #keep(network: string, bridge: string, againMs: number): void {
    const { log, timers } = this.#options.env
    const again = (why: string, afterMs: number): void => {
      this.#open.set(network, null)
      this.#options.network.bridged(network, why)
      if (this.#isOver) return
      log.warn({ network, bridge, why }, 'a network of the guests is not on its bridge; it is tried again')
      const timer = timers.after(afterMs, () => this.#keep(network, bridge, Math.min(2 * afterMs, AGAIN_MAX_MS)))
      this.#again.set(network, timer)
    }
    this.#start(network, bridge).then(
      qemu => {
        this.#open.set(network, qemu)
        if (this.#isOver) return qemu.kill()
        this.#options.network.bridged(network, null)
        const ended = (): void => again('its program has ended', AGAIN_MIN_MS)
        qemu.gone.then(ended, ended)
      },
      (error: unknown) => again(describeError(error), againMs),
    )
  }

  async #start(network: string, bridge: string): Promise<WiredQemu> {
    const { env, start, network: owning } = this.#options
    const tap = `swt-${env.random
      .id()
      .replaceAll(/[^A-Za-z0-9]/g, '')
      .slice(0, 8)}`
    const owner = `bridge/${network}`
    if (this.#leftovers === null) this.#leftovers = removeMachines(env, BRIDGES)
    await this.#leftovers
    const port = owning.port({ network, mac: null, addresses: [], placementEpoch: 0, owner })
    const qemu = await WiredQemu.start({
      ...{ env, start, port, name: owner, directory: `${BRIDGES}/${tap}` },
      netdev: `tap,id=end,ifname=${tap},script=no,downscript=no,vnet_hdr=off`,
      // It makes its device as root, and is nobody then, who can't become anything else: it may start no other program.
      ...{ elevation: 'allow', words: ['-runas', USER] },
    })
    try {
      await this.#plugIn(tap, bridge)
    } catch (error) {
      qemu.kill()
      await qemu.gone
      throw error
    }
    port.attach()
    return qemu
  }

  async #plugIn(tap: string, bridge: string): Promise<void> {
    const args = ['link', 'set', 'dev', tap, 'master', bridge, 'up']
    const command = this.#options.env.processes.command({ program: 'ip', name: `ip ${args.join(' ')}`, args })
    const { code, errors } = await new Promise<CommandExit>(resolve => command.onExit(resolve))
    if (code === 0) return
    throw new StellwerkError('no-bridge', `the device can't be put on the bridge: ${errors.trim()}`, {
      where: bridge,
      hint: `make the bridge: ip link add ${bridge} type bridge && ip link set ${bridge} up`,
    })
  }
}
