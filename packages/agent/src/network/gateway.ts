// A way for TCP from this host into a network of the guests: a QEMU without a machine, whose user-mode network stack (slirp)
// stands on a port of the virtual switch and listens on the host. It reaches nothing else (`restrict`), and takes nothing in
// that nobody has asked for.

import { formatIpv4, parseIpv4 } from '@stellwerk/protocol/ipv4.ts'
import { present } from '@stellwerk/runtime/assert.ts'
import type { Environment } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { NetworkPort } from '../hypervisor/hypervisor.ts'
import type { StartProgram } from '../hypervisor/qemu/qemu-process.ts'
import { mayEnter } from './gateway-filter.ts'
import { WiredQemu } from './wired-qemu.ts'

/** Among the agent's files. */
export const GATEWAYS = 'gateways'
const COMMAND_MS = 3_000

export interface GatewaySpec {
  readonly network: string
  /** Its own in the network, whose addresses are as this in their first `bits`. */
  readonly address: string
  readonly bits: number
}

export interface Listening {
  readonly host: string
  readonly port: number
}

export interface GatewayOptions {
  readonly env: Environment
  readonly spec: GatewaySpec
  readonly start: StartProgram
  /** On the host's switch, in that network, not attached. */
  readonly port: NetworkPort
  /** Of its own, among the agent's files. */
  readonly directory: string
}

export class Gateway {
  readonly spec: GatewaySpec
  /** Resolves when its process has ended, however. */
  readonly gone: Promise<void>
  readonly #env: Environment
  readonly #qemu: WiredQemu

  private constructor(env: Environment, spec: GatewaySpec, qemu: WiredQemu) {
    this.#env = env
    this.spec = spec
    this.#qemu = qemu
    this.gone = qemu.gone
  }

  /** Rejects with `no-program` and `qemu-failed`. */
  static async start({ env, spec, start, port, directory }: GatewayOptions): Promise<Gateway> {
    const own = parseIpv4(spec.address)
    const filtered: NetworkPort = {
      mac: port.mac,
      attach: () => port.attach(),
      detach: () => port.detach(),
      onFrame: f => port.onFrame(f),
      send: frame => {
        if (mayEnter(frame, own)) port.send(frame)
      },
    }
    const qemu = await WiredQemu.start({
      ...{ env, start, port: filtered, directory, name: `gateway/${spec.network}` },
      ...{ netdev: netdev(spec), elevation: 'deny' },
      // It listens where an operator wants it to, which may be the port of a well-known service.
      ownUser: { capabilities: ['net_bind_service'] },
    })
    port.attach()
    return new Gateway(env, spec, qemu)
  }

  /** Rejects with `address-in-use` when the host's port is taken. */
  async forward(listen: Listening, guest: string, guestPort: number): Promise<void> {
    const said = await this.#command(`hostfwd_add end tcp:${listen.host}:${listen.port}-${guest}:${guestPort}`)
    if (said === '') return
    throw new StellwerkError('address-in-use', `the host does not let it listen there: ${said}`, {
      where: `${listen.host}:${listen.port}`,
      hint: 'name another port, or none',
    })
  }

  async unforward(listen: Listening): Promise<void> {
    await this.#command(`hostfwd_remove end tcp:${listen.host}:${listen.port}`)
  }

  async stop(): Promise<void> {
    this.#qemu.kill()
    await this.gone
  }

  async #command(line: string): Promise<string> {
    // One that hangs is ended, and the command fails with its monitor.
    const timer = this.#env.timers.after(COMMAND_MS, () => this.#qemu.kill())
    const asked = this.#qemu.qmp.execute('human-monitor-command', { 'command-line': line })
    const said = await asked.finally(() => timer.cancel())
    return typeof said === 'string' ? said.trim() : ''
  }
}

function netdev({ address, bits }: GatewaySpec): string {
  const mask = (0xffffffff << (32 - bits)) >>> 0
  const own = parseIpv4(address)
  const network = (own & mask) >>> 0
  // It wants addresses for a name server and for DHCP, too: neither is let out (gateway-filter.ts).
  const [name, lease] = [1, 2, 3].map(each => network + each).filter(each => each !== own)
  const addresses = `net=${formatIpv4(network)}/${bits},host=${address},dns=${formatIpv4(present(name, 'an address'))},dhcpstart=${formatIpv4(present(lease, 'an address'))}`
  // `end` is what WiredQemu joins to the wire.
  return `user,id=end,${addresses},restrict=on,ipv6=off`
}
