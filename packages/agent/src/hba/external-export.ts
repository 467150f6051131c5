// Exports of external storages: their names, and whether one can be a leg, as an operator is told who is about to make one.

import type { BlockDevice } from '@stellwerk/block/device.ts'
import { connectNbd, type NbdClient, NbdRefusal } from '@stellwerk/block/nbd/client.ts'
import { misfitOfExport } from '@stellwerk/block/path/external-path.ts'
import { OWNER_IO } from '@stellwerk/csv/format/device-io.ts'
import { readSuperblockCopies } from '@stellwerk/csv/format/superblock.ts'
import type { CheckExport, ClusterMap, ClusterMapStorage } from '@stellwerk/protocol/messages/cluster.ts'
import type { Message } from '@stellwerk/runtime/actors/message.ts'
import type { Environment, NetworkName } from '@stellwerk/runtime/environment.ts'
import { errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { HostParts } from '../host-parts.ts'

export function exportOf(storage: ClusterMapStorage, lun: string): string {
  return storage.external?.exports.find(each => each.lun === lun)?.export ?? lun
}

export interface ExportCheckOptions {
  readonly env: Pick<Environment, 'network' | 'timers'>
  readonly hbas: readonly NetworkName[]
  readonly storages: readonly ClusterMapStorage[]
  readonly timeoutMs: number
}

/** Throws what it lacks, in a line for whoever asked. */
export async function checkExport(options: ExportCheckOptions, wanted: CheckExport): Promise<{ sizeBytes: number }> {
  const storage = options.storages.find(each => each.name === wanted.storage)
  if (storage?.external === undefined) {
    throw new StellwerkError('unknown-storage', `no external storage "${wanted.storage}" is known to this host yet`, {
      retryable: true,
    })
  }
  const name = exportOf(storage, wanted.lun)
  const client = await open(options, storage, name)
  try {
    const misfit = misfitOfExport(client, wanted.sizeBytes) ?? (await whatItCarries(client, wanted))
    if (misfit !== null) {
      throw new StellwerkError(
        'export-unfit',
        `export "${name}" of storage "${wanted.storage}" can't be used: ${misfit}`,
        {
          where: client.peer,
          hint: 'mend it at the NBD server, or name another storage',
        },
      )
    }
    return { sizeBytes: client.size }
  } finally {
    await client.close()
  }
}

/** `storage.check-export`, asked of this host. */
export function answerCheck(
  { env, config, system }: Pick<HostParts, 'env' | 'config' | 'system'>,
  map: ClusterMap | null,
  timeoutMs: number,
  message: Message,
): void {
  const options = { env, hbas: config.hbas, storages: map?.storages ?? [], timeoutMs }
  checkExport(options, message.body as CheckExport).then(
    reply => system.reply(message, reply),
    (error: unknown) => system.fail(message, error),
  )
}

async function open(
  { env, hbas, timeoutMs }: ExportCheckOptions,
  storage: ClusterMapStorage,
  exportName: string,
): Promise<NbdClient> {
  let why = 'none of its portals is on a network that this host has'
  for (const address of storage.portals) {
    if (!hbas.includes(address.network)) continue
    try {
      const stream = await env.network.dialStream(address, { timeoutMs })
      const { timers } = env
      return await connectNbd(stream, { exportName, timers, handshakeTimeoutMs: timeoutMs, openTimeoutMs: timeoutMs })
    } catch (error) {
      if (error instanceof NbdRefusal) {
        const message = `storage "${storage.name}" does not open export "${exportName}": ${errorMessage(error)}`
        throw new StellwerkError('no-export', message, {
          where: `${address.host}:${address.port}`,
          hint: "name the export in the storage's `exports`, or make it at the NBD server",
          cause: error,
        })
      }
      why = errorMessage(error)
    }
  }
  throw new StellwerkError('storage-unreachable', `no NBD server answers for storage "${storage.name}": ${why}`, {
    hint: 'start it, or mend the addresses of its portals; see: stellwerk path list',
  })
}

/** Another volume, whose bytes would be lost, or a leg that the volume has already: the same bytes twice are no mirror. */
async function whatItCarries(client: BlockDevice, { volumeId, legs }: CheckExport): Promise<string | null> {
  for (const copy of await readSuperblockCopies(client, OWNER_IO)) {
    if (copy === 'unreadable') return 'it cannot be read where a volume would have its superblock'
    if (copy === 'blank') continue
    if (typeof copy === 'string' || copy.layout.volumeId !== volumeId) {
      return 'it carries a volume already; if that is of no more use, overwrite its first MiB with zeroes'
    }
    if (legs.includes(copy.legId))
      return `it is ${copy.legId} of this volume by another name, or a copy of it; of a copy, overwrite the first MiB with zeroes`
  }
  return null
}
