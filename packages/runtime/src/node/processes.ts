// Processes of the real environment: children of this machine, each in a session of its own (the terminal's Ctrl-C is the
// parent's to handle), tied to this process by a pipe whose end they take for their own.

import { spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { assert } from '../assert.ts'
import type { CommandSpec, Logger, Processes, ProcessSpec } from '../environment.ts'
import { errorCode, errorMessage, StellwerkError } from '../errors.ts'
import { NodeChild } from './child.ts'
import { type NodeCommand, startCommand } from './command.ts'
import { CHILD_MARK, parentOfThisProcess } from './parent-pipe.ts'
import { identifyProcess, isStillRunning, type RecordedProcess, readPidRecord, writePidRecord } from './pid-record.ts'

const CHILDREN_MAX = 256
/** A process that SIGKILL has not ended by then hangs in the kernel. */
const KILL_WAIT_MS = 10_000
const KILL_POLL_MS = 10
const RECORD_FILE = 'children.json'
const GONE = { bootId: '', startTicks: 0 }
const STOP_SIGNALS = ['SIGTERM', 'SIGINT'] as const

export interface ProcessesOptions {
  readonly directory: string
  /** The file a child runs: it awaits `receiveSpec()` and starts the program named there. */
  readonly entry: URL | null
  /** Where children's stdout and stderr are appended, a file each; absent: they share this process's. */
  readonly outputDirectory?: string
  readonly log: Logger
}

export interface NodeProcesses extends Processes {
  /** Ends the children, waits until they are gone, and gives the process's signals back. */
  close(): Promise<void>
}

export function createProcesses(options: ProcessesOptions): NodeProcesses {
  const recordFile = join(options.directory, RECORD_FILE)
  /** Of the predecessor, until killLeftovers() has ended them: kept in the record, so that a crash in between loses none. */
  let leftovers = readPidRecord(recordFile)
  const children = new Map<number, { readonly child: NodeChild | NodeCommand; readonly recorded: RecordedProcess }>()
  const save = () =>
    writePidRecord(recordFile, [...leftovers, ...[...children.values()].map(({ recorded }) => recorded)])
  /** For what has ended: if it stays in the record, no other process will have its pid, boot and start. */
  const saveWhenPossible = () => {
    try {
      save()
    } catch (error) {
      const why = errorMessage(error)
      options.log.error(
        { code: errorCode(error), file: recordFile, why },
        'the record still names a process that has ended',
      )
    }
  }
  /** In the record as long as it runs. */
  const keep = <C extends NodeChild | NodeCommand>(
    child: C,
    { program, name }: { program: string; name: string },
  ): C => {
    children.set(child.pid, {
      child,
      // One that is gone already has no identity and needs none.
      recorded: { pid: child.pid, ...(identifyProcess(child.pid) ?? GONE), program, name },
    })
    child.onEnd(() => {
      children.delete(child.pid)
      saveWhenPossible()
      if (children.size === 0) closing?.()
    })
    try {
      save()
    } catch (error) {
      child.kill()
      throw error
    }
    return child
  }
  let closing: (() => void) | null = null
  const stop = stopSignals()

  return {
    parent: parentOfThisProcess(),

    spawn(spec) {
      assert(children.size < CHILDREN_MAX, 'a process has a bounded number of children')
      const child = keep(start(spec, options), spec)
      // Only now, with its pid on disk, does the child learn what to do.
      child.post({ spec })
      return child
    },

    command(spec: CommandSpec) {
      assert(children.size < CHILDREN_MAX, 'a process has a bounded number of children')
      return keep(startCommand(spec, options.log), spec)
    },

    async killLeftovers() {
      const running = leftovers.filter(isStillRunning)
      for (const process of running) {
        options.log.warn({ ...process }, 'ending a process that outlived its parent')
        kill(process.pid)
      }
      await Promise.all(running.map(gone))
      leftovers = []
      saveWhenPossible()
      return running.map(({ pid }) => pid)
    },

    exit: code => process.exit(code),
    onStop: f => stop.on(f),
    async close() {
      stop.close()
      if (children.size === 0) return
      const { promise, resolve } = Promise.withResolvers<void>()
      closing = resolve
      for (const { child } of children.values()) child.kill()
      await promise
    },
  }
}

function start(spec: ProcessSpec, options: ProcessesOptions): NodeChild {
  assert(options.entry !== null, 'who spawns names the entry file in createEnvironment')
  const output = openOutput(spec.name, options.outputDirectory)
  try {
    const child = spawn(process.execPath, [fileURLToPath(options.entry), spec.program, spec.name], {
      detached: true,
      stdio: ['ignore', output, output, 'ipc'],
      env: { ...process.env, [CHILD_MARK]: '1' },
    })
    if (child.pid !== undefined) return new NodeChild(spec.name, child.pid, child)
    child.on('error', error => options.log.error({ code: errorCode(error), name: spec.name }, 'a child did not start'))
    throw new StellwerkError('spawn-failed', 'the system did not start the process', {
      where: spec.name,
      retryable: true,
      hint: "see this machine's limits for processes and memory",
    })
  } finally {
    if (typeof output === 'number') closeSync(output)
  }
}

function openOutput(name: string, directory: string | undefined): number | 'inherit' {
  if (directory === undefined) return 'inherit'
  mkdirSync(directory, { recursive: true })
  return openSync(join(directory, `${name.replaceAll('/', '-')}.out`), 'a', 0o600)
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    // It ended by itself in between.
    if (errorCode(error) !== 'ESRCH') throw error
  }
}

async function gone(process: RecordedProcess): Promise<void> {
  for (let waited = 0; isStillRunning(process); waited += KILL_POLL_MS) {
    if (waited >= KILL_WAIT_MS) {
      throw new StellwerkError('leftover-stuck', `process ${process.pid} of a predecessor does not end`, {
        where: process.name,
        hint: 'it hangs in the kernel, most likely in a file operation: restart the machine',
      })
    }
    await sleep(KILL_POLL_MS)
  }
}

/** SIGTERM and SIGINT, told once; those that follow are ignored (a terminal and npm both send one). */
function stopSignals() {
  let listener: (() => void) | null = null
  let told = false
  const handle = () => {
    if (told) return
    told = true
    listener?.()
  }
  return {
    on(f: () => void) {
      // Only from here on: until somebody handles it, a signal ends the process as usual.
      if (listener === null) for (const signal of STOP_SIGNALS) process.on(signal, handle)
      listener = f
    },
    close() {
      for (const signal of STOP_SIGNALS) process.off(signal, handle)
    },
  }
}
