// A cluster that `up` runs on this machine, for those who break it and put it right from outside: known by its directory, and
// started again by its `up`.

import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { createEnvironment, type NodeEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { ApiClient } from '../../api-client/client.ts'
import { API_TOKEN_FILE } from '../../cluster/cluster-file.ts'
import { clusterIn, tokenIn } from '../../cluster/directory.ts'
import { wishStarted } from '../../cluster/start-wish.ts'
import { lookAtUp } from '../../cluster/up-record.ts'
import { RESTART_SIGNAL } from '../../programs/up.ts'
import { Breaker } from './breaker.ts'
import { hostProcesses, ofUp } from './node-processes.ts'

const STARTS_MS = 60_000
const POLL_MS = 50

export interface RunningCluster {
  readonly breaker: Breaker
  readonly env: NodeEnvironment
  /** `up` runs: what has ended can be started again. */
  readonly isUp: boolean
}

/** Throws `no-cluster`; `run-under-way` where a run has the cluster in hand. The environment is the caller's to close. */
export async function openRunning(directory: string): Promise<RunningCluster> {
  const file = await clusterIn(directory)
  const token = await tokenIn(directory, API_TOKEN_FILE)
  const api = new ApiClient({ host: file.address, port: file.coordinator.apiPort, token })
  const env = createEnvironment({ name: 'chaos', directory, store: memoryStore(), logLevel: 'silent' })
  const isUp = (await lookAtUp(directory)) !== null
  if (!isUp) await refuseUnderWay(env, directory)
  const sleep = (ms: number) => new Promise<void>(resolve => env.timers.after(ms, resolve))
  const start = async (nodes: readonly string[]) => {
    const up = await lookAtUp(directory)
    // Its next start starts all of it.
    if (up === null) return
    await wishStarted(env.files, nodes, env.random.id())
    process.kill(up.pid, RESTART_SIGNAL)
    for (const until = env.clock.now() + STARTS_MS; !nodes.every(node => runs(directory, node)); await sleep(POLL_MS)) {
      if (env.clock.now() < until) continue
      const missing = nodes.filter(node => !runs(directory, node))
      throw new StellwerkError('not-started', `${missing.join(', ')} did not come back within ${STARTS_MS / 1_000} s`, {
        where: directory,
        hint: 'see the logs',
      })
    }
  }
  const breaker = new Breaker({
    directory,
    files: env.files,
    clock: env.clock,
    sleep,
    cluster: () => file,
    api: () => api,
    start,
  })
  return { breaker, env, isUp }
}

function runs(directory: string, node: string): boolean {
  if (ofUp(directory, node).length > 0) return true
  const { guardian, agent } = hostProcesses(directory, node)
  return guardian.length > 0 && agent.length > 0
}

async function refuseUnderWay(env: NodeEnvironment, directory: string): Promise<void> {
  try {
    const lock = await env.files.lock('lock')
    lock.release()
  } catch (error) {
    await env.close()
    if (errorCode(error) !== 'locked') throw error
    throw new StellwerkError('run-under-way', 'a run has that cluster in hand, and heals what it breaks itself', {
      where: directory,
      hint: 'end it with Ctrl-C',
    })
  }
}
