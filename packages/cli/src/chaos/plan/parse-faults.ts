// Reads the faults of a plan: those at a fixed time, and the kinds that are drawn.

import { unreachable } from '@stellwerk/runtime/assert.ts'
import { HOUR_MS, MIB, SECOND_MS } from '@stellwerk/runtime/units.ts'
import { FAULT_KINDS, type FaultKind } from '../fault.ts'
import type { ChaosCluster } from '../target.ts'
import { COORDINATOR, FAULT_SHAPES, type Parameter } from './fault-table.ts'
import type { Path, PlanText } from './place.ts'
import type { FaultChoice, FixedFault, RandomFaults, RandomKind } from './plan.ts'
import { formatDuration } from './quantity.ts'
import { shown, Words } from './read-words.ts'
import { assertShape, FaultEntry, type PlanEntry, RandomKindEntry } from './schema.ts'

const NETWORKS = ['cluster', 'fabric-0', 'fabric-1', 'guest'] as const
const LASTS_MIN_MS = 1
const GAP_MIN_MS = 10
const EVERY_MIN_MS = 1_000
const DELAY_MAX_MS = 60 * SECOND_MS
/** A week, either way. */
const JUMP_MAX_MS = 7 * 24 * HOUR_MS
const RATE_MIN = MIB / 64
const RATE_MAX = 1024 * MIB

/** A parameter's name in a plan. */
const NAMES: { readonly [name in Parameter]: keyof FaultEntry } = {
  host: 'host',
  peer: 'peer',
  storage: 'storage',
  fabric: 'fabric',
  network: 'network',
  oneWay: 'oneWay',
  fabrics: 'fabrics',
  chance: 'chance',
  delayMs: 'delay',
  jitterMs: 'jitter',
  mibPerSecond: 'rate',
  byMs: 'by',
}
const PARAMETERS = Object.keys(NAMES) as Parameter[]

export class FaultReader {
  readonly #text: PlanText
  readonly #words: Words
  readonly #cluster: ChaosCluster
  readonly #durationMs: number
  readonly #ownMs: number

  /** `ownMs`: what the plan itself says. A run that ends before has those faults that are over by then. */
  constructor(text: PlanText, cluster: ChaosCluster, durationMs: number, ownMs: number) {
    this.#text = text
    this.#words = new Words(text)
    this.#cluster = cluster
    this.#durationMs = durationMs
    this.#ownMs = ownMs
  }

