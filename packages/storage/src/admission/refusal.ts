// Why the subsystem says no. The code is API: it begins the NBD error message and is the code of a control reply, so that
// agents and the coordinator can tell what to do (a host refused by epoch kills its machines).

import { StellwerkError } from '@stellwerk/runtime/errors.ts'

export type RefusalCode =
  /** The epoch was fenced or replaced: whoever still uses it must stop and never use it again. */
  | 'epoch-refused'
  /** The host is unknown, fenced, or its new epoch is not opened yet. */
  | 'not-admitted'
  /** The host has opened a higher session on this LUN. */
  | 'session-superseded'
  /** The LUN's mirror is at another generation: `generation-refused <stored> <legs as JSON>`. */
  | 'generation-refused'
  /** A higher owner epoch was seen, or this one belongs to another host. */
  | 'owner-superseded'
  | 'unknown-lun'
  | 'bad-export-name'
  /** The LUN is not shown to whoever asks. */
  | 'lun-masked'
  /** The LUN's files can't be trusted; nothing is served from it until the subsystem is started again. */
  | 'lun-failed'
  /** An order of a coordinator that has been replaced. */
  | 'stale-term'
  /** A coordinator's run began with a copy of its state. */
  | 'older-state'
  | 'lun-exists'
  | 'lun-busy'
  | 'lun-deleted'
  /** The storage's own state can't be written. */
  | 'store-failed'
  | 'bad-size'
  | 'bad-layout'
  /** A write to metadata, or to another host's slot, over a connection that is not the owner's. */
  | 'owner-only'
  | 'limit-reached'
  /** Whoever asked has gone while the answer was being made. */
  | 'gone'

export interface Refusal {
  readonly code: RefusalCode
  /** Begins with the code. */
  readonly message: string
  readonly hint?: string
}

export function refusal(code: RefusalCode, detail: string, hint?: string): Refusal {
  return { code, message: `${code} ${detail}`, ...(hint === undefined ? {} : { hint }) }
}

export function refusalError(of: Refusal): StellwerkError {
  return new StellwerkError(of.code, of.message, of.hint === undefined ? {} : { hint: of.hint })
}
