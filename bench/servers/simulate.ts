// One simulated seed in a process of its own; its figures go to a file.

import { renameSync, writeFileSync } from 'node:fs'
import { runSeed } from '../../packages/cli/src/simulation/run-seed.ts'
import { config } from './config.ts'

export interface SimulateConfig {
  readonly seed: string
  readonly resultFile: string
}

export interface Simulated {
  readonly events: number
  readonly simulatedMs: number
  readonly realMs: number
  readonly failure: string | null
}

const { seed, resultFile } = config<SimulateConfig>()
const start = performance.now()
const { events, simulatedMs, failure } = await runSeed(seed, { stopEarly: false })
const realMs = performance.now() - start
const simulated: Simulated = {
  events,
  simulatedMs,
  realMs,
  failure: failure === null ? null : `${failure.rule}: ${failure.message}`,
}
writeFileSync(`${resultFile}.part`, JSON.stringify(simulated))
renameSync(`${resultFile}.part`, resultFile)
