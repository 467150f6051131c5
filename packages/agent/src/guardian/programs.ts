// Programs of the machine that run VMs (QEMU), as the guardian keeps them: its own children, because it outlives an agent.
// It kills what runs past a VM's deadline and, when the agent is gone, all that nobody is to take over.

import type { Command, CommandExit, Environment } from '@stellwerk/runtime/environment.ts'
import { errorMessage, tellError } from '@stellwerk/runtime/errors.ts'
import type { Kept, ToAgent, ToGuardian } from './pipe.ts'

type Order = Extract<ToGuardian, { kind: 'program.start' | 'program.kill' }>

interface Running {
  readonly vm: string | null
  readonly keep: Kept | null
  readonly command: Command
}

export interface ProgramListener {
  /** To the agent of this moment, if there is one. */
  tell(message: ToAgent): void
  /** What ran a VM was reaped: nothing of it executes any more. */
  ended(vm: string, keep: Kept, exit: CommandExit): void
}

export class GuardedPrograms {
  readonly #env: Environment
  readonly #listener: ProgramListener
  readonly #running = new Map<number, Running>()
  /** VMs that had one here since the agent was started. */
  readonly #vms = new Set<string>()
  #last = 0
  #onEnd: () => void = () => undefined

  constructor(env: Environment, listener: ProgramListener) {
    this.#env = env
    this.#listener = listener
  }

  /** The highest number that any has had. */
  get last(): number {
    return this.#last
  }

  obey(order: Order): void {
    if (order.kind === 'program.kill') {
      this.#running.get(order.id)?.command.kill()
      return
    }
    const { id, vm, spec, keep } = order
    this.#last = Math.max(this.#last, id)
    try {
      const command = this.#env.processes.command(spec)
      this.#running.set(id, { vm, keep, command })
      if (vm !== null) this.#vms.add(vm)
      command.onExit(exit => {
        this.#running.delete(id)
        if (vm !== null && keep !== null) this.#listener.ended(vm, keep, exit)
        this.#listener.tell({ kind: 'program.exited', id, exit })
        this.#onEnd()
      })
      this.#listener.tell({ kind: 'program.started', id })
    } catch (error) {
      this.#env.log.warn({ vm }, `${spec.name} was not started: ${errorMessage(error)}`)
      this.#listener.tell({ kind: 'program.refused', id, error: tellError(error) })
    }
  }

  runs(vm: string): boolean {
    return [...this.#running.values()].some(each => each.vm === vm)
  }

  /** What runs the VM and may be taken over by another agent; null: nothing does. */
  kept(vm: string): { readonly program: number; readonly keep: Kept } | null {
    for (const [program, { vm: its, keep }] of this.#running) if (its === vm && keep !== null) return { program, keep }
    return null
  }

  /** It had a program here, which has ended: nothing of the VM lives, whatever its agent has not noticed yet. */
  hasEnded(vm: string): boolean {
    return this.#vms.has(vm) && !this.runs(vm)
  }

  /** The agent knows of these alone. */
  keepOnly(vms: ReadonlySet<string>): void {
    for (const vm of this.#vms) if (!vms.has(vm) && !this.runs(vm)) this.#vms.delete(vm)
  }

  killOf(vm: string): void {
    for (const each of this.#running.values()) if (each.vm === vm) each.command.kill()
  }

  /** Calls back once nothing runs but what may be taken over of these VMs: at once, or when the last other was reaped. */
  killAllBut(vms: ReadonlySet<string>, then: () => void): void {
    const stays = ({ vm, keep }: Running): boolean => vm !== null && keep !== null && vms.has(vm)
    for (const vm of this.#vms) if (!vms.has(vm)) this.#vms.delete(vm)
    this.#onEnd = () => {
      if (![...this.#running.values()].every(stays)) return
      this.#onEnd = () => undefined
      then()
    }
    for (const each of this.#running.values()) if (!stays(each)) each.command.kill()
    this.#onEnd()
  }
}
