// The faults of a run while it goes on: each takes its own course (begun, lasting, healed), so that one which takes seconds to
// heal holds up no other. What is late keeps its length; and what would break more at once than the plan allows, because
// something else took longer than planned, waits.

import { describeFault } from './describe-fault.ts'
import type { Fault } from './fault.ts'
import { taken } from './plan/fault-table.ts'
import { excess } from './plan/limits.ts'
import type { Limits } from './plan/plan.ts'
import type { ChaosTarget } from './target.ts'

const ROOM_POLL_MS = 50

export interface CoursesOptions {
  readonly target: ChaosTarget
  readonly limits: Limits
  /** The names that are really there. */
  readonly storages: readonly string[]
  readonly stop: () => boolean
  readonly tell: (line: string) => void
}

interface Course {
  readonly fault: Fault
  /** Null: it has not begun. */
  begunAt: number | null
  /** Null: it is not healed. */
  endedAt: number | null
  /** All that was asked for of it so far; never rejects. */
  done: Promise<void>
}

export class Courses {
  readonly #options: CoursesOptions
  readonly #courses = new Map<number, Course>()
  #failure: { readonly error: unknown } | null = null

  constructor(options: CoursesOptions) {
    this.#options = options
  }

  /** The run goes no further: it was stopped, or a fault could not be done or healed. */
  get isOver(): boolean {
    return this.#failure !== null || this.#options.stop()
  }

  /** Resolves at once, but in the simulator, whose time stands still meanwhile: when it is done. */
  begin(fault: Fault): Promise<void> {
    const course: Course = { fault, begunAt: null, endedAt: null, done: Promise.resolve() }
    this.#courses.set(fault.id, course)
    return this.#then(course, () => this.#begin(course))
  }

  /** As `begin`. */
  end(fault: Fault): Promise<void> {
    const course = this.#courses.get(fault.id)
    return course === undefined ? Promise.resolve() : this.#then(course, () => this.#end(course))
  }

  /** When nothing is under way any more. Throws what first went wrong. */
  async settled(): Promise<void> {
    for (const { done } of this.#courses.values()) await done
    if (this.#failure !== null) throw this.#failure.error
  }

  #then(course: Course, step: () => Promise<void>): Promise<void> {
    course.done = course.done.then(step).catch((error: unknown) => {
      this.#failure ??= { error }
    })
    return this.#options.target.isTimeless === true ? course.done : Promise.resolve()
  }

  async #begin(course: Course): Promise<void> {
    const { target, tell } = this.#options
    const { fault } = course
    if (target.isTimeless !== true) await this.#room(fault)
    if (this.isOver) return
    course.begunAt = target.now()
    await target.inject(fault)
    tell(`#${fault.id} ${describeFault(fault)}`)
  }

  /** Stopped, it stays as it is: all is healed then. */
  async #end(course: Course): Promise<void> {
    const { target, tell } = this.#options
    const { fault, begunAt } = course
    if (begunAt === null) return
    if (target.isTimeless !== true) await target.until(begunAt + fault.lastsMs, () => this.isOver)
    if (this.isOver) return
    await target.heal(fault)
    course.endedAt = target.now()
    tell(`#${fault.id} is over (${fault.kind})`)
  }

  async #room(fault: Fault): Promise<void> {
    const { target, tell } = this.#options
    for (let isTold = false; !this.isOver; isTold = true) {
      const broken = this.#tooMuch(fault)
      if (broken === null) return
      if (!isTold) tell(`#${fault.id} ${fault.kind} waits for what is still being healed: ${broken}`)
      await target.until(target.now() + ROOM_POLL_MS, () => this.isOver)
    }
  }

  #tooMuch(fault: Fault): string | null {
    const { target, limits, storages } = this.#options
    const now = target.now()
    const counts = ({ begunAt, endedAt }: Course): boolean =>
      begunAt !== null && (endedAt === null || endedAt + limits.gapMs > now)
    const broken = [...this.#courses.values()].filter(counts).map(course => course.fault)
    return excess(
      limits,
      [...broken, fault].map(each => taken(each, storages)),
    )
  }
}
