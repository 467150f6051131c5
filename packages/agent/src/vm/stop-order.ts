// The order to stop a VM as an agent takes it, and how long an agent that is ended itself gives its guests.

/** An agent that is ended lets its guests shut down no longer than this: its guardian does not wait for ever. */
export const STOP_GRACE_MAX_MS = 10_000

export interface StopOrder {
  readonly vm: string
  readonly epoch: number
  readonly incarnation: number
  readonly graceMs: number
}
