// What happens to a machine that is a program of its own: it dies, or hangs, while its agent and its host live on.

import { QEMU_PROGRAM } from '@stellwerk/agent/hypervisor/qemu/probe.ts'
import type { SimProcess } from '@stellwerk/runtime/sim/process.ts'
import type { FaultContext, FaultKind } from './faults.ts'

/** By then a simulated QEMU answers. */
const STARTED_MS = 100

/** One of the host's, or, where it has none, of any: a seed has few. `leastMs`: it has been there for so long. */
function machine({ world, host, random, struck }: FaultContext, leastMs = 0): SimProcess | null {
  const on = (name: string): SimProcess[] =>
    world.sim
      .host(name)
      .processes.filter(each => each.program === QEMU_PROGRAM && each.name.endsWith('/qemu') && !each.paused)
      .filter(each => world.sim.now - each.startedAt >= leastMs)
  const here = on(host)
  const all = here.length > 0 ? here : world.options.hosts.flatMap(on)
  const found = all[random.int(Math.max(1, all.length))] ?? null
  if (found !== null) struck()
  return found
}

export const QEMU_FAULTS: readonly FaultKind[] = [
  {
    name: 'qemu-kill',
    lasts: [1, 50],
    mayMiss: true,
    begin: context => {
      machine(context)?.kill()
      return () => undefined
    },
  },
  {
    // Shorter than what its agent puts up with, or longer: then it is ended.
    name: 'qemu-pause',
    lasts: [500, 20_000],
    mayMiss: true,
    begin: context => {
      const found = machine(context)
      found?.pause()
      return () => found?.resume()
    },
  },
  {
    // For good: whoever waits for it waits in vain. One that is just being started is given a minute for that, which no seed has.
    name: 'qemu-hang',
    lasts: [1, 50],
    mayMiss: true,
    begin: context => {
      machine(context, STARTED_MS)?.hang()
      return () => undefined
    },
  },
]
