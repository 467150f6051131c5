// What an agent is started with.

import type { Address, NetworkName } from '@stellwerk/runtime/environment.ts'
import type { Survivor } from './guardian/pipe.ts'

export interface AgentConfig {
  readonly cluster: string
  readonly token: string
  readonly host: string
  /** Counted by the guardian; higher at each start. */
  readonly incarnation: number
  /** The identity of the guardian that started it. */
  readonly guardian: string
  readonly coordinator: Address
  /** Where peers and the coordinator's sessions reach it, on the cluster network. */
  readonly listen: Address
  /** Where peers' virtual switches reach its own, on the guest network; absent: it is not on it, and runs no VM with a card. */
  readonly guest?: Address
  /** Networks of the guests that are bridges of this host's, by name: for root. */
  readonly bridges?: { readonly [network: string]: string }
  /** Where lasting forwards listen that name no address of their own; absent: on loopback. */
  readonly forwardAddress?: string
  /** Where these are reached, if that is elsewhere than where it listens. */
  readonly advertised?: { readonly control: Address; readonly guest?: Address }
  readonly memoryBytes: number
  /** The host's HBAs: the fabrics it has a cable to. */
  readonly hbas: readonly NetworkName[]
  /** What this host can run. */
  readonly hypervisors: readonly ('wasm' | 'model' | 'qemu')[]
  /** Machines of earlier agents that still run. */
  readonly survivors?: readonly Survivor[]
  /** The highest number that the guardian has given to a program. */
  readonly lastProgram?: number
}
