// One run of a plan on a target: set up, break what the schedule says, heal all of it, let it converge, look at what is left,
// judge. Whatever ends it, what was broken is made whole again.

import { describeError, errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { SimRandom } from '@stellwerk/runtime/sim/random.ts'
import { Courses } from './courses.ts'
import type { Fault, FaultKind } from './fault.ts'
import { type Judgement, judge } from './judge/judge.ts'
import { chosenRules } from './judge/rules.ts'
import { assertWithinLimits, drawSchedule, whereOf } from './plan/draw.ts'
import type { ChaosPlan } from './plan/plan.ts'
import type { ChaosCluster, ChaosTarget } from './target.ts'

export interface RunOptions {
  readonly plan: ChaosPlan
  readonly seed: string
  /** A planted bug. */
  readonly canary?: string
  /** Instead of what the plan and seed draw: a part of it, when a failure is shrunk. */
  readonly schedule?: readonly Fault[]
  /** The user has had enough. */
  readonly stop?: () => boolean
  /** Told before the target is closed. */
  readonly onJudged?: (verdict: Judgement['verdict']) => void
  /** Hears what happens, as it happens: milliseconds into the run, and a line. */
  readonly onProgress?: (atMs: number, line: string) => void
}

export interface RunResult extends Judgement {
  readonly plan: ChaosPlan
  readonly seed: string
  readonly kind: ChaosTarget['kind']
  /** As it was run: with the names that were really there. */
  readonly schedule: readonly Fault[]
  readonly hosts: readonly string[]
  readonly faults: { readonly [kind in FaultKind]?: number }
  readonly migrations: { readonly asked: number; readonly refused: number }
  readonly interrupted: boolean
  /** Of the simulator: the same plan and seed have the same. */
  readonly traceHash: string | null
}

/** What is to happen at a time; at the same time, what is healed comes first. */
type Step =
  | { readonly atMs: number; readonly order: 0; readonly what: 'heal'; readonly fault: Fault }
  | { readonly atMs: number; readonly order: 1; readonly what: 'inject'; readonly fault: Fault }
  | { readonly atMs: number; readonly order: 2; readonly what: 'migrate'; readonly vm: string }

/** Throws what keeps the plan from being run at all (`fault-unsupported`, `rule-unsupported`): nothing was started then. */
export async function runPlan(target: ChaosTarget, options: RunOptions): Promise<RunResult> {
  const { plan, seed } = options
  try {
    chosenRules(plan, target.kind)
    if (options.schedule === undefined) assertWithinLimits(plan, seed)
    const drawn = options.schedule ?? drawSchedule(plan, seed)
    for (const fault of drawn) {
      const refusal = target.refuses(fault)
      if (refusal !== null) throw placed(refusal, whereOf(plan, fault))
    }
    return await new Run(target, options).whole(drawn)
  } finally {
    await target.close()
  }
}

/** At the line of the plan that asks for it. */
export function placed({ code, message, hint, cause }: StellwerkError, where: string | null): StellwerkError {
  return new StellwerkError(code, message, {
    ...(where === null ? {} : { where }),
    ...(hint === undefined ? {} : { hint }),
    ...(cause === undefined ? {} : { cause }),
  })
}

class Run {
  readonly #target: ChaosTarget
  readonly #options: RunOptions
  readonly #findings: string[] = []
  /** The target has a clock from then on. */
  #isSetUp = false
  #asked = 0
  #refused = 0

  constructor(target: ChaosTarget, options: RunOptions) {
    this.#target = target
    this.#options = options
  }

  async whole(drawn: readonly Fault[]): Promise<RunResult> {
    const { plan, seed, canary } = this.#options
    const { cluster, workload } = plan
    this.#tell(`${plan.name} on ${this.#target.kind}, seed ${seed}: ${drawn.length} faults to come`)
    const there = await this.#target.setUp({
      ...{ seed, cluster, workload, stop: () => this.#stopped },
      ...(canary === undefined ? {} : { canary }),
    })
    this.#isSetUp = true
    this.#tell(`${there.vms.length} VMs run on ${there.hosts.length} hosts, ${there.storages.length} storages`)
    const schedule = drawn.map(fault => renamed(fault, cluster, there))
    await this.#phases(schedule, there)
    const interrupted = this.#stopped
    if (interrupted) this.#findings.push('the run was interrupted')
    const { volumeBytes } = this.#target
    const judgement = await judge({
      ...{ plan, kind: this.#target.kind, vms: there.vms, schedule },
      ...{ findings: this.#findings, records: this.#target.records(), cutShort: interrupted },
      ...(volumeBytes === undefined ? {} : { volumeBytes }),
    })
    this.#options.onJudged?.(judgement.verdict)
    return {
      ...judgement,
      ...{ plan, seed, kind: this.#target.kind, schedule, hosts: there.hosts, interrupted },
      faults: countOf(judgement.history.faults),
      migrations: { asked: this.#asked, refused: this.#refused },
      traceHash: this.#target.traceHash?.() ?? null,
    }
  }

  get #stopped(): boolean {
    return this.#options.stop?.() === true
  }

  /** What the world does wrong is found; what is wrong in here is thrown on, once all is healed. */
  async #phases(schedule: readonly Fault[], there: ChaosCluster & { readonly vms: readonly string[] }): Promise<void> {
    const { plan } = this.#options
    const stop = (): boolean => this.#stopped
    const courses = new Courses({
      target: this.#target,
      limits: plan.limits,
      storages: there.storages,
      stop,
      tell: line => this.#tell(line),
    })
    const isOver = (): boolean => courses.isOver
    try {
      try {
        for (const step of this.#steps(schedule, there.vms)) {
          await this.#target.until(step.atMs, isOver)
          if (courses.isOver) break
          await this.#take(step, courses)
        }
        await this.#target.until(plan.durationMs, isOver)
      } finally {
        await courses.settled()
      }
      await this.#healAll(plan.convergeMs)
      await this.#target.until(this.#target.now() + plan.convergeMs, stop)
      await this.#finish()
    } catch (error) {
      this.#note(error)
      // A simulation that has failed goes no further, and nothing of it is left.
      if (errorCode(error) !== 'simulation-failed') await this.#endAnyway()
    }
  }

  async #finish(): Promise<void> {
    this.#tell('all is stopped in order, and what is left is looked at')
    this.#findings.push(...(await this.#target.finish()))
  }

  /** What was broken is made whole, and what can be known is looked at, though the run is no good any more. */
  async #endAnyway(): Promise<void> {
    try {
      await this.#healAll(this.#options.plan.convergeMs)
      await this.#finish()
    } catch (error) {
      this.#note(error)
    }
  }

  #note(error: unknown): void {
    if (!(error instanceof StellwerkError)) throw error
    this.#findings.push(describeError(error))
    this.#tell(`the run ends: ${describeError(error)}`)
  }

  #steps(schedule: readonly Fault[], vms: readonly string[]): Step[] {
    const { plan, seed } = this.#options
    const steps: Step[] = schedule.flatMap(fault => [
      { atMs: fault.atMs, order: 1, what: 'inject', fault } as const,
      { atMs: fault.atMs + fault.lastsMs, order: 0, what: 'heal', fault } as const,
    ])
    const random = new SimRandom(`chaos/${seed}/migrations`)
    const every = plan.migrateEveryMs ?? Number.POSITIVE_INFINITY
    for (let at = every; at < plan.durationMs; at += every) {
      const vm = vms[random.int(vms.length)]
      if (vm !== undefined) steps.push({ atMs: at, order: 2, what: 'migrate', vm })
    }
    return steps.sort((a, b) => a.atMs - b.atMs || a.order - b.order)
  }

  async #take(step: Step, courses: Courses): Promise<void> {
    switch (step.what) {
      case 'inject':
        return courses.begin(step.fault)
      case 'heal':
        return courses.end(step.fault)
      case 'migrate':
        this.#migrate(step.vm)
    }
  }

  /** Not waited for: a coordinator that is away answers late, and faults keep their time. */
  #migrate(vm: string): void {
    this.#asked += 1
    this.#target.migrate(vm).then(
      refusal => {
        if (refusal === null) return
        this.#refused += 1
        this.#tell(`migration of ${vm} refused: ${refusal}`)
      },
      (error: unknown) => {
        this.#refused += 1
        this.#tell(`migration of ${vm} failed: ${describeError(error)}`)
      },
    )
  }

  async #healAll(convergeMs: number): Promise<void> {
    await this.#target.healAll(convergeMs)
    this.#tell('everything is whole again; now all that should run must')
  }

  #tell(line: string): void {
    this.#options.onProgress?.(this.#isSetUp ? this.#target.now() : 0, line)
  }
}

/** A plan's names, by their place, are those that the target has. */
function renamed(fault: Fault, wanted: ChaosCluster, there: ChaosCluster): Fault {
  const names = new Map<string, string>()
  for (const sort of ['hosts', 'storages'] as const) {
    for (const [i, name] of wanted[sort].entries()) names.set(name, there[sort][i] ?? name)
  }
  const name = (is: string): string => names.get(is) ?? is
  return {
    ...fault,
    ...(fault.host === undefined ? {} : { host: name(fault.host) }),
    ...(fault.peer === undefined ? {} : { peer: name(fault.peer) }),
    ...(fault.storage === undefined ? {} : { storage: name(fault.storage) }),
  }
}

function countOf(faults: Judgement['history']['faults']): RunResult['faults'] {
  const counts: { [kind in FaultKind]?: number } = {}
  for (const { kind } of faults) counts[kind] = (counts[kind] ?? 0) + 1
  return counts
}
