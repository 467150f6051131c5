// Whose guardian a host's is. The first one whose agent joins under a host's name is the host's from then on, over all its
// restarts: another machine of the same name must not take the host over, and what its guardian says of its own agents is
// no word on those that were admitted. Only an operator who removes the host and adds it again lets another in.

import type { CoordinatorState, HostRecord } from './state.ts'

/** Another guardian is known as the host's. A record of before a restore knows none: the first to come is taken. */
export function isForeignGuardian(state: CoordinatorState, host: string, guardian: string | undefined): boolean {
  const known = state.hosts.get(host)?.guardian
  return known !== undefined && known !== guardian
}

export function foreignGuardian(host: string): { readonly code: string; readonly message: string } {
  return {
    code: 'foreign-guardian',
    message:
      `another machine is host "${host}" of this cluster (its guardian has another identity); take another name, or ` +
      `let this one take its place: stellwerk host remove ${host} && stellwerk host add ${host}`,
  }
}

/** An attestation is of agents that this guardian started: of others, and where none was admitted yet, it says nothing. */
export function attests(state: CoordinatorState, host: string, guardian: string | undefined): boolean {
  return state.hosts.get(host)?.guardian === guardian
}

/** The operator adds the host again: whoever is connected is who is meant, and where nobody is, whoever comes first. */
export function unbindGuardian(host: HostRecord, isConnected: boolean): HostRecord {
  if (isConnected) return host
  const { guardian: _, ...rest } = host
  return rest
}
