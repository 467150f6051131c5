// A compose project that others run, for those who break it and put it right from outside: known by its name.

import type { Files } from '@stellwerk/runtime/environment.ts'
import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { createEnvironment, type NodeEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { makeScratchDirectory, removeScratchDirectory } from '@stellwerk/runtime/node/scratch-directory.ts'
import { filesOf } from '../../cluster/directory.ts'
import { ComposeBreaker } from './compose-breaker.ts'
import { COMPOSE_FILE, Docker, hasNetem } from './docker.ts'

/** Held by a run for as long as it has the project in hand. */
export const RUN_LOCK = 'lock'

export interface RunningProject {
  readonly breaker: ComposeBreaker
  readonly env: NodeEnvironment
}

/** `directory`: of the journal. Throws `no-docker`, `no-project`, `run-under-way`. The environment is the caller's to close. */
export async function openProject(directory: string, project: string): Promise<RunningProject> {
  if (!/^[A-Za-z0-9][A-Za-z0-9_-]*$/.test(project)) {
    throw new StellwerkError('bad-name', `"${project}" is no name of a compose project`, { where: '--compose' })
  }
  // The engine's children are on record there: the journal's directory is made when something is broken, not by who only looks.
  const scratch = await makeScratchDirectory('stellwerk-engine-')
  const inner = createEnvironment({ name: 'chaos', directory: scratch, store: memoryStore(), logLevel: 'silent' })
  const env: NodeEnvironment = {
    ...inner,
    close: async () => {
      await inner.close()
      await removeScratchDirectory(scratch)
    },
  }
  const files = filesOf(directory)
  try {
    await refuseUnderWay(files, directory)
    const docker = await Docker.find(env)
    const breaker = await ComposeBreaker.open({
      docker,
      project,
      hasNetem: await hasNetem(docker),
      files,
      clock: env.clock,
      sleep: ms => new Promise(resolve => env.timers.after(ms, resolve)),
    })
    return { breaker, env }
  } catch (error) {
    await env.close()
    throw error
  }
}

async function refuseUnderWay(files: Files, directory: string): Promise<void> {
  if ((await files.list('.')).length === 0) return
  try {
    const lock = await files.lock(RUN_LOCK)
    lock.release()
  } catch (error) {
    if (errorCode(error) !== 'locked') throw error
    throw new StellwerkError('run-under-way', 'a run has that project in hand, and heals what it breaks itself', {
      where: directory,
      hint: 'end it with Ctrl-C',
    })
  }
}

/** The project whose run had that directory; null: it is none of a compose run. */
export async function projectOf(directory: string): Promise<string | null> {
  const bytes = await filesOf(directory).read(COMPOSE_FILE)
  if (bytes === null) return null
  const { project } = JSON.parse(Buffer.from(bytes).toString('utf8')) as { project?: unknown }
  return typeof project === 'string' ? project : null
}
