// How lasting forwards are shown.

import type { ForwardView } from '@stellwerk/coordinator/view/schemas.ts'
import { expect, test } from 'vitest'
import { forwardFacts, forwardLines } from './vm-lasting-forward.ts'

const SSH: ForwardView = {
  ...{ forward: '2222', network: 'lan', guest: '10.0.0.7:22', bits: 24, on: 'all' },
  hosts: [
    { host: 'host-a', state: 'open', address: '127.0.0.1:2222', why: null },
    { host: 'host-b', state: 'closed', address: '127.0.0.1:2222', why: 'it is taken' },
    { host: 'host-c', state: 'opening', address: null, why: null },
  ],
}
const WEB: ForwardView = { ...SSH, forward: '10.9.0.1:80', guest: '10.0.0.7:80', on: 'vm', hosts: [] }

test('a line for each host, or one for a VM that is on none', () => {
  const lines = forwardLines([SSH, WEB].map(forward => ({ vm: 'web', ...forward })))
  expect(lines.map(line => line.split(/ {2,}/))).toEqual([
    ['FORWARD', 'VM', 'GUEST', 'ON', 'HOST', 'LISTENS', 'STATE'],
    ['2222', 'web', '10.0.0.7:22', 'all', 'host-a', '127.0.0.1:2222', 'open'],
    ['2222', 'web', '10.0.0.7:22', 'all', 'host-b', '127.0.0.1:2222', 'closed: it is taken'],
    ['2222', 'web', '10.0.0.7:22', 'all', 'host-c', '-', 'opening'],
    ['10.9.0.1:80', 'web', '10.0.0.7:80', 'vm', '-', '-', 'closed: the VM is on no host'],
  ])
})

test('with its VM it is one line', () => {
  const places =
    'open at 127.0.0.1:2222 on host-a, not open on host-b: it is taken; it is tried again, opening on host-c'
  expect(forwardFacts({ forwards: [SSH, WEB] })).toEqual([
    ['forward', `2222 to 10.0.0.7:22, ${places}`],
    ['forward', '10.9.0.1:80 to 10.0.0.7:80, when it runs'],
  ])
})
