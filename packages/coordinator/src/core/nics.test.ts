import { expect, test } from 'vitest'
import { type AskedNic, nicsFor } from './nics.ts'
import type { CoordinatorState } from './state.ts'

const TAKEN = '52:54:00:aa:bb:cc'
const state = {
  vms: new Map([['other', { name: 'other', spec: { nics: [{ network: 'lan', mac: TAKEN, addresses: [] }] } }]]),
} as unknown as CoordinatorState
const nic = (facts: Partial<AskedNic> = {}): AskedNic => ({ network: 'lan', mac: null, addresses: [], ...facts })

test('a card without an address gets one of its own, the same for the same VM', () => {
  const nics = nicsFor(state, 'web', [nic(), nic({ network: 'dmz' })])
  expect(nics).toMatchObject([{ network: 'lan' }, { network: 'dmz' }])
  expect(nicsFor(state, 'web', [nic(), nic()])).toMatchObject((nics as { mac: string }[]).map(({ mac }) => ({ mac })))
  const macs = new Set<string>()
  for (let i = 0; i < 2_000; i += 1) {
    const made = nicsFor(state, `vm-${i}`, [nic()]) as { mac: string }[]
    macs.add(made[0]!.mac)
  }
  expect(macs.size).toBeGreaterThan(1_990)
})

test('a made address that is taken gives way to another', () => {
  const [first] = nicsFor(state, 'web', [nic()]) as { mac: string }[]
  const taken = {
    vms: new Map([['other', { name: 'other', spec: { nics: [{ network: 'lan', mac: first!.mac, addresses: [] }] } }]]),
  } as unknown as CoordinatorState
  const [second] = nicsFor(taken, 'web', [nic()]) as { mac: string }[]
  expect(second!.mac).not.toBe(first!.mac)
})

test.each([
  ['mac-in-use', [nic({ mac: TAKEN.toUpperCase() })]],
  ['mac-in-use', [nic({ mac: '52:54:00:00:00:01' }), nic({ mac: '52:54:00:00:00:01' })]],
  ['bad-mac', [nic({ mac: 'ff:ff:ff:ff:ff:ff' })]],
  ['bad-address', [nic({ addresses: ['10.0.0.256'] })]],
  ['bad-name', [nic({ network: 'a lan' })]],
  ['bad-machine', Array.from({ length: 9 }, () => nic())],
])('%s', (code, asked) => {
  expect(nicsFor(state, 'web', asked)).toMatchObject({ code })
})
