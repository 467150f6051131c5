// What the simulation's own tests share: pausing inside a program, and a program given as a function.

import type { Environment, Json } from '../environment.ts'
import type { SimProcess } from './process.ts'
import { Simulation } from './simulation.ts'

export const sleep = (env: Environment, ms: number) => new Promise<void>(resolve => void env.timers.after(ms, resolve))

/** Starts `main` as a process of that name on the host (the name's part before the slash). */
export function run(
  sim: Simulation,
  name: string,
  main: (env: Environment, config: Json) => void | Promise<void>,
): SimProcess {
  sim.program(name, main)
  return sim.host(name.split('/')[0] ?? name).spawn(name, name)
}

export const bytes = (text: string) => new TextEncoder().encode(text)
export const text = (data: Uint8Array) => new TextDecoder().decode(data)

/** Every sector filled with one value. */
export const filled = (length: number, value: number) => new Uint8Array(length).fill(value)

/** Runs a program on `a/p` until it is through. */
export async function withFiles(
  main: (env: Environment, sim: Simulation) => Promise<void>,
  sim = new Simulation({ seed: 1 }),
) {
  let done = false
  const process = run(sim, 'a/p', async env => {
    await main(env, sim)
    done = true
  })
  const finished = await sim.runUntil(() => done || !process.alive, 60_000)
  return { sim, disk: sim.host('a').disk, process, finished, done }
}
