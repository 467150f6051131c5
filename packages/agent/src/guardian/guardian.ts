// The guardian of a host: parent of its agent. It counts the agent's incarnations durably, kills what runs past its
// deadline, and attests, once it has reaped the agent, what of it is left: nothing but machines that are processes of their own,
// for the next agent to take over, until their right to run ends. It decides nothing else.

import '@stellwerk/protocol/messages/all.ts'
import { clusterFamily } from '@stellwerk/protocol/messages/cluster.ts'
import { PersistentSession } from '@stellwerk/protocol/persistent-session.ts'
import type { Identity } from '@stellwerk/protocol/session.ts'
import type { Address, Child, Environment, Json, Timer } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage, type StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { AgentConfig } from '../agent-config.ts'
import { JUDGEMENT_DELAY_MS, judgeDeadlines } from './deadlines.ts'
import { finalRefusal } from './final-refusals.ts'
import { type AgentFailed, asToGuardian, type Kept, type MachineDeadline, type Survivor, type ToAgent } from './pipe.ts'
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
/** A machine without an agent is killed so long before its right to run ends: judged late and twice, it has ended by then. */
const LEFT_AHEAD_MS = 3 * JUDGEMENT_DELAY_MS
/** An agent that dies at once is not started again at once. */
const STABLE_MS = 1_000
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
  /** Left by agents that have died, by VM, and not taken over. */
  readonly #left = new Map<string, MachineDeadline>()
  #judgeTimer: Timer | null = null
  /** Found past their deadline at the last look: killed if they still are at the next. */
  #warned = false
  #stopping = false
  /** The agent, last. */
  #startedAt = Number.NEGATIVE_INFINITY
  #onReaped: (() => void) | null = null
  /** The newest incarnation known to be dead; null: none is. */
  #dead: number | null = null
  /** Of that, something is not yet taken note of by the coordinator. */
  #toAttest = false
  #attesting = false

  constructor(env: Environment, config: GuardianConfig, onRefused: ((error: StellwerkError) => void) | null) {
    this.#env = env
    this.#config = config
    this.#incarnation = this.#next('guardian')
    this.#id = takeId(env)
    this.#programs = new GuardedPrograms(env, {
      tell: message => this.#child?.process.send(message as unknown as Json),
      ended: (vm, keep) => this.#machineEnded(vm, keep),
    })
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
      this.#dead = last
      this.#toAttest = true
      this.#tellDead('guardian', this.#incarnation - 1)
      this.#tellDead('agent', last)
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
    const config: AgentConfig = {
      ...{ ...agent, cluster, token, host, coordinator, incarnation, guardian: this.#id },
      ...{ survivors: this.#survivors(), lastProgram: this.#programs.last },
    }
    const process = this.#env.processes.spawn({
      program: 'agent',
      name: `${host}/agent`,
      config: config as unknown as Json,
    })
    this.#child = { process, incarnation }
    this.#startedAt = this.#env.clock.now()
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
      this.#programs.obey(said)
      return
    }
    this.#machines = said.machines
    // These are taken over: from here on their deadlines are the new ones.
    for (const { vm } of said.machines) this.#left.delete(vm)
    this.#programs.keepOnly(new Set([...said.machines.map(({ vm }) => vm), ...this.#left.keys()]))
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
      [...this.#machines, ...[...this.#left.values()].map(ahead)].filter(({ vm }) => !this.#programs.hasEnded(vm)),
      now,
    )
    if (overdue.length === 0) this.#warned = false
    else if (!this.#warned || !due) {
      // After a pause what the agent has said meanwhile still waits in the pipe: it is read before a second look kills.
      this.#warned = true
      this.#judgeTimer = this.#env.timers.after(JUDGEMENT_DELAY_MS, () => this.#judge(true))
      return
    }
    if (overdue.length > 0) {
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
        this.#child?.process.kill()
        this.#machines = this.#machines.filter(machine => !isAmong(overdue, machine))
        return
      }
      for (const { vm } of overdue) this.#programs.killOf(vm)
      this.#machines = this.#machines.filter(machine => !isAmong(overdue, machine))
      for (const machine of overdue) if (this.#left.has(machine.vm)) this.#left.set(machine.vm, standing(machine))
      this.#warned = false
    }
    if (nextAt !== null) this.#judgeTimer = this.#env.timers.after(nextAt - now, () => this.#judge(true))
  }

  #reaped(process: Child, incarnation: number, exit: { code: number | null; signal: string | null }): void {
    if (this.#child?.process !== process) return
    const now = this.#env.clock.now()
    for (const machine of this.#machines)
      if (!this.#stopping && isToStay(machine, now)) this.#left.set(machine.vm, machine)
    this.#machines = []
    for (const vm of this.#left.keys()) if (this.#programs.kept(vm) === null) this.#left.delete(vm)
    // Until nothing else of it is left it counts as here: its successor's first word attests its end as well as ours does.
    this.#programs.killAllBut(new Set(this.#left.keys()), () => this.#gone(incarnation, exit))
    this.#judge(false)
  }

  /** For the agent that is about to be started. */
  #survivors(): Survivor[] {
    return [...this.#left.values()].flatMap(({ vm, epoch, until }) => {
      const kept = this.#programs.kept(vm)
      return kept === null ? [] : [{ vm, epoch, until, ...kept }]
    })
  }

  #machineEnded(vm: string, { instance }: Kept): void {
    this.#env.trace.emit({ level: 'decision', kind: 'machine.reaped', vm, host: this.#config.host, body: { instance } })
    if (!this.#left.delete(vm)) return
    this.#toAttest = true
    this.#attest()
  }

  #gone(incarnation: number, exit: { code: number | null; signal: string | null }): void {
    this.#child = null
    this.#env.log.warn({ incarnation, ...exit }, 'the agent is gone')
    this.#tellDead('agent', incarnation)
    this.#dead = incarnation
    this.#toAttest = true
    this.#attest()
    this.#onReaped?.()
    if (!this.#config.supervise || this.#stopping) return
    // Who is left behind has not much time.
    const hastens = this.#left.size > 0 && this.#env.clock.now() - this.#startedAt > STABLE_MS
    this.#env.timers.after(hastens ? 0 : RESTART_MS, () => this.startAgent())
  }

  /** On record before it is attested: whoever judges the attestation finds the truth behind it. */
  #tellDead(process: 'agent' | 'guardian', incarnation: number): void {
    const { host } = this.#config
    const body = { process: `${host}/${process}`, incarnation }
    this.#env.trace.emit({ level: 'decision', kind: 'process.dead', host, body })
  }

  #attest(): void {
    const incarnation = this.#dead
    if (incarnation === null || !this.#toAttest || this.#attesting || this.#session.session === null) return
    this.#attesting = true
    this.#toAttest = false
    const { host } = this.#config
    const survivors = [...this.#left.keys()].sort()
    const body = { host, guardian: this.#id, incarnation, ...(survivors.length === 0 ? {} : { survivors }) }
    clusterFamily
      .request(this.#session, 'guardian.attest', body, ATTEST_DEADLINE_MS, {
        from: `${host}/guardian`,
        to: 'coordinator/decider',
      })
      .then(
        () => {
          this.#attesting = false
          this.#attest()
        },
        (error: unknown) => {
          this.#attesting = false
          this.#toAttest = true
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

/** It executes by itself, and may for a while. One that stands still is let go on by nobody but its own agent. */
function isToStay({ begun, frozen, until }: MachineDeadline, now: number): boolean {
  return begun && !frozen && until > now
}

function ahead(machine: MachineDeadline): MachineDeadline {
  return { ...machine, until: machine.until - LEFT_AHEAD_MS }
}

function isAmong(machines: readonly MachineDeadline[], { vm }: MachineDeadline): boolean {
  return machines.some(machine => machine.vm === vm)
}

/** It is being killed. */
function standing(machine: MachineDeadline): MachineDeadline {
  return { ...machine, frozen: true }
}
