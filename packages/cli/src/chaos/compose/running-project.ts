// A compose project that others run, for those who break it and put it right from outside: known by its name.

import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { createEnvironment, type NodeEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
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
  const env = createEnvironment({ name: 'chaos', directory, store: memoryStore(), logLevel: 'silent' })
  try {
    await refuseUnderWay(env, directory)
    const docker = await Docker.find(env)
    const breaker = await ComposeBreaker.open({
      docker,
      project,
      hasNetem: await hasNetem(docker),
      files: env.files,
      clock: env.clock,
      sleep: ms => new Promise(resolve => env.timers.after(ms, resolve)),
    })
    return { breaker, env }
  } catch (error) {
    await env.close()
    throw error
  }
}

async function refuseUnderWay(env: NodeEnvironment, directory: string): Promise<void> {
  try {
    const lock = await env.files.lock(RUN_LOCK)
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
