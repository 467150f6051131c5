// Whether a cluster is whole by its own words.

import { errorCode, errorMessage } from '@stellwerk/runtime/errors.ts'
import type { ApiClient } from '../../api-client/client.ts'

/** What is not as it should be once nothing is broken, a line each. A quarantined host is up, and takes no VMs. */
export async function notWhole(api: ApiClient): Promise<string[]> {
  try {
    const { hosts, volumes, vms } = await api.status()
    return [
      ...Object.values(hosts)
        .filter(({ state }) => state !== 'up' && state !== 'quarantined')
        .map(({ name, state }) => `host ${name} is ${state}`),
      ...Object.values(volumes).flatMap(({ name, legs }) =>
        legs
          .filter(({ role }) => role !== 'in-sync')
          .map(({ leg, role, why }) => `volume ${name}: leg ${leg} is ${role}${why === null ? '' : ` (${why})`}`),
      ),
      ...Object.values(vms)
        .filter(({ state, desired }) => desired === 'running' && state !== 'running')
        .map(({ name, state, whyNot }) => `VM ${name} is ${state}${whyNot === null ? '' : ` (${whyNot})`}`),
    ]
  } catch (error) {
    return [`the coordinator does not answer: ${errorCode(error)} ${errorMessage(error)}`]
  }
}
