// A volume's owner is killed, or falls asleep, at the very moment in which a storage has taken a write of its journal: what it knows of
// that, and what it has told of it, are two things then.

import { keepJournalBusy } from './busy-journal.ts'
import type { FaultKind } from './faults.ts'
import { isInJournal } from './world.ts'

const SKIPPED_MAX = 6

export const OWNER_FAULTS: readonly FaultKind[] = [
  {
    name: 'owner-in-journal',
    lasts: [500, 12_000],
    mayMiss: true,
    waits: true,
    begin: ({ world, storage, random, struck, inPhase }) => {
      const { sim } = world
      const skipped = inPhase === null ? random.int(SKIPPED_MAX) : 0
      const sleeps = random.chance(0.5)
      const quiet = inPhase === null ? () => undefined : keepJournalBusy(world, storage)
      let seen = 0
      let mend: () => void = () => undefined
      const stop = sim.onRecord(({ kind, process, host, body }) => {
        if (kind !== 'storage.applied' || process !== storage || host === undefined) return
        const { offset, owner } = body as { offset: number; owner?: number }
        if (owner === undefined || !isInJournal(offset) || inPhase?.() === false || seen++ !== skipped) return
        // The answer is not on its way yet.
        sim.after(0, () => {
          const agent = sim.host(host).process(`${host}/agent`)
          if (agent?.alive !== true || agent.paused) return
          struck()
          if (sleeps) {
            agent.pause()
            mend = () => agent.resume()
          } else {
            agent.kill()
            mend = () => world.startHost(host)
          }
        })
        quiet()
      })
      return () => {
        stop()
        quiet()
        mend()
      }
    },
  },
]
