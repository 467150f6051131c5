// A host says how it gets at its volumes; what has changed is on record, for operators who follow what happens.

import type { AccessReport, PathReport } from '@stellwerk/protocol/messages/cluster.ts'
import type { StepOutput } from './output.ts'
import type { HostLive } from './state.ts'

/** To be called before the host's word is taken over. */
export function noteAccess(
  live: HostLive,
  { host, access }: { readonly host: string; readonly access: readonly AccessReport[] },
  out: StepOutput,
): void {
  for (const { volume, storage, state, via, why } of access) {
    const before = live.access.find(each => each.volume === volume && each.storage === storage)
    if (before?.state === state && before.via === via) continue
    // That it is direct goes without saying, unless it was not.
    if (before === undefined && state === 'direct') continue
    out.trace({ level: 'decision', kind: `volume.${state}`, host, volume, body: { storage, via, why } })
  }
}

/** Likewise of paths over its HBAs: one that has failed, and one that is there again. */
export function notePaths(
  live: HostLive,
  { host, paths }: { readonly host: string; readonly paths: readonly PathReport[] },
  out: StepOutput,
): void {
  for (const { path, storage, state, why } of paths) {
    if (path.startsWith('redirected')) continue
    const before = live.paths.find(each => each.path === path)?.state
    const isBack = before === 'failed' && (state === 'up' || state === 'slow')
    if (!isBack && (state !== 'failed' || before === 'failed')) continue
    const kind = isBack ? 'hba.back' : 'hba.failed'
    out.trace({ level: 'decision', kind, host, body: { storage, path, why } })
  }
}
