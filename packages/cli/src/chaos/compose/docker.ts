// The container engine by its command line: one call, its output or one clear error. Whose engine it is, DOCKER_HOST says.

import { join } from 'node:path'
import type { CommandExit, Environment, Timer } from '@stellwerk/runtime/environment.ts'
import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'

const HINT = 'install docker.io and docker-compose, start dockerd, or name another engine by DOCKER_HOST'

/** An engine that hangs must not hold up a heal for ever; a container may take a minute to stop in order. */
const ANSWERS_MS = 120_000
/** An image may have to be made. */
const COMPOSE_MS = 1_800_000
const STOP_POLL_MS = 100

type Engine = Pick<Environment, 'processes' | 'timers'>

/** What compose is called here: a plugin of `docker`, or the older program. */
export type ComposeWords = readonly ['docker', 'compose'] | readonly ['docker-compose']

export class Docker {
  readonly #env: Engine
  readonly compose: ComposeWords

  /** Throws `no-docker`, in one line. */
  static async find(env: Engine): Promise<Docker> {
    const bare = new Docker(env, ['docker', 'compose'])
    try {
      await bare.run('version', '--format', '{{.Server.Version}}')
    } catch (error) {
      if (errorCode(error) === 'no-program') {
        throw new StellwerkError('no-docker', 'there is no docker on this machine', { hint: HINT, cause: error })
      }
      throw new StellwerkError('no-docker', 'no container engine answers', {
        where: process.env['DOCKER_HOST'] ?? 'the default socket',
        hint: HINT,
        cause: error,
      })
    }
    if ((await bare.try('docker', 'compose', 'version')).code === 0) return bare
    try {
      if ((await bare.try('docker-compose', 'version')).code === 0) return new Docker(env, ['docker-compose'])
    } catch (error) {
      if (errorCode(error) !== 'no-program') throw error
    }
    throw new StellwerkError('no-docker', 'docker has no compose, and there is no docker-compose', { hint: HINT })
  }

  private constructor(env: Engine, compose: ComposeWords) {
    this.#env = env
    this.compose = compose
  }

  /** `docker` with these words. Throws `docker-failed` with what it said. */
  run(...words: string[]): Promise<string> {
    return this.must('docker', ...words)
  }

  must(program: string, ...words: string[]): Promise<string> {
    return this.#must(ANSWERS_MS, program, words)
  }

  /** As `must`, with patience: containers are built, started or stopped. Killed, with `interrupted`, once `stop` says so. */
  mustInTime(stop: () => boolean, program: string, ...words: string[]): Promise<string> {
    return this.#must(COMPOSE_MS, program, words, stop)
  }

  async #must(withinMs: number, program: string, words: readonly string[], stop?: () => boolean): Promise<string> {
    const { code, output, errors } = await this.#run(withinMs, program, words, stop)
    if (code === 0) return output
    const said = (errors.trim() === '' ? output : errors).trim().split('\n').at(-1) ?? ''
    throw new StellwerkError('docker-failed', `${program} ${words.slice(0, 3).join(' ')}: ${said}`, { retryable: true })
  }

  /** Throws `no-program`, `docker-silent`. */
  try(program: string, ...words: string[]): Promise<CommandExit> {
    return this.#run(ANSWERS_MS, program, words)
  }

  #run(withinMs: number, program: string, words: readonly string[], stop?: () => boolean): Promise<CommandExit> {
    return new Promise((resolve, reject) => {
      try {
        const command = this.#env.processes.command({ program, name: program, args: words })
        const what = `${program} ${words.slice(0, 3).join(' ')}`
        const timer = this.#env.timers.after(withinMs, () => {
          command.kill()
          const said = `${what} has not ended within ${withinMs / 1_000} s`
          reject(new StellwerkError('docker-silent', said, { hint: 'see whether dockerd answers: docker version' }))
        })
        let look: Timer | null = null
        const lookAgain = (): void => {
          look = this.#env.timers.after(STOP_POLL_MS, () => {
            if (stop?.() !== true) return lookAgain()
            command.kill()
            reject(new StellwerkError('interrupted', `${what} was interrupted`))
          })
        }
        if (stop !== undefined) lookAgain()
        command.onExit(exit => {
          timer.cancel()
          look?.cancel()
          resolve(exit)
        })
      } catch (error) {
        reject(error)
      }
    })
  }
}

/** What the kernel of this machine can do to a container's network devices: delay, loss, limits. */
export async function hasNetem(docker: Docker): Promise<boolean> {
  try {
    const words = ['--net', 'tc', 'qdisc', 'add', 'dev', 'lo', 'root', 'netem', 'delay', '1ms']
    return (await docker.try('unshare', ...words)).code === 0
  } catch (error) {
    if (errorCode(error) === 'no-program') return false
    throw error
  }
}

/** Where a run keeps what it knows of a project, and its journal. */
export const COMPOSE_FILE = join('chaos', 'compose.json')
