// Where the legs of a volume are found to look at them: the LUN files of a cluster that is down, any file, or any NBD server.
// All are opened to be read only.

import { join } from 'node:path'
import { connectNbd, NbdRefusal } from '@stellwerk/block/nbd/client.ts'
import type { Leg } from '@stellwerk/csv/format/device-io.ts'
import { OWNER_IO } from '@stellwerk/csv/format/device-io.ts'
import { readSuperblockCopies } from '@stellwerk/csv/format/superblock.ts'
import { isLunMarks, type LunMarks } from '@stellwerk/protocol/messages/storage.ts'
import { parseNbdUri } from '@stellwerk/protocol/nbd-uri.ts'
import type { Environment, Files } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { openSqliteStore } from '@stellwerk/runtime/node/sqlite-store.ts'
import type { ClusterFile } from './cluster-file.ts'
import { countingLegs } from './counting-legs.ts'
import { clusterIn, filesOf } from './directory.ts'
import { FileDevice } from './file-device.ts'
import { lookAtUp } from './up-record.ts'

export interface OpenLegs {
  readonly legs: readonly Leg[]
  /** The owner epoch that the storages know to have been durable in the journal; 0 where none can be asked. */
  readonly leastOwnerEpoch: number
  readonly close: () => Promise<void>
}

/**
 * The LUNs of that name in a cluster that is down, by the states of its storages. `lost`: storages that are gone for good, as an
 * operator says: a leg that may have been on one of these is not missed. What was acknowledged may then be missing here, or old.
 */
export async function legsOf(directory: string, volume: string, lost: readonly string[] = []): Promise<OpenLegs> {
  const cluster = await clusterIn(directory)
  if ((await lookAtUp(directory)) !== null) {
    throw new StellwerkError('volume-open', `volume "${volume}" is open: the cluster runs`, {
      where: directory,
      hint: 'end it first: npx stellwerk down',
    })
  }
  checkLost(cluster, lost, directory)
  const files = filesOf(directory)
  const found: FoundLun[] = []
  const absent: string[] = []
  for (const { name: storage } of cluster.storages) {
    const lun = await lunOf(files, directory, storage, volume, lost.includes(storage))
    if (lun === 'absent') absent.push(storage)
    else if (lun !== null) found.push(lun)
  }
  if (found.length === 0) {
    throw new StellwerkError('unknown-volume', `no storage of the cluster has a LUN "${volume}"`, {
      where: directory,
      hint: `name the volume as \`stellwerk volume list\` did${elsewhere(cluster)}`,
    })
  }
  const legs = await openCounting(volume, found, mayMiss(cluster, absent, lost))
  return opened(legs, Math.max(0, ...legs.map(({ opened }) => opened)))
}

function checkLost({ storages, external = [] }: ClusterFile, lost: readonly string[], directory: string): void {
  const known = [...storages, ...external].map(({ name }) => name)
  const unknown = lost.find(name => !known.includes(name))
  if (unknown === undefined) return
  throw new StellwerkError('unknown-storage', `the cluster has no storage "${unknown}"`, {
    where: directory,
    hint: `known: ${known.join(', ')}`,
  })
}

/** Whether a leg that is nowhere was on a storage that is said to be lost: no other one is away that it could be on. */
function mayMiss({ external = [] }: ClusterFile, absent: readonly string[], lost: readonly string[]): boolean {
  const isExternal = external.some(({ name }) => lost.includes(name))
  return absent.every(name => lost.includes(name)) && (absent.length > 0 || isExternal)
}

/** Null: this storage has none of that name; `absent`: what it had cannot be told, or its data is gone, as an operator says. */
async function lunOf(
  files: Files,
  directory: string,
  storage: string,
  volume: string,
  isLost: boolean,
): Promise<FoundLun | 'absent' | null> {
  if (!(await files.list(storage)).includes('state.sqlite')) return 'absent'
  const store = openSqliteStore(join(directory, storage, 'state.sqlite'))
  const marks = store.get(`lun/${volume}`)
  store.close()
  if (marks === undefined) return null
  if (!isLunMarks(marks)) {
    throw new StellwerkError('corrupt-state', `the mark of LUN "${volume}" can't be read`, { where: storage })
  }
  try {
    return { storage, device: await dataFileOf(files, storage, marks.id), marks }
  } catch (error) {
    if (isLost && errorCode(error) === 'missing-file') return 'absent'
    throw error
  }
}

