// A QEMU process with its directory, its sockets and its monitor.

import type { BlockDevice } from '@stellwerk/block/device.ts'
import type {
  ByteStream,
  Command,
  CommandExit,
  CommandSpec,
  Environment,
  Files,
} from '@stellwerk/runtime/environment.ts'
import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { Kept } from '../../guardian/pipe.ts'
import { type DiskExport, exportDisk } from '../../volume/disk-export.ts'
import {
  ADOPTION_SOCKET,
  AGENT_SOCKET,
  CONSOLE_SOCKET,
  diskName,
  diskSocket,
  MONITOR_SOCKET,
  nicSocket,
} from './command-line.ts'
import { Qmp } from './qmp.ts'
import { MachineSockets } from './sockets.ts'

/** Of /dev/kvm's group, which is who may use it. */
export const MACHINE_USER = { capabilities: [], groupOf: '/dev/kvm' } as const

/** Where machines have their directories, among the agent's files. */
export const MACHINES = 'machines'
/** From the start of the process to the answers of its monitor: on a busy machine, too. */
const START_MS = 60_000

export type StartedProgram = Pick<Command, 'onExit' | 'kill'>

/**
 * Starts a program for a VM (null: for none). With `keep` it outlives this agent, until its VM's right to run ends, and whoever takes
 * it over gets that. Rejects with `no-program` or `spawn-failed`.
 */
export type StartProgram = (vm: string | null, spec: CommandSpec, keep?: Kept | null) => Promise<StartedProgram>

export interface QemuProcessOptions {
  readonly env: Environment
  readonly vm: string
  readonly program: string
  readonly args: readonly string[]
  readonly start: StartProgram
  /** Of the machine, among the process's files. */
  readonly directory: string
  /** What is to be in it, by name. */
  readonly contents: { readonly [name: string]: Uint8Array }
  readonly disks: readonly BlockDevice[]
  /** How many. */
  readonly nics: number
  /** It has a port for an agent in its guest. */
  readonly agentPort: boolean
  /** For an agent that comes after this one; null: it ends with this one. */
  readonly keep: Kept | null
  /** It waits for a migration stream, for which it will make a socket: whoever dials that calls `seal`. */
  readonly incoming: boolean
}

export class QemuProcess {
  readonly qmp: Qmp
  readonly console: ByteStream
  /** Of its network cards. */
  readonly nics: readonly ByteStream[]
  readonly sockets: MachineSockets
  /** The port of the agent in its guest, which takes one connection at a time; null: it has none. */
  readonly dialAgent: (() => Promise<ByteStream>) | null
  /** Resolves when the process was reaped, and everything that served it is gone. */
  readonly gone: Promise<void>
  readonly #files: Files
  readonly #directory: string
  readonly #process: StartedProgram
  readonly #exit: Promise<CommandExit>

  /** Made by `start`, or by who has found it. */
  constructor(
    options: Pick<QemuProcessOptions, 'env' | 'directory' | 'agentPort'>,
    process: StartedProgram,
    exit: Promise<CommandExit>,
    sockets: MachineSockets,
    qmp: Qmp,
    console: ByteStream,
    nics: readonly ByteStream[],
    clean: () => Promise<void>,
  ) {
    this.#files = options.env.files
    this.#directory = options.directory
    this.#process = process
    this.#exit = exit
    this.sockets = sockets
    this.qmp = qmp
    this.console = console
    this.nics = nics
    this.dialAgent = options.agentPort ? () => sockets.dial(AGENT_SOCKET) : null
    this.gone = exit.then(clean)
  }

  /** A QEMU that answers, its guest not begun. Rejects with `qemu-failed`, which has QEMU's own last words. */
  static async start(options: QemuProcessOptions): Promise<QemuProcess> {
    const { env, vm, directory } = options
    const { files } = env
    const fullDirectory = files.locate(directory)
    await files.makeDirectory(directory)
    const sockets = new MachineSockets(env, directory)
    const exports: DiskExport[] = []
    const clean = () => cleanUp(env, directory, sockets, exports)
    let process: StartedProgram | null = null
    let late = false
    const timer = env.timers.after(START_MS, () => {
      late = true
      process?.kill()
    })
    try {
      for (const [name, bytes] of Object.entries(options.contents))
        await files.writeAtomic(`${directory}/${name}`, bytes)
      for (const [index, device] of options.disks.entries()) {
        const address = sockets.address(diskSocket(index))
        exports.push(await exportDisk(env, { address, name: diskName(index), device }))
      }
      const monitor = await sockets.expect(MONITOR_SOCKET)
      const { program, args } = options
      process = await options.start(
        vm,
        { ...{ program, args, name: `${vm}/qemu`, directory: fullDirectory }, ownUser: MACHINE_USER },
        options.keep,
      )
      const { promise: exit, resolve } = Promise.withResolvers<CommandExit>()
      process.onExit(resolve)
      const failed = exit.then(how => {
        const what = late ? `QEMU has not answered within ${START_MS} ms` : lastWords(how)
        throw new StellwerkError('qemu-failed', what, { where: `vm ${vm}`, hint: 'see its definition' })
      })
      // Both are heard of by the race below, if it is still on.
      failed.catch(() => undefined)
      const opened = monitor.connected.then(stream => Qmp.open(stream, `vm ${vm}`))
      opened.catch(() => undefined) // as above
      // A monitor that closes says less than the exit that follows.
      const said = await Promise.race([opened, failed]).catch(async (error: unknown) => {
        throw errorCode(error) === 'qmp-closed' ? await failed : error
      })
      const { console, nics } = await Promise.race([dialDevices(sockets, options.nics), failed])
      if (!options.incoming) await env.files.seal(directory)
      return new QemuProcess(options, process, exit, sockets, said, console, nics, clean)
    } catch (error) {
      process?.kill()
      await clean()
      throw error
    } finally {
      timer.cancel()
    }
  }

