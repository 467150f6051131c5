// `stellwerk trace …`: the traces that the cluster's processes keep in its directory, or that were copied or simulated, as one.

import type { CommandSpec } from '../command-line/command.ts'
import { check } from './trace-check.ts'
import { diff } from './trace-diff.ts'
import { exporting } from './trace-export.ts'
import { list } from './trace-list.ts'
import { replay, toScenario } from './trace-replay.ts'
import { show } from './trace-show.ts'
import { stats } from './trace-stats.ts'

export const commands: readonly CommandSpec[] = [list, show, check, exporting, replay, toScenario, stats, diff]
