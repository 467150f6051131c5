// How fast the whole cluster runs in simulation, faults and judges included: events a second, and against real time. One
// process a seed, one after the other, on one core.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Group, withServers } from './lib/group.ts'
import { median, row } from './lib/rows.ts'
import type { SimulateConfig, Simulated } from './servers/simulate.ts'

/** What a simulation is to reach, in multiples of real time. */
const WANTED = 100

export const simulator: Group = {
  name: 'simulator',
  about: 'simulator events per second, and multiples of real time',
  async run({ rounds, report, progress }) {
    const runs: Simulated[] = []
    for (let n = 1; n <= rounds; n += 1) {
      const seed = String(n)
      progress(`simulator: seed ${seed}`)
      await withServers(async (servers, directory) => {
        const resultFile = join(directory, 'result.json')
        const config: SimulateConfig = { seed, resultFile }
        await servers.serve('simulate.ts', config, resultFile, SEED_MS)
        const simulated = JSON.parse(readFileSync(resultFile, 'utf8')) as Simulated
        if (simulated.failure !== null) process.stderr.write(`bench: seed ${seed} failed: ${simulated.failure}\n`)
        runs.push(simulated)
      })
    }
    const of = (pick: (run: Simulated) => number): number => median(runs.map(pick))
    report(
      row(
        'simulator, events',
        of(run => run.events / (run.realMs / 1000)),
        'events/s',
        null,
        null,
      ),
    )
    report(
      row(
        'simulator, times real time',
        of(run => run.simulatedMs / run.realMs),
        'x',
        WANTED,
        'what is wanted',
      ),
    )
  },
}

const SEED_MS = 120_000
