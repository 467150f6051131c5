// The guardian of a host: parent of its agent. It counts the agent's incarnations durably, kills what runs past its
// deadline, and attests, once it has reaped the agent, that nothing of it is left. It decides nothing else.

import '@stellwerk/protocol/messages/all.ts'
import { clusterFamily } from '@stellwerk/protocol/messages/cluster.ts'
import { PersistentSession } from '@stellwerk/protocol/persistent-session.ts'
import type { Identity } from '@stellwerk/protocol/session.ts'
import type { Address, Child, Environment, Json, Timer } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage, type StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { AgentConfig } from '../agent-config.ts'
import { JUDGEMENT_DELAY_MS, judgeDeadlines } from './deadlines.ts'
import { finalRefusal } from './final-refusals.ts'
import { type AgentFailed, asToGuardian, type MachineDeadline, type ToAgent } from './pipe.ts'
import { GuardedPrograms } from './programs.ts'

export interface GuardianConfig {
  readonly cluster: string
  readonly token: string
  readonly host: string
  readonly coordinator: Address
  readonly agent: Omit<AgentConfig, 'incarnation' | 'guardian' | 'cluster' | 'token' | 'host' | 'coordinator'>
  /** Start the agent again when it has died. */
  readonly supervise: boolean
}

/** An attestation is repeated until the coordinator has taken it. */
const ATTEST_RETRY_MS = 100
const ATTEST_DEADLINE_MS = 1_000
/** After a stop was asked for, the agent gets this long for its guests. */
const STOP_MS = 15_000
const RESTART_MS = 500

export interface Guardian {
  /** Starts the agent unless it runs. */
  startAgent(): void
  stop(): Promise<void>
}

/**
 * `onRefused`: the coordinator's first word was a refusal that will not pass by itself; called at most once. Without it, and
 * once a session has stood, refusals are only retried: what runs here is not to end because of a coordinator's mistake.
 * `beforeStop`: what is waited for when the process is told to end, while its guests still run.
 */
export async function startGuardian(
  env: Environment,
  config: GuardianConfig,
  onRefused?: (error: StellwerkError) => void,
  beforeStop: () => Promise<void> = () => Promise.resolve(),
): Promise<Guardian> {
  const killed = await env.processes.killLeftovers()
  if (killed.length > 0) env.log.warn({ pids: killed }, 'killed what the last guardian had left running')
  const guardian = new HostGuardian(env, config, onRefused ?? null)
  guardian.startAgent()
  env.processes.parent?.onMessage(message => {
    const kind = (message as { kind?: string } | null)?.kind
    if (kind === 'start-agent') guardian.startAgent()
    else if (kind === 'stop') stopAndExit(env, guardian)
  })
  env.processes.parent?.onGone(() => guardian.killAndExit())
  let stopping = false
  env.processes.onStop(() => {
    if (stopping) return
    stopping = true
    void beforeStop().finally(() => stopAndExit(env, guardian))
  })
  return guardian
}

function stopAndExit(env: Environment, guardian: HostGuardian): void {
  guardian.stop().then(
    () => env.processes.exit(0),
    (error: unknown) => {
      env.log.error({ code: errorCode(error) }, `could not stop in order: ${errorMessage(error)}`)
      guardian.killAndExit()
    },
  )
}

function takeId(env: Environment): string {
  const known = env.store.get('id')
  if (typeof known === 'string') return known
  const id = env.random.fork('guardian-id').id()
  env.store.commit([{ put: 'id', value: id }])
  return id
}

class HostGuardian implements Guardian {
  readonly #env: Environment
  readonly #config: GuardianConfig
  readonly #incarnation: number
  /** Of this state directory, made once: by it the coordinator tells two machines of one name apart. */
  readonly #id: string
  readonly #session: PersistentSession
  readonly #programs: GuardedPrograms
  #child: { readonly process: Child; readonly incarnation: number } | null = null
  #machines: readonly MachineDeadline[] = []
  #judgeTimer: Timer | null = null
  /** Found past their deadline at the last look: killed if they still are at the next. */
  #warned = false
  #stopping = false
  #onReaped: (() => void) | null = null
  /** The newest incarnation known to be dead and not yet taken note of by the coordinator. */
  #toAttest: number | null = null
  #attesting = false

