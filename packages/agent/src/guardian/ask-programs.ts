// How an agent has programs started: by its guardian, or, where it has none, as its own children.

import type { CommandExit, Environment, Json } from '@stellwerk/runtime/environment.ts'
import { asError } from '@stellwerk/runtime/errors.ts'
import type { StartedProgram, StartProgram } from '../hypervisor/qemu/qemu-process.ts'
import type { Survivor, ToAgent, ToGuardian } from './pipe.ts'

type Said = Extract<ToAgent, { kind: 'program.started' | 'program.refused' | 'program.exited' }>

interface Asked {
  readonly started: (program: StartedProgram) => void
  readonly refused: (error: Error) => void
  readonly exit: PromiseWithResolvers<CommandExit>
}

export class AskedPrograms {
  readonly #env: Environment
  readonly #asked = new Map<number, Asked>()
  #last: number

  /** `last`: the highest number that programs of earlier agents have. */
  constructor(env: Environment, last = 0) {
    this.#env = env
    this.#last = last
  }

  readonly start: StartProgram = (vm, spec, keep = null) => {
    const { parent } = this.#env.processes
    if (parent === null) return Promise.try(() => this.#env.processes.command(spec))
    const id = ++this.#last
    const send = (order: ToGuardian): void => parent.send(order as unknown as Json)
    return new Promise((started, refused) => {
      this.#asked.set(id, { started, refused, exit: Promise.withResolvers() })
      send({ kind: 'program.start', id, vm, spec, keep })
    })
  }

  /** The program of an earlier agent's machine. */
  left({ program }: Survivor): StartedProgram {
    const exit = Promise.withResolvers<CommandExit>()
    this.#asked.set(program, { started: () => undefined, refused: () => undefined, exit })
    return this.#program(program, exit.promise)
  }

  #program(id: number, exit: Promise<CommandExit>): StartedProgram {
    return {
      onExit: f => void exit.then(f),
      kill: () => this.#env.processes.parent?.send({ kind: 'program.kill', id } satisfies ToGuardian),
    }
  }

  heard(said: Said): void {
    const asked = this.#asked.get(said.id)
    if (asked === undefined) return
    switch (said.kind) {
      case 'program.started':
        asked.started(this.#program(said.id, asked.exit.promise))
        return
      case 'program.refused':
        this.#asked.delete(said.id)
        asked.refused(asError(said.error))
        return
      case 'program.exited':
        this.#asked.delete(said.id)
        asked.exit.resolve(said.exit)
    }
  }
}
