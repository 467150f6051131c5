// An order of the host's own to a storage's control link: over an HBA, or where none reaches it through a peer.

import { errorCode } from '@stellwerk/runtime/errors.ts'
import type { LunAccess } from './lun.ts'

/** What an HBA's link says when nobody is there. */
const UNREACHED = ['no-path', 'link-lost', 'deadline', 'link-busy']

export async function orderStorage(
  { links, redirects }: Pick<LunAccess, 'links' | 'redirects'>,
  { storage, lun }: { readonly storage: string; readonly lun: string },
  kind: string,
  body: unknown,
  deadlineMs: number,
): Promise<unknown> {
  try {
    return await links.relay(storage, kind, body, deadlineMs)
  } catch (error) {
    if (redirects === null || !UNREACHED.includes(errorCode(error))) throw error
    return redirects.relay(storage, lun, kind, body, deadlineMs)
  }
}