  constructor(env: Environment, config: GuardianConfig, onRefused: ((error: StellwerkError) => void) | null) {
    this.#env = env
    this.#config = config
    this.#incarnation = this.#next('guardian')
    this.#id = takeId(env)
    this.#programs = new GuardedPrograms(env)
    const identity: Identity = {
      cluster: config.cluster,
      node: config.host,
      role: 'guardian',
      incarnation: this.#incarnation,
      guardian: this.#id,
      credential: config.token,
    }
    let tellRefused = onRefused
    this.#session = new PersistentSession({
      env,
      address: () => config.coordinator,
      class: 'control',
      identity,
      onUp: () => {
        tellRefused = null
        this.#attest()
      },
      onFailed: error => {
        const refused = finalRefusal(error)
        if (refused === null) return
        tellRefused?.(refused)
        tellRefused = null
      },
    })
    this.#session.start()
    // Whatever an earlier guardian had started died with it or was just killed.
    const last = env.store.get('incarnation/agent')
    if (typeof last === 'number') {
      this.#toAttest = last
      this.#tellDead(last)
    }
  }

  /** Durable before it is used. */
  #next(what: string): number {
    const key = `incarnation/${what}`
    const last = this.#env.store.get(key)
    const next = (typeof last === 'number' ? last : 0) + 1
    this.#env.store.commit([{ put: key, value: next }])
    return next
  }

  startAgent(): void {
    if (this.#child !== null || this.#stopping) return
    const { cluster, token, host, coordinator, agent } = this.#config
    const incarnation = this.#next('agent')
    const config: AgentConfig = { ...agent, cluster, token, host, coordinator, incarnation, guardian: this.#id }
    const process = this.#env.processes.spawn({
      program: 'agent',
      name: `${host}/agent`,
      config: config as unknown as Json,
    })
    this.#child = { process, incarnation }
    this.#machines = []
    process.onMessage(message => this.#hear(process, message))
    process.onExit(exit => this.#reaped(process, incarnation, exit))
    this.#env.log.info({ pid: process.pid, incarnation }, 'started the agent')
  }

  #hear(process: Child, message: Json): void {
    if (this.#child?.process !== process) return
    const said = asToGuardian(message)
    if (said.kind === 'failed') {
      const failed: AgentFailed = { kind: 'agent-failed', error: said.error }
      this.#env.processes.parent?.send(failed as unknown as Json)
      return
    }
    if (said.kind !== 'deadlines') {
      this.#programs.obey(said, answer => process.send(answer as unknown as Json))
      return
    }
    this.#machines = said.machines
    this.#programs.keepOnly(new Set(said.machines.map(({ vm }) => vm)))
    process.send({ kind: 'acknowledged', seq: said.seq } satisfies ToAgent)
    this.#judge(false)
  }

  /** `due`: its time has come; otherwise there is news. */
  #judge(due: boolean): void {
    if (this.#warned && !due && this.#judgeTimer !== null) return
    this.#judgeTimer?.cancel()
    this.#judgeTimer = null
    const now = this.#env.clock.now()
    const { overdue, nextAt } = judgeDeadlines(
      this.#machines.filter(({ vm }) => !this.#programs.hasEnded(vm)),
      now,
    )
    if (overdue.length === 0) this.#warned = false
    else if (!this.#warned || !due) {
      // After a pause what the agent has said meanwhile still waits in the pipe: it is read before a second look kills.
      this.#warned = true
      this.#judgeTimer = this.#env.timers.after(JUDGEMENT_DELAY_MS, () => this.#judge(true))
      return
    }
    if (overdue.length > 0 && this.#child !== null) {
      // Embedded guests live in the agent's own process: it goes with them, and with it all others.
      const own = overdue.every(({ vm }) => this.#programs.runs(vm))
      this.#env.log.error(
        { machines: overdue.map(m => m.vm) },
        `past their deadline: killing ${own ? 'them' : 'the agent'}`,
      )
      this.#env.trace.emit({
        level: 'decision',
        kind: 'guardian.kill',
        host: this.#config.host,
        body: { machines: overdue.map(m => m.vm) },
      })
      if (!own) {
        this.#child.process.kill()
        this.#machines = []
        return
      }
      for (const { vm } of overdue) this.#programs.killOf(vm)
      this.#machines = this.#machines.filter(machine => !overdue.includes(machine))
      this.#warned = false
    }
    if (nextAt !== null) this.#judgeTimer = this.#env.timers.after(nextAt - now, () => this.#judge(true))
  }

  #reaped(process: Child, incarnation: number, exit: { code: number | null; signal: string | null }): void {
    if (this.#child?.process !== process) return
    this.#machines = []
    // Until nothing of it is left it counts as here: its successor's first word attests its end as well as ours does.
    this.#programs.killAll(() => this.#gone(incarnation, exit))
  }

  #gone(incarnation: number, exit: { code: number | null; signal: string | null }): void {
    this.#child = null
    this.#env.log.warn({ incarnation, ...exit }, 'the agent is gone')
    this.#tellDead(incarnation)
    this.#toAttest = incarnation
    this.#attest()
    this.#onReaped?.()
    if (this.#config.supervise && !this.#stopping) this.#env.timers.after(RESTART_MS, () => this.startAgent())
  }

  /** On record before it is attested: whoever judges the attestation finds the truth behind it. */
  #tellDead(incarnation: number): void {
    this.#env.trace.emit({
      level: 'decision',
      kind: 'process.dead',
      host: this.#config.host,
      body: { process: `${this.#config.host}/agent`, incarnation },
    })
  }

  #attest(): void {
    const incarnation = this.#toAttest
    if (incarnation === null || this.#attesting || this.#session.session === null) return
    this.#attesting = true
    const { host } = this.#config
    const body = { host, guardian: this.#id, incarnation }
    clusterFamily
      .request(this.#session, 'guardian.attest', body, ATTEST_DEADLINE_MS, {
        from: `${host}/guardian`,
        to: 'coordinator/decider',
      })
      .then(
        () => {
          this.#attesting = false
          if (this.#toAttest === incarnation) this.#toAttest = null
          this.#attest()
        },
        (error: unknown) => {
          this.#attesting = false
          this.#env.log.debug({ code: errorCode(error) }, `the attestation was not taken: ${errorMessage(error)}`)
          this.#env.timers.after(ATTEST_RETRY_MS, () => this.#attest())
        },
      )
  }

  /** The agent stops its guests; what it does not manage in time is killed. */
  async stop(): Promise<void> {
    this.#stopping = true
    const child = this.#child
    if (child !== null) {
      await new Promise<void>(resolve => {
        const timer = this.#env.timers.after(STOP_MS, () => child.process.kill())
        this.#onReaped = () => {
          timer.cancel()
          resolve()
        }
        child.process.send({ kind: 'stop' } satisfies ToAgent)
      })
    }
    this.#session.stop()
    this.#judgeTimer?.cancel()
  }

  killAndExit(): void {
    this.#stopping = true
    this.#child?.process.kill()
    this.#env.processes.exit(1)
  }
}
