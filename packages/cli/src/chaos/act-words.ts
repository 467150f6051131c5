// Single acts of chaos in words of the command line: `kill host host-a`, `cut cable host-a 0`. What they mean as a fault.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { FAULT_KINDS, type Fault, type FaultKind, type NetworkOf } from './fault.ts'
import { FAULT_SHAPES, type Parameter } from './plan/fault-table.ts'

/** Of a fault that somebody ends by hand. */
const NO_TIME = { id: 0, atMs: 0, lastsMs: 0 } as const
const NETWORKS: readonly NetworkOf[] = ['cluster', 'fabric-0', 'fabric-1', 'guest']

export const NUMBERS = ['chance', 'delayMs', 'jitterMs', 'mibPerSecond', 'byMs'] as const
export type NumberField = (typeof NUMBERS)[number]

export interface ActOptions {
  readonly network?: string
  readonly oneWay?: boolean
}

export function killed(what: string, name: string | undefined): Fault {
  switch (what) {
    case 'agent':
      return { ...NO_TIME, kind: 'agent-kill', host: named(what, name, 'HOST') }
    case 'host':
      return { ...NO_TIME, kind: 'host-kill', host: named(what, name, 'HOST') }
    case 'storage':
      return { ...NO_TIME, kind: 'storage-kill', storage: named(what, name, 'STORAGE') }
    case 'coordinator':
      return { ...NO_TIME, kind: 'coordinator-kill' }
    default:
      throw noSuch(what, ['host', 'agent', 'coordinator', 'storage'])
  }
}

export function paused(what: string, name: string | undefined): Fault {
  switch (what) {
    case 'host':
      return { ...NO_TIME, kind: 'host-pause', host: named(what, name, 'HOST') }
    case 'storage':
      return { ...NO_TIME, kind: 'storage-pause', storage: named(what, name, 'STORAGE') }
    case 'coordinator':
      return { ...NO_TIME, kind: 'coordinator-pause' }
    default:
      throw noSuch(what, ['host', 'coordinator', 'storage'])
  }
}

/** What `paused` makes. */
export function isPause({ kind }: Fault): boolean {
  return kind === 'host-pause' || kind === 'storage-pause' || kind === 'coordinator-pause'
}

/** `cut host H` · `cut link H PEER` · `cut cable H FABRIC` · `cut fabric FABRIC`. */
export function cut(what: string, name: string | undefined, other: string | undefined, options: ActOptions): Fault {
  const scope = scopeOf(options)
  switch (what) {
    case 'host':
      return { ...NO_TIME, kind: 'host-isolate', host: named(what, name, 'HOST'), ...scope }
    case 'link':
      return {
        ...NO_TIME,
        kind: 'partition',
        host: named(what, name, 'HOST PEER'),
        peer: named(what, other, 'HOST PEER'),
        ...scope,
      }
    case 'cable':
      return { ...NO_TIME, kind: 'cable-pull', host: named(what, name, 'HOST FABRIC'), fabric: parseFabric(other) }
    case 'fabric':
      return { ...NO_TIME, kind: 'fabric-down', fabric: parseFabric(name) }
    default:
      throw noSuch(what, ['host', 'link', 'cable', 'fabric'])
  }
}

/** Any fault of a plan, by its kind. Throws `unknown-fault`, `bad-number`, `usage` for what such a fault does not have. */
export function ofKind(
  kind: string,
  text: (field: 'host' | 'peer' | 'storage' | 'fabric' | NumberField) => string | undefined,
  options: ActOptions,
): Fault {
  if (!(FAULT_KINDS as readonly string[]).includes(kind)) {
    throw new StellwerkError('unknown-fault', `there is no fault "${kind}"`, {
      hint: `known are ${FAULT_KINDS.join(', ')}`,
    })
  }
  const fields: Record<string, string | number> = {}
  const parameters = [...FAULT_SHAPES[kind as FaultKind].parameters, ...(BY_HAND_TOO[kind as FaultKind] ?? [])]
  const given = OPTIONS.filter(each => isGiven(each, text, options))
  const strange = given.find(each => !parameters.includes(each))
  if (strange !== undefined) {
    const known = parameters.flatMap(each => (each === 'fabrics' ? [] : [`--${OPTION_OF[each]}`]))
    throw new StellwerkError('usage', `${kind} has no --${OPTION_OF[strange]}`, {
      where: `--${OPTION_OF[strange]}`,
      hint: known.length === 0 ? 'it has no options of its own' : `it has ${known.join(', ')}`,
    })
  }
  for (const field of ['host', 'peer', 'storage'] as const) {
    const value = text(field)
    if (value !== undefined) fields[field] = value
  }
  const fabric = text('fabric')
  if (fabric !== undefined) fields['fabric'] = parseFabric(fabric)
  for (const field of NUMBERS) {
    const value = text(field)
    if (value !== undefined) fields[field] = parseNumber(field, value)
  }
  return { ...NO_TIME, kind: kind as FaultKind, ...fields, ...scopeOf(options) }
}