  /**
   * QEMU has made all that it makes in its directory. To be called before a guest or a stream has had any influence on it: who has
   * taken QEMU over can't put anything in the place of a socket that the agent dials.
   */
  seal(): Promise<void> {
    return this.#files.seal(this.#directory)
  }

  onExit(f: (exit: CommandExit) => void): void {
    void this.#exit.then(f)
  }

  kill(): void {
    this.#process.kill()
  }
}

export type LeftQemuOptions = Pick<QemuProcessOptions, 'env' | 'vm' | 'directory' | 'disks' | 'nics' | 'agentPort'>

/** A QEMU whose agent has died: its disks are where it looks for them, at once. */
export class LeftQemu {
  /** Resolves when the process was reaped, and everything that served it is gone. */
  readonly gone: Promise<void>
  readonly #options: LeftQemuOptions
  readonly #process: StartedProgram
  readonly #exit: Promise<CommandExit>
  readonly #sockets: MachineSockets
  readonly #exports: DiskExport[] = []
  readonly #served: Promise<void>

  constructor(options: LeftQemuOptions, process: StartedProgram) {
    const { env, directory } = options
    this.#options = options
    this.#process = process
    this.#sockets = new MachineSockets(env, directory)
    this.#exit = new Promise(resolve => process.onExit(resolve))
    this.#served = this.#serve()
    const clean = () => cleanUp(env, directory, this.#sockets, this.#exports)
    this.gone = this.#exit.then(async () => {
      // Told to who takes it over.
      await this.#served.catch(() => undefined)
      await clean()
    })
    // Told to who takes it over.
    this.#served.catch(() => undefined)
  }

  async #serve(): Promise<void> {
    const { env, directory, disks } = this.#options
    for (const [index, device] of disks.entries()) {
      const address = this.#sockets.address(diskSocket(index))
      this.#exports.push(await exportDisk(env, { address, name: diskName(index), device }))
      await env.files.handOver(`${directory}/${diskSocket(index)}`)
    }
  }

  /** Rejects with `qemu-failed` when it ends meanwhile, and when it can't be spoken to. */
  async connect(): Promise<QemuProcess> {
    const { vm } = this.#options
    const ended = this.#exit.then(exit => {
      throw new StellwerkError('qemu-failed', lastWords(exit), { where: `vm ${vm}` })
    })
    ended.catch(() => undefined) // heard of by the race below, if it is still on
    return Promise.race([this.#connect(), ended])
  }

  async #connect(): Promise<QemuProcess> {
    await this.#served
    const sockets = this.#sockets
    const qmp = await Qmp.open(await sockets.dial(ADOPTION_SOCKET), `vm ${this.#options.vm}`)
    const { console, nics } = await dialDevices(sockets, this.#options.nics)
    return new QemuProcess(this.#options, this.#process, this.#exit, sockets, qmp, console, nics, () => this.gone)
  }

  kill(): void {
    this.#process.kill()
  }
}

async function cleanUp(
  env: Environment,
  directory: string,
  sockets: MachineSockets,
  exports: readonly DiskExport[],
): Promise<void> {
  await Promise.all(exports.map(each => each.close('the machine has ended')))
  await sockets.close()
  await removeDirectory(env, directory)
}

async function dialDevices(
  sockets: MachineSockets,
  count: number,
): Promise<{ readonly console: ByteStream; readonly nics: readonly ByteStream[] }> {
  const console = await sockets.dial(CONSOLE_SOCKET)
  const nics: ByteStream[] = []
  for (let index = 0; index < count; index += 1) nics.push(await sockets.dial(nicSocket(index)))
  return { console, nics }
}

/** What machines that have ended with an earlier agent have left; `but`: directories in use. */
export async function removeMachines(
  env: Environment,
  root = MACHINES,
  but: ReadonlySet<string> = new Set(),
): Promise<void> {
  for (const name of await env.files.list(root)) {
    const directory = `${root}/${name}`
    if (!but.has(directory)) await removeDirectory(env, directory)
  }
}

export async function removeDirectory({ files, log }: Environment, directory: string): Promise<void> {
  try {
    const names = await files.list(directory)
    for (const name of names) await files.remove(`${directory}/${name}`)
    await files.remove(directory)
  } catch (error) {
    log.warn({ directory, code: errorCode(error) }, 'what is left of a machine was not removed')
  }
}

export function lastWords({ code, signal, errors }: CommandExit): string {
  const how = signal === null ? `with status ${code}` : `by ${signal}`
  const words = errors.trim().split('\n').at(-1) ?? ''
  return `QEMU ended ${how}${words === '' ? '' : `: ${words}`}`
}
