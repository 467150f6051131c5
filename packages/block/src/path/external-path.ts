// A path to an export of any NBD server, which knows nothing of sessions: it drains nobody before it answers a handshake.
// So a write that was lost with its connection is repeated only after it has had its time to arrive (`Quiet`), and what is
// in flight in an older session is given its time first. That is patience, not proof: docs/FAULTS.md says what it leaves.

import type { Address, Clock, Network, Timers } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { type BlockDevice, type BlockExtent, type DeviceState, FULL_CAPS, type Io } from '../device.ts'
import { connectNbd, type NbdClient, NbdError } from '../nbd/client.ts'
import type { PathDevice, PathTransport } from './transport.ts'

/** Addresses and lengths of a volume are multiples of this: a server that wants more can't have one. */
const BLOCK_BYTES = 4096
/** How often an attempt to connect looks whether it may. */
const LOOK_MS = 20

/** What of one LUN is, or was a moment ago, on its way to its server from this host. */
export class Quiet {
  readonly #open = new Set<ExternalConnection>()
  #until = Number.NEGATIVE_INFINITY

  add(connection: ExternalConnection): void {
    this.#open.add(connection)
  }

  /** `writing`: with writes of unknown outcome. */
  remove(connection: ExternalConnection, writing: boolean, until: number): void {
    if (this.#open.delete(connection) && writing) this.#until = Math.max(this.#until, until)
  }

  /** Of sessions below this one. */
  writing(session: number): ExternalConnection[] {
    return [...this.#open].filter(connection => connection.session < session && connection.writes > 0)
  }

  isQuiet(session: number, now: number): boolean {
    return now >= this.#until && this.writing(session).length === 0
  }
}

export interface ExternalPathOptions {
  readonly name: string
  readonly network: Network
  readonly clock: Clock
  readonly timers: Timers
  readonly address: Address
  readonly probe: () => Promise<void>
  readonly dialTimeoutMs: number
  /** The server's opening of the export: nobody is drained for it. */
  readonly openTimeoutMs: number
  /** What a lost write may take to arrive. */
  readonly quietMs: number
  readonly quiet: Quiet
  /** The session that is connected for. */
  readonly session: () => number
  /** The least size. */
  readonly sizeBytes: number
}

export function externalPath(options: ExternalPathOptions): PathTransport {
  const { name, network, clock, timers, address, quiet } = options
  return {
    name,
    priority: 0,
    probe: options.probe,
    async connect(exportName: string, signal: AbortSignal): Promise<PathDevice> {
      const session = options.session()
      await untilQuiet(options, session, signal)
      const stream = await network.dialStream(address, { timeoutMs: options.dialTimeoutMs })
      if (signal.aborted) {
        stream.destroy()
        throw cancelled(name)
      }
      const { openTimeoutMs } = options
      const client = await connectNbd(stream, { exportName, timers, signal, openTimeoutMs })
      const misfit = misfitOfExport(client, options.sizeBytes)
      if (misfit !== null) {
        client.abort(misfit)
        throw new StellwerkError('export-unfit', misfit, { where: `${exportName} at ${client.peer}` })
      }
      return new ExternalConnection(client, options.sizeBytes, session, quiet, () => clock.now() + options.quietMs)
    },
  }
}

function cancelled(name: string): NbdError {
  return new NbdError('nbd-cancelled', 'the attempt to connect was given up', name)
}

async function untilQuiet(options: ExternalPathOptions, session: number, signal: AbortSignal): Promise<void> {
  const { name, clock, timers, quiet, quietMs } = options
  const patienceEnds = clock.now() + quietMs
  while (!quiet.isQuiet(session, clock.now())) {
    if (signal.aborted) throw cancelled(name)
    if (clock.now() >= patienceEnds)
      for (const old of quiet.writing(session)) old.abort(`session ${session} takes over`)
    await new Promise<void>(resolve => timers.after(LOOK_MS, resolve))
  }
}

/** What keeps an export from being a leg of a volume that several hosts have open; null: nothing. */
export function misfitOfExport({ size, limits, caps }: BlockDevice, sizeBytes: number): string | null {
  if (caps.readOnly) return 'it is read-only'
  if (size < sizeBytes) return `it has ${size} bytes, less than the ${sizeBytes} of the volume`
  if (!caps.flush) return 'it does not offer flush (SEND_FLUSH): what is acknowledged could be lost'
  if (!caps.fua) return 'it does not offer FUA (SEND_FUA): what is acknowledged could be lost'
  if (!caps.zero) return 'it does not offer to write zeroes (SEND_WRITE_ZEROES)'
  if (!caps.multiConn) return 'it does not keep several connections coherent (CAN_MULTI_CONN): hosts share it'
  if (limits.minimum > BLOCK_BYTES) return `it takes only blocks of ${limits.minimum} bytes, more than ${BLOCK_BYTES}`
  return null
}

/**
 * It offers what an embedded leg does, with what the server has: trimmed ranges read as zeroes, as on the other leg of a
 * mirror; zeroing that should be fast takes the time it takes; where nothing is known everything counts as data.
 */
export class ExternalConnection implements PathDevice {
  /** The volume's, however large the export is. */
  readonly size: number
  readonly limits: PathDevice['limits']
  /** As a leg of the embedded kind: the layers above have seen that, whichever leg of a mirror was there first. */
  readonly caps = FULL_CAPS
  readonly session: number
  /** In flight, that change something. */
  writes = 0
  readonly #client: NbdClient

  constructor(client: NbdClient, sizeBytes: number, session: number, quiet: Quiet, quietUntil: () => number) {
    this.#client = client
    this.session = session
    this.size = sizeBytes
    this.limits = client.limits
    quiet.add(this)
    // Told before what was in flight is settled.
    client.onState(state => {
      if (state === 'closed') quiet.remove(this, this.writes > 0, quietUntil())
    })
  }

  read(offset: number, length: number, io: Io): Promise<Uint8Array[]> {
    return this.#client.read(offset, length, io)
  }

  write(offset: number, data: readonly Uint8Array[], flags: { readonly fua?: true }, io: Io): Promise<void> {
    return this.#counted(this.#client.write(offset, data, flags, io))
  }

  flush(io: Io): Promise<void> {
    return this.#client.flush(io)
  }

  zero(
    offset: number,
    length: number,
    flags: { readonly fua?: true; readonly noHole?: true; readonly fast?: true },
    io: Io,
  ): Promise<void> {
    const { fast, ...others } = flags
    const kept = fast === true && this.#client.caps.fastZero ? flags : others
    return this.#counted(this.#client.zero(offset, length, kept, io))
  }

  trim(offset: number, length: number, flags: { readonly fua?: true }, io: Io): Promise<void> {
    return this.#counted(this.#client.zero(offset, length, flags, io))
  }

  async blockStatus(offset: number, length: number, io: Io): Promise<BlockExtent[]> {
    return (await this.#client.blockStatus?.(offset, length, io)) ?? [{ length, hole: false, zero: false }]
  }

  onState(listener: (state: DeviceState, reason: string) => void): void {
    this.#client.onState(listener)
  }

  close(): Promise<void> {
    return this.#client.close()
  }

  abort(reason: string): void {
    this.#client.abort(reason)
  }

  async #counted(request: Promise<void>): Promise<void> {
    this.writes += 1
    try {
      await request
    } finally {
      this.writes -= 1
    }
  }
}