function isGiven(parameter: Option, text: Parameters<typeof ofKind>[1], { network, oneWay }: ActOptions): boolean {
  if (parameter === 'network') return network !== undefined
  if (parameter === 'oneWay') return oneWay === true
  return text(parameter) !== undefined
}

/** `agent-kill of host-a`, `partition of host-a and san-b on fabric-0`. */
export function describeFault(fault: Fault): string {
  const { kind, host, peer, storage, fabric, network, oneWay } = fault
  const whom = [host, storage, fabric === undefined ? undefined : `fabric-${fabric}`].filter(each => each !== undefined)
  const and = peer === undefined ? '' : ` ${oneWay === true ? 'to' : 'and'} ${peer}`
  const on = network === undefined ? '' : ` on ${network}`
  return `${kind}${whom.length === 0 ? '' : ` of ${whom.join(' on ')}`}${and}${on}`
}

function scopeOf({ network, oneWay }: ActOptions): Pick<Fault, 'network' | 'oneWay'> {
  if (network !== undefined && !(NETWORKS as readonly string[]).includes(network)) {
    throw new StellwerkError('unknown-network', `there is no network "${network}"`, {
      where: '--network',
      hint: `say one of ${NETWORKS.join(', ')}`,
    })
  }
  return {
    ...(network === undefined ? {} : { network: network as NetworkOf }),
    ...(oneWay === true ? { oneWay } : {}),
  }
}

function parseFabric(text: string | undefined): 0 | 1 {
  const number = text?.replace(/^fabric-/, '')
  if (number === '0' || number === '1') return number === '0' ? 0 : 1
  throw new StellwerkError('bad-fabric', text === undefined ? 'the fabric is missing' : `"${text}" is no fabric`, {
    hint: 'say 0 or 1',
  })
}

const WITHIN: { readonly [F in NumberField]: readonly [number, number] } = {
  chance: [0, 1],
  delayMs: [0, 60_000],
  jitterMs: [0, 60_000],
  mibPerSecond: [0.01, 10_000],
  byMs: [-86_000_000, 86_000_000],
}

function parseNumber(field: NumberField, text: string): number {
  const [least, most] = WITHIN[field]
  const value = text.trim() === '' ? Number.NaN : Number(text)
  if (value >= least && value <= most) return value
  throw new StellwerkError('bad-number', `"${text}" is no number from ${least} to ${most}`, {
    where: `--${OPTION_OF[field]}`,
    hint: `say one from ${least} to ${most}`,
  })
}

/** As they are called on the command line. */
export const OPTION_OF = {
  ...{ host: 'host', peer: 'peer', storage: 'storage', fabric: 'fabric', network: 'network', oneWay: 'one-way' },
  ...{ chance: 'chance', delayMs: 'delay', jitterMs: 'jitter', mibPerSecond: 'mib', byMs: 'by' },
} as const satisfies { readonly [P in Exclude<Parameter, 'fabrics'>]: string }

type Option = keyof typeof OPTION_OF
const OPTIONS = Object.keys(OPTION_OF) as Option[]

/** Beyond what a plan may say: whom of a host's partners it is about. */
const BY_HAND_TOO: { readonly [kind in FaultKind]?: readonly Option[] } = {
  'host-isolate': ['network', 'oneWay'],
  ...{ loss: ['peer', 'oneWay'], delay: ['peer', 'oneWay'], duplicate: ['peer'], 'slow-link': ['peer', 'oneWay'] },
}

function named(what: string, name: string | undefined, wanted: string): string {
  if (name !== undefined) return name
  throw new StellwerkError('usage', `${what} needs a name`, { hint: `say: ${what} ${wanted}` })
}

function noSuch(what: string, known: readonly string[]): StellwerkError {
  return new StellwerkError('usage', `"${what}" is nothing that this can be done to`, {
    hint: `say one of ${known.join(', ')}`,
  })
}
