// A path made of one HBA's network and one portal: dials, opens the export, hands over the connection. Whether and when
// it is dialled again is the path core's decision.

import type { Address, Network, Timers } from '@stellwerk/runtime/environment.ts'
import { connectNbd, NbdError } from '../nbd/client.ts'
import type { PathDevice, PathTransport } from './transport.ts'

export interface NbdPathOptions {
  readonly name: string
  readonly priority: number
  readonly network: Network
  readonly timers: Timers
  readonly address: Address
  /** One question to the subsystem on this path's network, answered from memory; rejects when there is no answer. */
  readonly probe: () => Promise<void>
  readonly dialTimeoutMs?: number
  readonly handshakeTimeoutMs?: number
  /** For the opening of the export, during which the server drains others; null (default): no limit. */
  readonly openTimeoutMs?: number | null
}

export function nbdPath(options: NbdPathOptions): PathTransport {
  const { name, priority, network, timers, address, probe } = options
  return {
    name,
    priority,
    probe,
    async connect(exportName: string, signal: AbortSignal): Promise<PathDevice> {
      const stream = await network.dialStream(
        address,
        options.dialTimeoutMs === undefined ? {} : { timeoutMs: options.dialTimeoutMs },
      )
      if (signal.aborted) {
        stream.destroy()
        throw new NbdError('nbd-cancelled', 'the attempt to connect was given up', name)
      }
      return connectNbd(stream, {
        exportName,
        timers,
        signal,
        ...(options.handshakeTimeoutMs === undefined ? {} : { handshakeTimeoutMs: options.handshakeTimeoutMs }),
        openTimeoutMs: options.openTimeoutMs ?? null,
      })
    },
  }
}
