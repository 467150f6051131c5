// A way for TCP from this host into a network of the guests: a QEMU without a machine, whose user-mode network stack (slirp)
// stands on a port of the virtual switch and listens on the host. It reaches nothing else (`restrict`), and takes nothing in
// that nobody has asked for.

import { formatIpv4, parseIpv4 } from '@stellwerk/protocol/ipv4.ts'
import { present } from '@stellwerk/runtime/assert.ts'
import type { CommandExit, Environment } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { NetworkPort } from '../hypervisor/hypervisor.ts'
import { GuestNic } from '../hypervisor/qemu/guest-nic.ts'
import { QEMU_HINT, QEMU_PROGRAM } from '../hypervisor/qemu/probe.ts'
import { lastWords, removeDirectory, type StartedProgram, type StartProgram } from '../hypervisor/qemu/qemu-process.ts'
import { Qmp } from '../hypervisor/qemu/qmp.ts'
import { MachineSockets } from '../hypervisor/qemu/sockets.ts'
import { mayEnter } from './gateway-filter.ts'

/** Among the agent's files. */
export const GATEWAYS = 'gateways'
const MONITOR_SOCKET = 'qmp.sock'
const WIRE_SOCKET = 'wire.sock'
const START_MS = 10_000
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
  readonly #program: StartedProgram
  readonly #qmp: Qmp

  private constructor(env: Environment, spec: GatewaySpec, program: StartedProgram, qmp: Qmp, gone: Promise<void>) {
    this.#env = env
    this.spec = spec
    this.#program = program
    this.#qmp = qmp
    this.gone = gone
  }

  /** Rejects with `no-program` and `qemu-failed`. */
  static async start(options: GatewayOptions): Promise<Gateway> {
    const { env, spec, port, directory } = options
    await env.files.makeDirectory(directory)
    const sockets = new MachineSockets(env, directory)
    const clean = async (): Promise<void> => {
      port.detach()
      await sockets.close()
      await removeDirectory(env, directory)
    }
    let program: StartedProgram | null = null
    let late = false
    const timer = env.timers.after(START_MS, () => {
      late = true
      program?.kill()
    })
    try {
      const monitor = await sockets.expect(MONITOR_SOCKET)
      const wire = await sockets.expect(WIRE_SOCKET)
      const name = `gateway/${spec.network}`
      program = await options.start(null, {
        ...{ program: QEMU_PROGRAM, name, args: commandLine(spec), directory: env.files.locate(directory) },
        // It listens where an operator wants it to, which may be the port of a well-known service.
        ownUser: { capabilities: ['net_bind_service'] },
      })
      if (late) program.kill()
      const { promise: exit, resolve } = Promise.withResolvers<CommandExit>()
      program.onExit(resolve)
      const failed = exit.then(how => {
        throw new StellwerkError('qemu-failed', lastWords(how), { where: name, hint: QEMU_HINT })
      })
      // Heard of by the race below, if it is still on.
      failed.catch(() => undefined)
      const opened = Promise.all([monitor.connected.then(stream => Qmp.open(stream, name)), wire.connected])
      opened.catch(() => undefined) // as above
      const [qmp, stream] = await Promise.race([opened, failed])
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
      const always = (): boolean => true
      new GuestNic(filtered, stream, always, always)
      await env.files.seal(directory)
      port.attach()
      return new Gateway(env, spec, program, qmp, exit.then(clean))
    } catch (error) {
      program?.kill()
      await clean()
      throw error
    } finally {
      timer.cancel()
    }
  }

  /** Rejects with `address-in-use` when the host's port is taken. */
  async forward(listen: Listening, guest: string, guestPort: number): Promise<void> {
    const said = await this.#command(`hostfwd_add user tcp:${listen.host}:${listen.port}-${guest}:${guestPort}`)
    if (said === '') return
    throw new StellwerkError('address-in-use', `the host does not let it listen there: ${said}`, {
      where: `${listen.host}:${listen.port}`,
      hint: 'name another port, or none',
    })
  }

  async unforward(listen: Listening): Promise<void> {
    await this.#command(`hostfwd_remove user tcp:${listen.host}:${listen.port}`)
  }

  async stop(): Promise<void> {
    this.#program.kill()
    await this.gone
  }

  async #command(line: string): Promise<string> {
    // One that hangs is ended, and the command fails with its monitor.
    const timer = this.#env.timers.after(COMMAND_MS, () => this.#program.kill())
    const asked = this.#qmp.execute('human-monitor-command', { 'command-line': line })
    const said = await asked.finally(() => timer.cancel())
    return typeof said === 'string' ? said.trim() : ''
  }
}

function commandLine({ address, bits }: GatewaySpec): string[] {
  const mask = (0xffffffff << (32 - bits)) >>> 0
  const own = parseIpv4(address)
  const network = (own & mask) >>> 0
  // It wants addresses for a name server and for DHCP, too: neither is let out (gateway-filter.ts).
  const [name, lease] = [1, 2, 3].map(each => network + each).filter(each => each !== own)
  const addresses = `net=${formatIpv4(network)}/${bits},host=${address},dns=${formatIpv4(present(name, 'an address'))},dhcpstart=${formatIpv4(present(lease, 'an address'))}`
  return [
    ...['-M', 'none', '-nodefaults', '-no-user-config', '-display', 'none'],
    ...['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    ...['-chardev', `socket,id=monitor,path=${MONITOR_SOCKET}`, '-mon', 'chardev=monitor,mode=control'],
    ...[
      '-netdev',
      `user,id=user,${addresses},restrict=on,ipv6=off`,
      '-netdev',
      'hubport,id=inside,hubid=0,netdev=user',
    ],
    ...['-netdev', `stream,id=wire,server=off,addr.type=unix,addr.path=${WIRE_SOCKET}`],
    ...['-netdev', 'hubport,id=outside,hubid=0,netdev=wire'],
  ]
}
