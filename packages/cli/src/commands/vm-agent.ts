// What `vm show` says of the agent in a guest, and of what that tells.

import type { VmView } from '@stellwerk/coordinator/view/schemas.ts'

/** None for what is no real machine. */
export function agentFacts({ guestAgent }: Pick<VmView, 'guestAgent'>): [string, string][] {
  if (guestAgent === null) return []
  const { state, version, hostName, os, interfaces } = guestAgent
  const facts: [string, string][] = [['agent', version === null ? state : `${state} (${version})`]]
  if (hostName !== null) facts.push(['  host name', hostName])
  if (os !== null) facts.push(['  system', os])
  for (const { name, mac, addresses } of interfaces) {
    facts.push([`  ${name}`, [...(mac === null ? [] : [mac]), ...addresses].join(', ')])
  }
  return facts
}
