// A QEMU without a machine on a port of the virtual switch: what it does with frames is its command line's, a way to the host's
// sockets or to a bridge of the host's.

import { present } from '@stellwerk/runtime/assert.ts'
import type { CommandExit, CommandSpec, Environment } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { NetworkPort } from '../hypervisor/hypervisor.ts'
import { GuestNic } from '../hypervisor/qemu/guest-nic.ts'
import { QEMU_HINT, QEMU_PROGRAM } from '../hypervisor/qemu/probe.ts'
import { lastWords, removeDirectory, type StartedProgram, type StartProgram } from '../hypervisor/qemu/qemu-process.ts'
import { Qmp } from '../hypervisor/qemu/qmp.ts'
import { MachineSockets } from '../hypervisor/qemu/sockets.ts'

const MONITOR_SOCKET = 'qmp.sock'
const WIRE_SOCKET = 'wire.sock'
const START_MS = 10_000

export interface WiredOptions {
  readonly env: Environment
  readonly start: StartProgram
  /** In logs and errors. */
  readonly name: string
  /** What is joined to the wire: a `-netdev` with the id `end`. */
  readonly netdev: string
  /** Words of `-sandbox` for whether it may still change its user. */
  readonly elevation: 'deny' | 'allow'
  /** More words of its command line. */
  readonly words?: readonly string[]
  readonly ownUser?: NonNullable<CommandSpec['ownUser']>
  /** Not attached. */
  readonly port: NetworkPort
  /** Of its own, among the agent's files. */
  readonly directory: string
}

export class WiredQemu {
  readonly qmp: Qmp
  /** Resolves when its process has ended, however, and its port is detached. */
  readonly gone: Promise<void>
  readonly #program: StartedProgram

  private constructor(program: StartedProgram, qmp: Qmp, gone: Promise<void>) {
    this.#program = program
    this.qmp = qmp
    this.gone = gone
  }

  /** Its port is not attached yet. Rejects with `no-program` and `qemu-failed`. */
  static async start({ env, port, directory, name, ...options }: WiredOptions): Promise<WiredQemu> {
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
      program = await options.start(null, {
        ...{ program: QEMU_PROGRAM, name, args: commandLine(options), directory: env.files.locate(directory) },
        ...(options.ownUser === undefined ? {} : { ownUser: options.ownUser }),
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
      const always = (): boolean => true
      new GuestNic(port, present(stream, 'the wire'), always, always)
      await env.files.seal(directory)
      return new WiredQemu(program, qmp, exit.then(clean))
    } catch (error) {
      program?.kill()
      await clean()
      throw error
    } finally {
      timer.cancel()
    }
  }

  kill(): void {
    this.#program.kill()
  }
}

function commandLine({
  netdev,
  elevation,
  words = [],
}: Pick<WiredOptions, 'netdev' | 'elevation' | 'words'>): string[] {
  return [
    ...['-M', 'none', '-nodefaults', '-no-user-config', '-display', 'none'],
    ...['-sandbox', `on,obsolete=deny,elevateprivileges=${elevation},spawn=deny,resourcecontrol=deny`],
    ...['-chardev', `socket,id=monitor,path=${MONITOR_SOCKET}`, '-mon', 'chardev=monitor,mode=control'],
    ...['-netdev', netdev, '-netdev', 'hubport,id=inside,hubid=0,netdev=end'],
    ...['-netdev', `stream,id=wire,server=off,addr.type=unix,addr.path=${WIRE_SOCKET}`],
    ...['-netdev', 'hubport,id=outside,hubid=0,netdev=wire'],
    ...words,
  ]
}
