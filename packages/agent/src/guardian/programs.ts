// Programs of the machine that run VMs (QEMU), as the guardian keeps them: its own children, because it outlives an agent.
// It kills what runs past a VM's deadline, and everything when the agent is gone, before it attests that.

import type { Command, Environment } from '@stellwerk/runtime/environment.ts'
import { errorMessage, tellError } from '@stellwerk/runtime/errors.ts'
import type { ToAgent, ToGuardian } from './pipe.ts'

type Order = Extract<ToGuardian, { kind: 'program.start' | 'program.kill' }>

export class GuardedPrograms {
  readonly #env: Environment
  readonly #running = new Map<number, { readonly vm: string | null; readonly command: Command }>()
  /** VMs that had one here since the agent was started. */
  readonly #vms = new Set<string>()
  #onNone: (() => void) | null = null

  constructor(env: Environment) {
    this.#env = env
  }

  /** `answer` reaches the agent that asked, if it still is there. */
  obey(order: Order, answer: (message: ToAgent) => void): void {
    if (order.kind === 'program.kill') {
      this.#running.get(order.id)?.command.kill()
      return
    }
    const { id, vm, spec } = order
    try {
      const command = this.#env.processes.command(spec)
      this.#running.set(id, { vm, command })
      if (vm !== null) this.#vms.add(vm)
      command.onExit(exit => {
        this.#running.delete(id)
        answer({ kind: 'program.exited', id, exit })
        if (this.#running.size === 0) this.#onNone?.()
      })
      answer({ kind: 'program.started', id })
    } catch (error) {
      this.#env.log.warn({ vm }, `${spec.name} was not started: ${errorMessage(error)}`)
      answer({ kind: 'program.refused', id, error: tellError(error) })
    }
  }

  runs(vm: string): boolean {
    return [...this.#running.values()].some(each => each.vm === vm)
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

  /** Calls back once nothing runs any more: at once, or when the last was reaped. */
  killAll(then: () => void): void {
    this.#vms.clear()
    if (this.#running.size === 0) {
      then()
      return
    }
    this.#onNone = () => {
      this.#onNone = null
      then()
    }
    for (const { command } of this.#running.values()) command.kill()
  }
}
