// May this claim be served, by the marks as they stand? One answer for handshakes, for connections that stand open when a
// mark is raised, and for probes. Pure.

import { canary } from '@stellwerk/runtime/canary.ts'
import { compareSessions, type HostClaim } from './export-name.ts'
import { type Refusal, refusal } from './refusal.ts'
import { type AdmissionState, NEVER, sessionKey } from './state.ts'

/** Null: the host may work at this epoch. */
export function judgeEpoch(state: AdmissionState, host: string, epoch: number): Refusal | null {
  if (canary('epoch-not-checked')) return null
  const { admitted, fenced } = state.hosts.get(host) ?? NEVER
  if (epoch <= fenced) {
    return refusal('epoch-refused', `epoch ${epoch} of host ${host} was fenced`, 'end what runs on it, then join anew')
  }
  if (epoch < admitted) {
    return refusal('epoch-refused', `epoch ${epoch} of host ${host} was replaced by ${admitted}`, 'join anew')
  }
  if (epoch > admitted) {
    return refusal('not-admitted', `host ${host} is not admitted at epoch ${epoch}`, 'the coordinator must admit it')
  }
  return null
}

/** Null: a connection to `lun` with this claim agrees with every mark (or names a higher session or owner epoch). */
export function judge(state: AdmissionState, lun: string, claim: HostClaim | null): Refusal | null {
  const marks = state.luns.get(lun)
  if (marks === undefined)
    return refusal('unknown-lun', `there is no LUN ${lun} here`, 'list them with storage.list-luns')
  if (marks.masked) return refusal('lun-masked', `LUN ${lun} is masked`, 'unmask it with storage.expose-lun')
  if (claim === null) {
    if (marks.open) return null
    return refusal(
      'lun-masked',
      `LUN ${lun} is not open to plain connections`,
      'name host, epoch, session and generation',
    )
  }
  if (marks.hosts !== null && !marks.hosts.includes(claim.host)) {
    return refusal(
      'lun-masked',
      `LUN ${lun} is not shown to host ${claim.host}`,
      'change its hosts with storage.expose-lun',
    )
  }
  const epoch = judgeEpoch(state, claim.host, claim.epoch)
  if (epoch !== null) return epoch
  if (claim.generation !== marks.generation) {
    // Told in full, so that the host can act on it: this is how it learns which legs are in sync.
    return refusal('generation-refused', `${marks.generation} ${JSON.stringify(marks.legs)}`)
  }
  const session = state.sessions.get(sessionKey(lun, claim))
  if (session !== undefined && compareSessions(claim.session, session) < 0) {
    return refusal(
      'session-superseded',
      `host ${claim.host} has opened session ${session.join('.')} on LUN ${lun}, after ${claim.session.join('.')}`,
    )
  }
  if (claim.owner !== null && !canary('owner-not-refused')) {
    if (claim.owner < marks.owner) {
      return refusal('owner-superseded', `LUN ${lun} has seen owner epoch ${marks.owner}, after ${claim.owner}`)
    }
    if (claim.owner === marks.owner && marks.ownerHost !== null && marks.ownerHost !== claim.host) {
      return refusal('owner-superseded', `owner epoch ${claim.owner} of LUN ${lun} belongs to host ${marks.ownerHost}`)
    }
  }
  return null
}
