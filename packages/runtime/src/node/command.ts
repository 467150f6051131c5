// A program of the machine, run as a child. It must not outlive this process, and unlike our own children it does not watch
// a pipe: the kernel is asked to kill it (prctl PR_SET_PDEATHSIG, by util-linux's setpriv, since Node has no call for it).

import { type ChildProcess, spawn } from 'node:child_process'
import { accessSync, constants, statSync } from 'node:fs'
import { delimiter, isAbsolute, join } from 'node:path'
import { COMMAND_OUTPUT_MAX, type Command, type CommandExit, type CommandSpec, type Logger } from '../environment.ts'
import { errorCode, StellwerkError } from '../errors.ts'
import { ownUser } from './own-user.ts'

/** Ends with its parent: see setpriv(1). The signal is the last thing set before the program is executed. */
const TIE = ['--pdeathsig', 'KILL'] as const
/** Where the system's programs are, also for a service that was started with a short PATH. */
const SYSTEM_PATH = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'] as const

export function startCommand(spec: CommandSpec, log: Logger): NodeCommand {
  const setpriv = findProgram('setpriv', spec.name, 'it comes with util-linux, from version 2.33 on')
  const program = findProgram(spec.program, spec.name)
  const { directory, ownUser: wanted } = spec
  const user = wanted === undefined || directory === undefined ? [] : ownUser(directory, wanted, log)
  const child = spawn(setpriv, [...user, ...TIE, '--', program, ...spec.args], {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(directory === undefined ? {} : { cwd: directory }),
  })
  child.on('error', error =>
    log.error({ code: errorCode(error), name: spec.name }, 'a program was not started, or not killed'),
  )
  if (child.pid !== undefined) return new NodeCommand(child.pid, child)
  throw new StellwerkError('spawn-failed', `the system did not start ${spec.program}`, {
    where: spec.name,
    retryable: true,
    hint: "see this machine's limits for processes and memory, and whether the working directory is there",
  })
}

/** The path of what would be run. Throws `no-program`. */
export function findProgram(program: string, where: string, hint = 'install it'): string {
  const directories = [...(process.env['PATH'] ?? '').split(delimiter).filter(isAbsolute), ...SYSTEM_PATH]
  const candidates = isAbsolute(program) ? [program] : directories.map(directory => join(directory, program))
  const found = candidates.find(isExecutable)
  if (found !== undefined) return found
  throw new StellwerkError('no-program', `there is no program '${program}' on this machine`, { where, hint })
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch (error) {
    const code = errorCode(error)
    if (code === 'ENOENT' || code === 'EACCES' || code === 'ENOTDIR') return false
    throw error
  }
}

export class NodeCommand implements Command {
  readonly pid: number
  readonly #process: ChildProcess
  #exit: CommandExit | null = null
  #exitListener: ((exit: CommandExit) => void) | null = null
  #endListener: (() => void) | null = null
  #outputListener: (text: string) => void = () => undefined

  constructor(pid: number, process: ChildProcess) {
    this.pid = pid
    this.#process = process
    const output = new Tail()
    const errors = new Tail()
    process.stdout?.on('data', (chunk: Buffer) => {
      output.add(chunk)
      this.#outputListener(chunk.toString('utf8'))
    })
    process.stderr?.on('data', (chunk: Buffer) => errors.add(chunk))
    // Not `exit`: this comes after it was reaped and everything it had said was read.
    process.on('close', (code, signal) => {
      this.#exit = { code, signal, output: output.text, errors: errors.text }
      this.#endListener?.()
      this.#exitListener?.(this.#exit)
    })
  }

  onExit(f: (exit: CommandExit) => void): void {
    this.#exitListener = f
    const exit = this.#exit
    if (exit !== null) queueMicrotask(() => f(exit))
  }

  onOutput(f: (text: string) => void): void {
    this.#outputListener = f
  }

  /** As `onExit`, before it: for the keeper of the record. */
  onEnd(f: () => void): void {
    this.#endListener = f
    if (this.#exit !== null) f()
  }

  kill(): void {
    this.#process.kill('SIGKILL')
  }
}

/** The last of what was said. */
class Tail {
  #chunks: Buffer[] = []
  #bytes = 0

  add(chunk: Buffer): void {
    this.#chunks.push(chunk)
    this.#bytes += chunk.length
    if (this.#bytes < 2 * COMMAND_OUTPUT_MAX) return
    this.#chunks = [Buffer.concat(this.#chunks).subarray(-COMMAND_OUTPUT_MAX)]
    this.#bytes = COMMAND_OUTPUT_MAX
  }

  get text(): string {
    return Buffer.concat(this.#chunks).subarray(-COMMAND_OUTPUT_MAX).toString('utf8')
  }
}
