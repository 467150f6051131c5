// From a plan's text to the plan; or one line that says what is wrong at which line and column.

import { NAME_PATTERN } from '@stellwerk/protocol/messages/fields.ts'
import { RULES, type RuleId } from '@stellwerk/protocol/monitors/monitor.ts'
import { errorMessage } from '@stellwerk/runtime/errors.ts'
import { GIB, HOUR_MS, MIB, SECOND_MS } from '@stellwerk/runtime/units.ts'
import { LineCounter, parseDocument, visit } from 'yaml'
import { HOSTS_MAX, hostName } from '../../cluster/layout.ts'
import type { ChaosCluster } from '../target.ts'
import { COORDINATOR } from './fault-table.ts'
import { FaultReader } from './parse-faults.ts'
import { type Path, PlanText } from './place.ts'
import { type ChaosPlan, type Limits, OBJECTIVES, type Objective, type ObjectiveName } from './plan.ts'
import { spanOf } from './quantity.ts'
import { shown, Words } from './read-words.ts'
import { assertShape, ObjectiveEntry, PlanEntry } from './schema.ts'

const STORAGES = ['san-a', 'san-b'] as const
const HOSTS_DEFAULT = 3
const VMS_DEFAULT = 4
const MEMORY_DEFAULT = 16 * MIB
const DIRTY_DEFAULT = MIB
const WRITES_DEFAULT = 20
const CONVERGE_DEFAULT_MS = 30 * SECOND_MS
const DURATION_MIN_MS = SECOND_MS
/** Guests' logs are made to hold an hour. */
const DURATION_MAX_MS = HOUR_MS
const SEED_MAX = 200
const ALIASES_MAX = 100
/** What the coordinator's machine is called, here and there. */
const COORDINATOR_NAMES = ['coord'] as const

/** `file`: as errors are to name it. `durationMs`: instead of what the plan says. Throws `bad-plan`. */
export function parsePlan(file: string, source: string, durationMs?: number): ChaosPlan {
  const lines = new LineCounter()
  const document = parseDocument(source, { lineCounter: lines, prettyErrors: false })
  const text = new PlanText(file, document, lines)
  const [broken] = document.errors
  if (broken !== undefined) {
    throw text.refuseAt(broken.pos[0], `it is no YAML: ${broken.message}`, 'mend it there')
  }
  return new PlanReader(text).plan(readValue(document, text), durationMs)
}

/** Throws `bad-plan` where an alias leads nowhere, or to too much. */
function readValue(document: ReturnType<typeof parseDocument>, text: PlanText): unknown {
  try {
    return document.toJS({ maxAliasCount: ALIASES_MAX })
  } catch (error) {
    let at = 0
    visit(document, {
      Alias(_key, alias) {
        if (alias.resolve(document) !== undefined) return undefined
        at = alias.range?.[0] ?? 0
        return visit.BREAK
      },
    })
    throw text.refuseAt(at, `it can't be read: ${errorMessage(error)}`, 'write out what is meant there')
  }
}

class PlanReader {
  readonly #text: PlanText
  readonly #words: Words

  constructor(text: PlanText) {
    this.#text = text
    this.#words = new Words(text)
  }

