// Configuration of single processes, from a YAML or JSON file: checked against a schema that knows every key.

import { dirname, resolve } from 'node:path'
import { type Check, checkOf } from '@stellwerk/coordinator/api/misfit.ts'
import { COORDINATOR_NAME } from '@stellwerk/coordinator/core/host-names.ts'
import { IPV4_PATTERN } from '@stellwerk/protocol/ipv4.ts'
import { AddressSchema, ExternalSchema } from '@stellwerk/protocol/messages/cluster.ts'
import { closed, Name } from '@stellwerk/protocol/messages/fields.ts'
import { type Static, type TObject, Type } from '@stellwerk/protocol/schema/typebox.js'
import { SettingsSchema } from '@stellwerk/protocol/settings.ts'
import { errorCode, errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { parseDocument } from 'yaml'
import { BridgesSchema } from '../cluster/bridges.ts'
import { filesOf } from '../cluster/directory.ts'

const Token = Type.String({ minLength: 16, maxLength: 256 })
const Directory = Type.Optional(Type.String({ minLength: 1 }))
const LogLevel = Type.Optional(
  Type.Union([Type.Literal('debug'), Type.Literal('info'), Type.Literal('warn'), Type.Literal('error')]),
)
const Fabric = Type.Union([Type.Literal('fabric-0'), Type.Literal('fabric-1')])
const Storage = closed({ name: Name, portals: Type.Array(AddressSchema), control: Type.Array(AddressSchema) })
/** As the coordinator knows it: with `external` it is any NBD server, which has no control link. */
const KnownStorage = closed({
  name: Name,
  portals: Type.Array(AddressSchema),
  control: Type.Optional(Type.Array(AddressSchema)),
  external: Type.Optional(ExternalSchema),
})

/** All of the profile's times, each optional. */
const SettingsPart = Type.Object(
  Object.fromEntries(Object.entries(SettingsSchema.properties).map(([name, schema]) => [name, Type.Optional(schema)])),
  { additionalProperties: false },
)

const COMMON = { cluster: Name, token: Token, directory: Directory, logLevel: LogLevel }

export const CoordinatorFile = closed({
  ...COMMON,
  profile: Type.Union([Type.Literal('lab'), Type.Literal('production')]),
  settings: Type.Optional(SettingsPart),
  listen: AddressSchema,
  api: closed({ host: Type.Optional(Type.String()), port: Type.Integer({ minimum: 0, maximum: 65_535 }) }),
  storages: Type.Array(KnownStorage),
})
export type CoordinatorFile = Static<typeof CoordinatorFile>

export const AgentFile = closed({
  ...COMMON,
  host: Name,
  coordinator: AddressSchema,
  listen: AddressSchema,
  /** Of its virtual switch; without it no VM with a network card runs there. */
  guest: Type.Optional(AddressSchema),
  /** Networks of the guests that are Linux bridges of this host's. */
  bridges: Type.Optional(BridgesSchema),
  /** IPv4: where lasting forwards listen that name no address of their own; default loopback. */
  forwardAddress: Type.Optional(Type.String({ pattern: IPV4_PATTERN })),
  memoryBytes: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }),
  hbas: Type.Optional(Type.Array(Fabric, { maxItems: 2 })),
  hypervisors: Type.Optional(
    Type.Array(Type.Union([Type.Literal('wasm'), Type.Literal('model'), Type.Literal('qemu')])),
  ),
  supervise: Type.Optional(Type.Boolean()),
})
export type AgentFile = Static<typeof AgentFile>

export const StorageFile = closed({ ...COMMON, ...Storage.properties })
export type StorageFile = Static<typeof StorageFile>

export interface ConfigFile<T> {
  readonly value: T
  /** Where the process keeps its state: as the file says, from where it lies. */
  readonly directory: string
}

