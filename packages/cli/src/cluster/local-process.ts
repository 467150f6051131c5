// One process of a local cluster, seen from `up`: started, ready, told to end, gone.

import type { Child, Environment, Json } from '@stellwerk/runtime/environment.ts'
import { asError, StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { Launch } from '../programs/process.ts'
import type { ToChild, ToParent } from '../programs/running.ts'

const READY_MS = 60_000

export interface Ended {
  readonly code: number | null
  readonly signal: string | null
}

export class LocalProcess {
  readonly name: string
  readonly pid: number
  /** Rejects with why it could not start. */
  readonly ready: Promise<void>
  readonly ended: Promise<Ended>
  isEnded = false
  isStopping = false
  /** Of a guardian: why its agent could not start when it last tried. */
  agentFailure: StellwerkError | null = null
  readonly #child: Child

  constructor(
    env: Environment,
    program: string,
    name: string,
    launch: Launch,
    onMessage: (message: Extract<ToParent, { kind: 'add-host' }>) => void,
  ) {
    this.name = name
    const child = env.processes.spawn({ program, name, config: launch as unknown as Json })
    this.#child = child
    this.pid = child.pid
    const ready = Promise.withResolvers<void>()
    const ended = Promise.withResolvers<Ended>()
    this.ready = ready.promise
    this.ended = ended.promise
    // Whoever does not wait for it hears of it by its end.
    ready.promise.catch(() => undefined)
    const timer = env.timers.after(READY_MS, () =>
      ready.reject(
        new StellwerkError('start-timeout', `${name} was not ready within ${READY_MS / 1000} s`, { where: name }),
      ),
    )
    child.onMessage(message => {
      const said = message as unknown as ToParent
      if (said.kind === 'add-host') onMessage(said)
      if (said.kind === 'agent-failed') this.agentFailure = asError(said.error)
      if (said.kind === 'ready') ready.resolve()
      if (said.kind === 'failed') ready.reject(asError(said.error))
    })
    child.onExit(exit => {
      this.isEnded = true
      timer.cancel()
      const how = exit.signal === null ? `with code ${exit.code}` : `by ${exit.signal}`
      ready.reject(
        new StellwerkError('process-ended', `${name} ended ${how} before it was ready`, {
          where: name,
          hint: 'see its log and output in the cluster’s directory',
        }),
      )
      ended.resolve(exit)
    })
    ready.promise.then(
      () => timer.cancel(),
      () => timer.cancel(),
    )
  }

  send(message: ToChild | { readonly kind: 'start-agent' }): void {
    if (message.kind === 'start-agent') this.agentFailure = null
    this.#child.send(message as unknown as Json)
  }

  /** In order, or after `timeoutMs` by force. Resolves when it is gone. */
  async stop(env: Environment, timeoutMs: number): Promise<void> {
    if (this.isEnded) return
    this.isStopping = true
    const timer = env.timers.after(timeoutMs, () => {
      env.log.warn({ name: this.name }, 'it did not end in time and is killed')
      this.#child.kill()
    })
    this.send({ kind: 'stop' })
    await this.ended
    timer.cancel()
  }

  kill(): void {
    this.#child.kill()
  }
}
