// What `up` keeps of a cluster on this machine besides its processes' own states: who belongs to it and on which ports, in
// `cluster.json`, so that the next start recovers the same cluster. And the two tokens, each a file only its owner reads.

import { checkOf } from '@stellwerk/coordinator/api/misfit.ts'
import { AddressSchema, ExternalSchema } from '@stellwerk/protocol/messages/cluster.ts'
import { closed, Name } from '@stellwerk/protocol/messages/fields.ts'
import { type Static, Type } from '@stellwerk/protocol/schema/typebox.js'
import type { Files, Random } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { BridgesSchema } from './bridges.ts'

export const CLUSTER_FILE = 'cluster.json'
export const JOIN_TOKEN_FILE = 'join-token'
export const API_TOKEN_FILE = 'api-token'
const TOKEN_LENGTH = 40

const Port = Type.Integer({ minimum: 1, maximum: 65_535 })

export const ClusterFileSchema = closed({
  format: Type.Literal(1),
  cluster: Name,
  profile: Type.Union([Type.Literal('lab'), Type.Literal('production')]),
  /** The address everything binds to. */
  address: Type.String(),
  coordinator: closed({ port: Port, apiPort: Port }),
  hosts: Type.Array(
    closed({
      name: Name,
      port: Port,
      /** Of its virtual switch; a file of before there were any has none, and gets one. */
      guestPort: Type.Optional(Port),
      memoryBytes: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }),
    }),
  ),
  storages: Type.Array(
    closed({
      name: Name,
      portals: closed({ 'fabric-0': Port, 'fabric-1': Port }),
      control: closed({ cluster: Port, 'fabric-0': Port, 'fabric-1': Port }),
    }),
  ),
  /** Networks of the guests that are bridges of this machine's. */
  bridges: Type.Optional(BridgesSchema),
  /** Storages that are NBD servers of others, which this cluster does not start. */
  external: Type.Optional(
    Type.Array(closed({ name: Name, portals: Type.Array(AddressSchema), exports: ExternalSchema.properties.exports })),
  ),
})
export type ClusterFile = Static<typeof ClusterFileSchema>

export type ExternalStorage = NonNullable<ClusterFile['external']>[number]

const check = checkOf(ClusterFileSchema)

/** Null: there is none. Throws `corrupt-state`. */
export async function readClusterFile(files: Files, directory: string): Promise<ClusterFile | null> {
  const bytes = await files.read(CLUSTER_FILE)
  if (bytes === null) return null
  const where = `${directory}/${CLUSTER_FILE}`
  const hint = 'restore the file, or name another directory with --dir'
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(bytes).toString('utf8'))
  } catch (error) {
    throw new StellwerkError('corrupt-state', 'the cluster file is damaged: it is no JSON', {
      where,
      hint,
      cause: error,
    })
  }
  const misfit = check(value)
  if (misfit !== null)
    throw new StellwerkError('corrupt-state', `the cluster file is damaged: ${misfit}`, { where, hint })
  const cluster = value as ClusterFile
  const twice = namedTwice(cluster)
  if (twice === null) return cluster
  throw new StellwerkError('corrupt-state', `the cluster file is damaged: ${twice}`, { where, hint })
}

/** Hosts and storages have a directory each, and are known to all by their names alone. */
function namedTwice({ hosts, storages, external = [] }: ClusterFile): string | null {
  const known = new Map<string, string>()
  const named = (what: string) => (each: { readonly name: string }) => [each.name, what] as const
  const all = [...hosts.map(named('host')), ...[...storages, ...external].map(named('storage'))]
  for (const [name, what] of all) {
    const before = known.get(name)
    if (before === what) return `it names ${what} ${name} twice`
    if (before !== undefined) return `a host and a storage are called ${name}`
    known.set(name, what)
  }
  return null
}

export async function writeClusterFile(files: Files, cluster: ClusterFile): Promise<void> {
  await files.writeAtomic(CLUSTER_FILE, Buffer.from(`${JSON.stringify(cluster, null, 2)}\n`))
}

/** The token in the file; made, for its owner's eyes only, if there is none. */
export async function takeToken(files: Files, file: string, random: Random): Promise<string> {
  const known = await readToken(files, file)
  if (known !== null) return known
  const token = random.id(TOKEN_LENGTH)
  await files.writeAtomic(file, Buffer.from(`${token}\n`))
  return token
}

export async function readToken(files: Files, file: string): Promise<string | null> {
  const bytes = await files.read(file)
  if (bytes === null) return null
  const token = Buffer.from(bytes).toString('utf8').trim()
  if (/^[A-Za-z0-9_-]{16,256}$/.test(token)) return token
  throw new StellwerkError('corrupt-state', 'the token is damaged', {
    where: files.locate(file),
    hint: 'restore the file, or name another directory with --dir',
  })
}
