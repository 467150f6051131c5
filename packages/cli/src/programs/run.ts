// Runs a program of the cluster by its name in this process, which was spawned for it: says when it is ready or why it can't
// be, and ends it in order when it is told to, or at once when its parent is gone.

import type { AgentConfig } from '@stellwerk/agent/agent-config.ts'
import type { GuardianConfig } from '@stellwerk/agent/guardian/guardian.ts'
import type { Environment, Json, ProcessSpec } from '@stellwerk/runtime/environment.ts'
import { describeError, StellwerkError, tellError } from '@stellwerk/runtime/errors.ts'
import { parentOfThisProcess } from '@stellwerk/runtime/node/parent-pipe.ts'
import type { StorageConfig } from '@stellwerk/storage/server.ts'
import type { CoordinatorProgram } from './coordinator.ts'
import { type Launch, type OpenedProcess, openProcess } from './process.ts'
import type { Running, ToChild, ToParent } from './running.ts'

/** What a storage holds beside its state, in its directory: LUNs, which only the state can name. */
export const STORAGE_FILES = 'luns'

export async function runProgram(spec: ProcessSpec): Promise<void> {
  const launch = spec.config as unknown as Launch
  const parent = parentOfThisProcess()
  const tell = (message: ToParent) => parent?.send(message as unknown as Json)
  let opened: OpenedProcess | null = null
  try {
    opened = openProcess(spec.name, launch, spec.program === 'storage' ? STORAGE_FILES : undefined)
    const running = await start(spec, opened, launch.config)
    if (running !== null) keep(opened, running)
    // An agent's pipe is its guardian's, who needs no such word.
    if (spec.program !== 'agent') tell({ kind: 'ready', info: running?.info ?? null })
  } catch (error) {
    process.stderr.write(`${spec.name}: ${describeError(error)}\n`)
    opened?.env.log.error({ code: tellError(error).code }, `can't start: ${describeError(error)}`)
    tell({ kind: 'failed', error: tellError(error) })
    process.exit(1)
  }
}

/**
 * Null: it keeps itself (guardians and agents end by rules of their own). Only what is run is imported, for the sake of those
 * who wait for a process to start.
 */
async function start(spec: ProcessSpec, opened: OpenedProcess, config: Json): Promise<Running | null> {
  const { env } = opened
  switch (spec.program) {
    case 'coordinator': {
      const { runCoordinator } = await import('./coordinator.ts')
      return runCoordinator(opened, config as unknown as CoordinatorProgram)
    }
    case 'storage':
      return runStorage(env, config as unknown as StorageConfig)
    case 'guardian': {
      const { startGuardian } = await import('@stellwerk/agent/guardian/guardian.ts')
      await startGuardian(env, config as unknown as GuardianConfig, error => {
        process.stderr.write(`${spec.name}: ${describeError(error)}\n`)
        env.log.error({ code: error.code }, `refused by the coordinator: ${describeError(error)}`)
        process.exit(1)
      })
      return null
    }
    case 'agent': {
      const { startAgent } = await import('@stellwerk/agent/agent.ts')
      await startAgent(env, config as unknown as AgentConfig)
      return null
    }
    default:
      throw new StellwerkError('unknown-program', `there is no program "${spec.program}"`)
  }
}

export async function runStorage(env: Environment, config: StorageConfig): Promise<Running> {
  const { startStorage } = await import('@stellwerk/storage/server.ts')
  const storage = await startStorage(env, config)
  return {
    info: { portals: storage.portals as unknown as Json, control: storage.control as unknown as Json },
    stop: () => storage.close(),
  }
}

/** Ends what runs when the operator or the parent says so. */
export function keep(opened: OpenedProcess, running: Running): void {
  const { env } = opened
  let ending = false
  const end = () => {
    if (ending) return
    ending = true
    running
      .stop()
      .then(() => opened.close())
      .then(
        () => process.exit(0),
        (error: unknown) => {
          env.log.error({ code: tellError(error).code }, `could not stop in order: ${describeError(error)}`)
          process.exit(1)
        },
      )
  }
  env.processes.onStop(end)
  env.processes.parent?.onMessage(message => {
    const said = message as unknown as ToChild
    if (said.kind === 'stop') end()
    else running.onMessage?.(said)
  })
  // Crash-only: with nobody to tell it to, it ends as it is.
  env.processes.parent?.onGone(() => process.exit(1))
}
