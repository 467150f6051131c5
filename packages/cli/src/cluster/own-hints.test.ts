// Errors of a cluster's processes are told with the place in the cluster's own directory that they are about.

import { describeError, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { expect, test } from 'vitest'
import { hostName, newCluster, portsNeeded } from './layout.ts'
import { withOwnHint } from './own-hints.ts'

const ports = Array.from({ length: portsNeeded(2) }, (_, i) => 30_000 + i)
const FILE = newCluster({ cluster: 'c1', profile: 'lab', address: '127.0.0.1', hosts: 2, memoryBytes: 2 ** 30, ports })

const told = (process: string, code: string, where?: string): string => {
  const details = where === undefined ? {} : { where }
  return describeError(withOwnHint(new StellwerkError(code, 'it failed', details), process, '/c', FILE))
}

test.each([
  ['coordinator', FILE.coordinator.apiPort, 'coordinator.apiPort'],
  [`${hostName(1)}/agent`, FILE.hosts[1]?.port, 'hosts[1].port'],
  ['san-b', FILE.storages[1]?.portals['fabric-1'], 'storages[1].portals.fabric-1'],
])('a port of %s that is taken is told with its key', (process, port, key) => {
  expect(told(process, 'address-in-use', `127.0.0.1:${port}`)).toBe(
    `it failed (127.0.0.1:${port}); stop that process, or use another port: ${key} in /c/cluster.json`,
  )
})

test('a coordinator’s damaged state is told with the restore; what is not known here stays as it is', () => {
  expect(told('coordinator', 'corrupt-state', '/c/coordinator/state.sqlite')).toMatch(
    /; restore it .* move \/c\/coordinator away, and say: npx stellwerk cluster restore VOLUME$/,
  )
  expect(told('san-a', 'corrupt-state', '/c/san-a/state.sqlite')).toBe('it failed (/c/san-a/state.sqlite)')
  expect(told('coordinator', 'address-in-use', '127.0.0.1:1')).toBe('it failed (127.0.0.1:1)')
  expect(told('coordinator', 'address-in-use')).toBe('it failed')
})
