// An operator's mistake: the coordinator is put back from a copy of its state that was made while it ran, and only later from the
// newest. It must find that out by itself, decide nothing, and make nothing look newer than the newest.

import { REVISION_KEY } from '@stellwerk/coordinator/core/output.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import type { Json } from '@stellwerk/runtime/environment.ts'
import type { FaultKind } from './faults.ts'
import { COORDINATOR_HOST, type World } from './world.ts'

type Entries = readonly (readonly [string, Json])[]

/** Between the copy and its being put back, ms: at least, at most. */
const COPY_AGE_MS = [500, 4_000] as const
/** Whoever has put it back starts it again and again, and tries again where it would not be found out. */
const AGAIN_MS = 500

export const OLDER_STATE_FAULTS: readonly FaultKind[] = [
  {
    name: 'coordinator-rolled-back',
    lasts: [6_000, 20_000],
    mayMiss: true,
    begin: ({ world, random, struck }) => {
      const { sim } = world
      if (world.hasOlderState) return () => undefined
      const copy = entriesOf(world)
      let newest: Entries | null = null
      let idle: () => void = () => undefined
      let over = false
      const startAgain = (): void => {
        if (over) return
        world.startCoordinator()
        sim.after(AGAIN_MS, startAgain)
      }
      const putBack = (): void => {
        if (over || world.hasOlderState) return
        if (!isKnownToBeOlder(world, copy)) {
          sim.after(AGAIN_MS, putBack)
          return
        }
        killCoordinator(world)
        newest = entriesOf(world)
        replace(world, copy)
        world.hasOlderState = true
        struck()
        idle = watchIdle(world)
        sim.emit({ level: 'decision', kind: 'coordinator.rolled-back', body: {} })
        startAgain()
      }
      sim.after(COPY_AGE_MS[0] + random.float() * (COPY_AGE_MS[1] - COPY_AGE_MS[0]), putBack)
      return () => {
        over = true
        if (newest === null) return
        killCoordinator(world)
        idle()
        replace(world, newest)
        world.hasOlderState = false
        world.startCoordinator()
      }
    },
  },
]

function storeOf({ sim }: World, host: string, process: string) {
  return sim.host(host).disk.directory(process).store
}

function entriesOf(world: World): Entries {
  return [...storeOf(world, COORDINATOR_HOST, 'coordinator').withPrefix('')]
}

function replace(world: World, entries: Entries): void {
  const store = storeOf(world, COORDINATOR_HOST, 'coordinator')
  for (const [key] of entriesOf(world)) store.delete(key)
  for (const [key, value] of entries) store.set(key, value)
}

function killCoordinator({ sim }: World): void {
  sim.host(COORDINATOR_HOST).process('coordinator')?.kill()
}

/**
 * Every storage has heard of a later revision: one that has not, and alone answers, takes the copy for the newest. Where they answer
 * all, one that knows is enough; test/simulation/rolled-back.test.ts has that.
 */
function isKnownToBeOlder(world: World, copy: Entries): boolean {
  const revision = revisionIn(copy)
  return world.options.storages.every(name => Number(storeOf(world, name, name).get('revision') ?? 0) > revision)
}

function revisionIn(entries: Entries): number {
  return Number(entries.find(([key]) => key === REVISION_KEY)?.[1] ?? 0)
}

/** What an older state's run may have done nothing of: its own decisions, and what it has made others take. */
function watchIdle(world: World): () => void {
  // That planted bug is for the rules to find, by what comes of it.
  if (canary('older-state-taken')) return () => undefined
  const before = world.options.storages.map(name => storeOf(world, name, name).get('term'))
  const stop = world.sim.onRecord(({ kind, process }) => {
    if (process !== 'coordinator' || !/^(decision\.|failover\.|lease\.granted|migration\.committed)/.test(kind)) return
    world.sim.fail(new Error(`an older state's coordinator acted: ${kind}`), null)
  })
  return () => {
    stop()
    world.options.storages.forEach((name, i) => {
      const term = storeOf(world, name, name).get('term')
      if (term !== before[i])
        world.sim.fail(new Error(`${name} took an older state's term ${term}: ${before[i]} was its own`), null)
    })
  }
}