  /** One, or as many as `every` makes of it. */
  fixed(value: unknown, path: Path): FixedFault[] {
    const entry = assertShape(FaultEntry, value, path, this.#text)
    const kind = this.#words.oneOf([...path, 'kind'], entry.kind, 'fault', FAULT_KINDS)
    const atMs = this.#words.duration([...path, 'at'], entry.at, 0, this.#ownMs)
    const lastsMs = this.#lasts(kind, entry.for, [...path, 'for'])
    if (entry.for !== undefined && atMs + lastsMs[1] > this.#ownMs) {
      const end = formatDuration(this.#ownMs)
      throw this.#text.refuse([...path, 'for'], 'the fault may last longer than the plan', `the plan ends at ${end}`)
    }
    const most = Math.max(LASTS_MIN_MS, Math.max(this.#durationMs, this.#ownMs) - atMs)
    const cut = [Math.min(lastsMs[0], most), Math.min(lastsMs[1], most)] as const
    const first = { where: this.#text.where(path), kind, lastsMs: cut, choice: this.#choice(kind, entry, path) }
    const again = [...path, 'every']
    const everyMs = entry.every === undefined ? null : this.#words.duration(again, entry.every, EVERY_MIN_MS, HOUR_MS)
    const left = this.#durationMs - cut[1] - atMs
    const times = left < 0 ? 0 : everyMs === null ? 1 : 1 + Math.floor(left / everyMs)
    return Array.from({ length: times }, (_, i) => ({ ...first, atMs: atMs + i * (everyMs ?? 0) }))
  }

  random(entry: NonNullable<PlanEntry['random']>, path: Path): RandomFaults {
    const { from, until } = entry
    const fromMs = from === undefined ? 0 : this.#words.duration([...path, 'from'], from, 0, this.#ownMs)
    const untilMs =
      until === undefined
        ? this.#durationMs
        : Math.min(this.#durationMs, this.#words.duration([...path, 'until'], until, fromMs, this.#ownMs))
    const kinds = Object.entries(entry.kinds).map(([name, value]) => this.#kind(name, value, [...path, 'kinds', name]))
    if (kinds.length === 0) {
      throw this.#text.refuse(
        [...path, 'kinds'],
        'there is no kind of fault to draw',
        `known: ${FAULT_KINDS.join(', ')}`,
      )
    }
    const meanGapMs = this.#words.duration([...path, 'meanGap'], entry.meanGap, GAP_MIN_MS, HOUR_MS)
    return { fromMs, untilMs, meanGapMs, kinds }
  }

  #kind(name: string, value: unknown, path: Path): RandomKind {
    const kind = this.#words.oneOf(path, name, 'fault', FAULT_KINDS, 'key')
    const entry = assertShape(RandomKindEntry, typeof value === 'number' ? { weight: value } : value, path, this.#text)
    const lastsMs = this.#lasts(kind, entry.for, [...path, 'for'])
    return {
      where: this.#text.where(path, 'key'),
      kind,
      weight: entry.weight ?? 1,
      lastsMs,
      choice: this.#choice(kind, entry, path),
    }
  }

  #lasts(kind: FaultKind, value: unknown, path: Path): readonly [number, number] {
    return value === undefined ? FAULT_SHAPES[kind].lastsMs : this.#words.range(path, value, LASTS_MIN_MS, HOUR_MS)
  }

  #choice(kind: FaultKind, entry: RandomKindEntry, path: Path): FaultChoice {
    const { parameters } = FAULT_SHAPES[kind]
    const choice: { [name in Parameter]?: unknown } = {}
    for (const parameter of PARAMETERS) {
      const name = NAMES[parameter]
      const value = entry[name as keyof RandomKindEntry]
      if (value === undefined) continue
      const at = [...path, name]
      if (!parameters.includes(parameter)) {
        const known = ['for', ...parameters.map(each => NAMES[each])].join(', ')
        throw this.#text.refuse(at, `${kind} has no "${name}"`, `it has: ${known}`, 'key')
      }
      choice[parameter] = this.#parameter(parameter, value, at)
    }
    const { hosts } = this.#cluster
    const only = hosts.length === 1 ? hosts[0] : undefined
    if (choice.peer !== undefined && choice.peer === (choice.host ?? only)) {
      throw this.#text.refuse([...path, 'peer'], `${shown(entry.peer)} is cut off from itself`, 'name another peer')
    }
    return choice as FaultChoice
  }

  #parameter(parameter: Parameter, value: unknown, path: Path): string | number | boolean {
    const { hosts, storages } = this.#cluster
    switch (parameter) {
      case 'host':
        return this.#words.oneOf(path, value, 'host', hosts)
      case 'peer':
        return this.#words.oneOf(path, value, 'host, storage or coordinator', [...hosts, ...storages, COORDINATOR])
      case 'storage':
        return this.#words.oneOf(path, value, 'storage', storages)
      case 'network':
        return this.#words.oneOf(path, value, 'network', NETWORKS)
      case 'fabric':
        if (value === 0 || value === 1) return value
        throw this.#text.refuse(path, `unknown fabric ${shown(value)}`, 'known: 0, 1')
      case 'oneWay':
      case 'fabrics':
        return value === true
      case 'chance':
        return this.#words.number(path, value, 0.001, 1)
      case 'delayMs':
        return this.#words.duration(path, value, 1, DELAY_MAX_MS)
      case 'jitterMs':
        return this.#words.duration(path, value, 0, DELAY_MAX_MS)
      case 'mibPerSecond':
        return this.#words.size(path, value, RATE_MIN, RATE_MAX) / MIB
      case 'byMs':
        return this.#words.duration(path, value, -JUMP_MAX_MS, JUMP_MAX_MS)
      default:
        return unreachable(parameter)
    }
  }
}