async function dataFileOf(files: Files, storage: string, id: string): Promise<FileDevice> {
  const path = `${storage}/luns/${id}.data`
  try {
    return await FileDevice.open(files, path)
  } catch (error) {
    if (errorCode(error) !== 'missing-file') throw error
    throw new StellwerkError('missing-file', `the LUN's data file is gone from ${storage}`, {
      where: path,
      hint: 'put it back; or start the cluster, which goes on with the other leg of a mirror',
      cause: error,
    })
  }
}

/** What lies on an external storage is no file of the cluster's. */
function elsewhere({ external = [] }: ClusterFile): string {
  const [first] = external.flatMap(({ portals }) => portals)
  if (first === undefined) return ''
  const where = external.map(({ name }) => name).join(', ')
  return `; one on ${where} is looked at there: nbd://${first.host}:${first.port}/EXPORT`
}

interface FoundLun {
  readonly storage: string
  readonly device: FileDevice
  readonly marks: LunMarks
}

interface CountingLeg extends Leg {
  readonly opened: number
}

/** The legs that hold all of the volume, but for what only a lost one had; the others are closed. Throws `leg-missing`. */
async function openCounting(volume: string, found: readonly FoundLun[], mayMiss: boolean): Promise<CountingLeg[]> {
  const known = await Promise.all(found.map(async each => ({ ...each, leg: await legIdOf(each.device) })))
  const { counting, missing } = countingLegs(known)
  const suffices = missing.length === 0 || (mayMiss && counting.length > 0)
  for (const each of known) if (!suffices || !counting.includes(each)) await each.device.close()
  if (suffices) {
    return counting.map(({ storage, device, marks }) => ({ id: storage, device, opened: marks.opened ?? 0 }))
  }
  throw new StellwerkError('leg-missing', `${missing.join(', ')} of volume "${volume}" is not here`, {
    where: `the storages with files: ${found.map(({ storage }) => storage).join(', ')}`,
    hint: 'bring back the storage that has it; what is here may lack what only that one had',
  })
}

/** Null: its superblock can't be read; whoever looks closer says why. */
async function legIdOf(device: FileDevice): Promise<string | null> {
  const copies = await readSuperblockCopies(device, OWNER_IO)
  for (const copy of copies) if (typeof copy !== 'string') return copy.legId
  return null
}

/** LUNs that lie in plain files. */
export async function legsInFiles(paths: readonly string[]): Promise<OpenLegs> {
  const legs: Leg[] = []
  for (const path of paths) {
    const at = path.lastIndexOf('/')
    const files = filesOf(at < 0 ? '.' : path.slice(0, at) || '/')
    legs.push({ id: path, device: await named(path, FileDevice.open(files, path.slice(at + 1))) })
  }
  return opened(legs)
}

/** Errors name the file as the user did. */
async function named<T>(path: string, opening: Promise<T>): Promise<T> {
  try {
    return await opening
  } catch (error) {
    const isDirectory = errorCode(error) === 'EISDIR'
    if (errorCode(error) !== 'missing-file' && !isDirectory) throw error
    throw new StellwerkError('missing-file', isDirectory ? 'that is a directory' : 'there is no such file', {
      where: path,
      hint: "name a LUN's data file: DIR/STORAGE/luns/ID.data",
      cause: error,
    })
  }
}

/** LUNs that NBD servers have. */
export async function legsAtUris(
  env: Pick<Environment, 'network' | 'timers'>,
  uris: readonly string[],
): Promise<OpenLegs> {
  const legs: Leg[] = []
  const { close } = opened(legs)
  try {
    for (const uri of uris) legs.push({ id: uri, device: await connect(env, uri) })
  } catch (error) {
    await close()
    throw error
  }
  return { legs, leastOwnerEpoch: 0, close }
}

async function connect(env: Pick<Environment, 'network' | 'timers'>, uri: string): Promise<Leg['device']> {
  const { address, exportName } = parseNbdUri(uri)
  try {
    return await connectNbd(await env.network.dialStream(address), { exportName, timers: env.timers })
  } catch (error) {
    if (!(error instanceof StellwerkError)) throw error
    const hint =
      error instanceof NbdRefusal ? 'see what it offers: nbdinfo --list' : 'is the server there, and does it speak NBD?'
    throw new StellwerkError(error.code, errorMessage(error), { where: uri, hint, cause: error })
  }
}

function opened(legs: readonly Leg[], leastOwnerEpoch = 0): OpenLegs {
  const close = async () => {
    for (const { device } of legs) await device.close()
  }
  return { legs, leastOwnerEpoch, close }
}