  plan(value: unknown, durationWantedMs?: number): ChaosPlan {
    const entry = assertShape(PlanEntry, value, [], this.#text)
    const cluster: ChaosCluster = {
      hosts: this.#names(['cluster', 'hosts'], entry.cluster?.hosts ?? HOSTS_DEFAULT, HOSTS_MAX, hostName),
      storages: this.#names(['cluster', 'storages'], entry.cluster?.storages ?? 2, 2, i => STORAGES[i] ?? ''),
    }
    this.#demandApart(cluster, entry.cluster?.hosts)
    const {
      vms = VMS_DEFAULT,
      memory,
      dirtyRate,
      writesPerSecond = WRITES_DEFAULT,
      migrateEvery,
    } = entry.workload ?? {}
    const ownMs = this.#words.duration(['duration'], entry.duration, DURATION_MIN_MS, DURATION_MAX_MS)
    const durationMs = durationWantedMs ?? ownMs
    const faults = new FaultReader(this.#text, cluster, durationMs, ownMs)
    const plan: ChaosPlan = {
      name: entry.name,
      summary: entry.summary.trim(),
      seed: this.#seed(entry.seed),
      cluster,
      workload: {
        vms,
        memoryBytes: memory === undefined ? MEMORY_DEFAULT : this.#size('memory', memory, MIB, 64 * GIB),
        dirtyBytesPerSecond: dirtyRate === undefined ? DIRTY_DEFAULT : this.#size('dirtyRate', dirtyRate, 1, GIB),
        writesPerSecond,
      },
      migrateEveryMs:
        migrateEvery === undefined
          ? null
          : this.#words.duration(['workload', 'migrateEvery'], migrateEvery, 100, DURATION_MAX_MS),
      durationMs,
      convergeMs:
        entry.converge === undefined
          ? CONVERGE_DEFAULT_MS
          : this.#words.duration(['converge'], entry.converge, SECOND_MS, DURATION_MAX_MS),
      faults: (entry.faults ?? []).flatMap((each, i) => faults.fixed(each, ['faults', i])),
      random: entry.random === undefined ? null : faults.random(entry.random, ['random']),
      limits: this.#limits(entry.limits, cluster),
      ...this.#rules(entry.hold?.rules),
      objectives: Object.entries(entry.hold?.objectives ?? {}).map(([name, each]) => this.#objective(name, each)),
    }
    if ((entry.faults ?? []).length === 0 && plan.random === null) {
      throw this.#text.refuse([], 'the plan has neither "faults" nor "random"', 'say what is to be broken')
    }
    return plan
  }

  #seed(value: unknown): string | null {
    if (value === undefined || value === null) return null
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return String(value)
    if (typeof value === 'string' && /^[\w.-]+$/.test(value) && value.length <= SEED_MAX) return value
    throw this.#text.refuse(['seed'], `${shown(value)} is no seed`, 'say a whole number, or a word')
  }

  #size(name: 'memory' | 'dirtyRate', value: unknown, least: number, most: number): number {
    return this.#words.size(['workload', name], value, least, most)
  }

  #names(path: Path, value: unknown, most: number, nameOf: (index: number) => string): readonly string[] {
    if (!Array.isArray(value)) {
      const count = this.#words.number(path, value, 1, most)
      if (Number.isInteger(count)) return Array.from({ length: count }, (_, i) => nameOf(i))
      throw this.#text.refuse(path, `${shown(value)} is no whole number`, `say one from 1 to ${most}, or name them`)
    }
    if (value.length === 0 || value.length > most) {
      throw this.#text.refuse(path, `${value.length} names, where 1 to ${most} can be`, 'name that many')
    }
    for (const [i, name] of value.entries()) {
      if (typeof name !== 'string' || !new RegExp(NAME_PATTERN).test(name)) {
        throw this.#text.refuse([...path, i], `${shown(name)} is no name`, 'letters, digits, ".", "_", "-"')
      }
      if (value.indexOf(name) < i) throw this.#text.refuse([...path, i], `"${name}" came twice`, 'name each once')
    }
    return value as string[]
  }

  /** Each machine of the cluster has a name of its own. */
  #demandApart({ hosts, storages }: ChaosCluster, said: unknown): void {
    const others = [...storages, COORDINATOR, ...COORDINATOR_NAMES]
    const i = hosts.findIndex(host => others.includes(host))
    if (i < 0) return
    const path = ['cluster', 'hosts', ...(Array.isArray(said) ? [i] : [])]
    throw this.#text.refuse(path, `"${hosts[i]}" is the name of another machine`, `not ${others.join(', ')}`)
  }

  #limits(entry: PlanEntry['limits'], { hosts }: ChaosCluster): Limits {
    const most = Number.MAX_SAFE_INTEGER
    return {
      hosts: entry?.hosts ?? Math.max(1, Math.ceil(hosts.length / 2) - 1),
      storages: entry?.storages ?? 1,
      fabrics: entry?.fabrics ?? 1,
      cables: entry?.cables ?? most,
      coordinator: entry?.coordinator ?? 1,
      faults: entry?.faults ?? most,
      gapMs: entry?.gap === undefined ? 0 : this.#words.duration(['limits', 'gap'], entry.gap, 0, HOUR_MS),
    }
  }

  #rules(value: unknown): Pick<ChaosPlan, 'rules' | 'rulesWhere'> {
    if (value === undefined || value === 'all') return { rules: null, rulesWhere: [] }
    const path = ['hold', 'rules']
    if (!Array.isArray(value) || value.length === 0) {
      throw this.#text.refuse(path, `${shown(value)} is no list of rules`, 'say all, or [VM1, IO1, …]')
    }
    const rules: RuleId[] = value.map((rule, i) => this.#words.oneOf([...path, i], rule, 'rule', RULES))
    return { rules, rulesWhere: rules.map((_, i) => this.#text.where([...path, i])) }
  }

  #objective(name: string, value: unknown): Objective {
    const path = ['hold', 'objectives', name]
    const known = this.#words.oneOf(path, name, 'objective', Object.keys(OBJECTIVES), 'key') as ObjectiveName
    if (known === 'migrations' || known === 'failovers') {
      return { name: known, atLeast: this.#words.number(path, value, 1, 1_000_000) }
    }
    const isMap = typeof value === 'object' && value !== null && !Array.isArray(value)
    const entry = isMap ? assertShape(ObjectiveEntry, value, path, this.#text) : { within: value, disturbed: false }
    const within = typeof entry.within === 'string' ? spanOf(entry.within) : null
    if (within === null) {
      const at = isMap ? [...path, 'within'] : path
      throw this.#text.refuse(at, `${shown(entry.within)} is no limit of an objective`, 'say 2s, or lease + 2s')
    }
    return { name: known, within, disturbed: entry.disturbed === true }
  }
}