/** Throws `missing-file` or `bad-config`, which names the key. */
export async function readConfig<T extends TObject>(path: string, schema: T): Promise<ConfigFile<Static<T>>> {
  const full = resolve(path)
  const bytes = await filesOf(dirname(full))
    .read(full)
    .catch((error: unknown) => {
      if (errorCode(error) === 'EISDIR') return null
      throw error
    })
  if (bytes === null) {
    throw new StellwerkError('missing-file', 'there is no such configuration file', {
      where: path,
      hint: 'name one with --config; docs/OPERATIONS.md has examples',
    })
  }
  const value = parse(Buffer.from(bytes).toString('utf8'), path, checkOf(schema)) as Static<T>
  const { directory = 'state' } = value as { directory?: string }
  return { value, directory: resolve(dirname(full), directory) }
}

/**
 * Hosts ask a storage over each fabric whether the path works, and the coordinator asks it over the cluster network: its
 * control link must be there wherever it is reached. Throws `bad-config`.
 */
export function checkStorage(storage: Static<typeof KnownStorage>, where: string): void {
  const bad = (what: string, hint: string): never => {
    throw new StellwerkError('bad-config', `storage ${storage.name}: ${what}`, { where, hint })
  }
  if (storage.portals.length === 0) bad("'portals' is empty: no host could reach its LUNs", 'name an address a fabric')
  if (storage.external !== undefined) {
    checkExternal(storage, bad)
    return
  }
  const controls = new Set((storage.control ?? []).map(({ network }) => network))
  for (const network of new Set(['cluster' as const, ...storage.portals.map(portal => portal.network)])) {
    if (controls.has(network)) continue
    const who = network === 'cluster' ? 'the coordinator' : 'the hosts'
    bad(`'control' has no address on ${network}, where ${who} must reach it`, `add one with network: ${network}`)
  }
}

/** Each by itself, and all together: they are told apart by name alone. Throws `bad-config`. */
export function checkStorages(storages: readonly Static<typeof KnownStorage>[], where: string): void {
  const names = storages.map(({ name }) => name)
  const bad = (what: string) =>
    new StellwerkError('bad-config', what, { where, hint: 'give each storage a name of its own' })
  const twice = names.find((name, i) => names.indexOf(name) !== i)
  if (twice !== undefined) throw bad(`'storages' names ${twice} twice`)
  if (names.includes(COORDINATOR_NAME)) throw bad(`a storage is called "${COORDINATOR_NAME}", as the coordinator is`)
  for (const storage of storages) checkStorage(storage, where)
}

function checkExternal(
  { portals, control = [], external }: Static<typeof KnownStorage>,
  bad: (what: string, hint: string) => never,
): void {
  if (control.length > 0) bad("it is external and has 'control': an NBD server takes no orders", "leave 'control' away")
  const astray = portals.find(({ network }) => network !== 'fabric-0' && network !== 'fabric-1')
  if (astray !== undefined) {
    bad(`a portal is on ${astray.network}, where no host has an HBA`, 'put it on fabric-0 or fabric-1')
  }
  const luns = (external?.exports ?? []).map(({ lun }) => lun)
  const twice = luns.find((lun, i) => luns.indexOf(lun) !== i)
  if (twice !== undefined) bad(`'external.exports' names LUN ${twice} twice`, 'give each LUN one export')
}

/** JSON is YAML, so one parser reads both. */
export function parse(text: string, where: string, check: Check): unknown {
  let value: unknown
  try {
    const document = parseDocument(text)
    const [first] = document.errors
    if (first !== undefined) throw first
    value = document.toJS()
  } catch (error) {
    const line = errorMessage(error).split('\n')[0] ?? errorCode(error)
    throw new StellwerkError('bad-config', `the configuration can't be read: ${line}`, {
      where,
      hint: 'write it as YAML or JSON',
      cause: error,
    })
  }
  const misfit = check(value)
  if (misfit === null) return value
  throw new StellwerkError('bad-config', misfit, { where, hint: 'mend that key; keys that are not known are refused' })
}
