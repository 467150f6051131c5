// How the bench's servers reach LUNs: as an agent does where the embedded subsystem has them, over one plain path where
// nbdkit has.

import { openLun } from '@stellwerk/agent/hba/lun.ts'
import { LunSessions } from '@stellwerk/agent/hba/lun-sessions.ts'
import { StorageLinks } from '@stellwerk/agent/hba/storage-links.ts'
import { type MultipathDevice, openMultipath, type PathRefusal } from '@stellwerk/block/path/multipath.ts'
import { nbdPath } from '@stellwerk/block/path/nbd-path.ts'
import type { MetadataRanges } from '@stellwerk/csv/format/layout.ts'
import { PROFILES } from '@stellwerk/protocol/settings.ts'
import type { Address } from '@stellwerk/runtime/environment.ts'
import type { NodeEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { BENCH_HOST, benchIdentity } from './config.ts'

export interface BenchLun {
  readonly storage: string
  readonly name: string
  readonly socket: string
  /** The embedded subsystem's control link; null: a plain NBD server, which knows no epochs. */
  readonly controlSocket: string | null
}

export interface OpenAs {
  readonly generation?: number
  /** Null: as the host. */
  readonly owner: number | null
  readonly signal?: AbortSignal
  readonly onRefused: (refusal: PathRefusal) => void
}

export const HOST_EPOCH = 1
const LAYOUT_MS = 5_000
const RETRY_MS = 20
export const settings = PROFILES.lab

export class LunPaths {
  readonly #env: NodeEnvironment
  readonly #links: StorageLinks
  readonly #sessions = new LunSessions({ incarnation: 1 })

  constructor(env: NodeEnvironment, luns: readonly BenchLun[], onRefused: (why: string) => void) {
    this.#env = env
    this.#links = new StorageLinks({
      env,
      identity: benchIdentity(BENCH_HOST),
      hbas: ['local'],
      epoch: () => HOST_EPOCH,
      onReached: () => undefined,
      luns: () => [],
      onBehind: () => undefined,
      onProbed: () => undefined,
      onRefused: (_epoch, why) => onRefused(why),
    })
    this.#links.follow(luns.filter(lun => lun.controlSocket !== null).map(storageOf))
  }

  open(lun: BenchLun, { generation = 0, owner, signal, onRefused }: OpenAs): Promise<MultipathDevice> {
    const env = this.#env
    if (lun.controlSocket === null) return this.#openPlain(lun, onRefused, signal)
    const access = {
      ...{ env, host: BENCH_HOST, hbas: ['local'] as const, links: this.#links, sessions: this.#sessions, settings },
      ...{ redirects: null, luns: null },
    }
    return openLun(access, {
      ...{ storage: storageOf(lun), lun: lun.name, epoch: HOST_EPOCH, generation, sizeBytes: 0, owner, onRefused },
      signal: signal ?? new AbortController().signal,
    })
  }

  #openPlain(
    lun: BenchLun,
    onRefused: (refusal: PathRefusal) => void,
    signal: AbortSignal | undefined,
  ): Promise<MultipathDevice> {
    const { network, timers, clock } = this.#env
    let session = 1
    return openMultipath({
      paths: [
        nbdPath({
          ...{ name: `local/${lun.storage}`, priority: 0, network, timers, address: local(lun.socket) },
          probe: () => Promise.resolve(),
        }),
      ],
      exportName: () => lun.name,
      session,
      raiseSession: () => ++session,
      clock,
      timers,
      config: { requestDeadlineMs: settings.ioDeadlineMs, probeIntervalMs: settings.heartbeatMs },
      onRefused,
      ...(signal === undefined ? {} : { signal }),
    })
  }

  /** As the agent's owner does: only owner connections may write the metadata, and a slot only its host's. */
  async register(lun: BenchLun, ownerEpoch: number, ranges: MetadataRanges): Promise<void> {
    if (lun.controlSocket === null) return
    const body = { lun: lun.name, ownerEpoch, host: BENCH_HOST, epoch: HOST_EPOCH, ...ranges }
    for (;;) {
      try {
        await this.#links.relay(lun.storage, 'storage.layout', body, LAYOUT_MS)
        return
      } catch (error) {
        if ((error as { code?: string }).code !== 'no-path') throw error
      }
      // The control link is still being dialled.
      await new Promise<void>(resolve => this.#env.timers.after(RETRY_MS, resolve))
    }
  }
}

export function local(path: string): Address {
  return { network: 'local', host: path, port: 0 }
}

function storageOf({ storage, socket, controlSocket }: BenchLun) {
  return { name: storage, portals: [local(socket)], control: [local(controlSocket ?? '')] }
}
