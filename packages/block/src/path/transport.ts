// What a path is made of: something that can be connected to an export, cut, and probed. An HBA's NBD connection is one,
// the redirected path over another host is just one more.

import type { BlockDevice } from '../device.ts'

/** A connected path: one connection, which never reconnects by itself. A lost one rejects with ESHUTDOWN. */
export interface PathDevice extends BlockDevice {
  /** Cuts the connection at once: what is in flight rejects with ESHUTDOWN. Idempotent. */
  abort(reason: string): void
}

export interface PathTransport {
  /** Unique in its set; for people: `fabric-0/san-a`. */
  readonly name: string
  /** Lower is better: direct paths before redirected ones. */
  readonly priority: number
  /** Connected only while no other path of the set can be used. Each connection may lead another way: see `via`. */
  readonly standby?: boolean
  /** The host that carries what is sent on it; null or absent: nobody does. */
  readonly via?: () => string | null
  /** What its connection leads over did not answer: the next one is to lead another way, if there is one. */
  readonly distrust?: () => void
  /**
   * Opens the export. When `signal` aborts, the attempt is given up: it rejects, and leaves no connection behind. A
   * server's refusal rejects with an NbdRefusal, whose message carries the refusal's code.
   */
  connect(exportName: string, signal: AbortSignal): Promise<PathDevice>
  /** Resolves if the other side answers on this path, from memory: a slow disk is not a dead path. */
  probe(): Promise<void>
}
