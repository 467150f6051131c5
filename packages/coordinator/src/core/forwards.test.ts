// Which host opens a way to a guest, by which address, and why none can.

import { expect, test } from 'vitest'
import { type ForwardRequest, routeForward, screenHost } from './forwards.ts'
import type { CoordinatorState, VmRecord } from './state.ts'

interface Given {
  readonly up?: boolean
  readonly guest?: boolean
  readonly whyNoQemu?: string | null
}

function stateOf(hosts: { readonly [name: string]: Given }, addresses: readonly string[] = []): CoordinatorState {
  const names = Object.entries(hosts)
  return {
    hosts: new Map(
      names.map(([name, { guest = true }]) => [
        name,
        {
          name,
          phase: 'admitted',
          removed: false,
          ...(guest ? { guest: { network: 'guest', host: '10.9.0.1', port: 1 } } : {}),
        },
      ]),
    ),
    liveHosts: new Map(
      names.map(([name, { up = true, whyNoQemu = null }]) => [
        name,
        { session: up ? {} : null, verdict: 'up', whyNoQemu },
      ]),
    ),
    vms: new Map(addresses.map((address, i) => [`vm-${i}`, vmOf([address], `vm-${i}`)])),
  } as unknown as CoordinatorState
}

function vmOf(addresses: readonly string[] | null, name = 'web'): VmRecord {
  const nics = addresses === null ? [] : [{ network: 'lan', mac: '52:54:00:00:00:01', addresses }]
  return { name, spec: { nics } } as unknown as VmRecord
}

const ask = (more: Partial<ForwardRequest> = {}): ForwardRequest => ({ address: null, bits: 24, host: null, ...more })

test('each host has an address of its own at the top of the network, those of cards left out', () => {
  const state = stateOf({ 'host-a': {}, 'host-b': {} }, ['10.0.0.254', '10.0.0.252'])
  const route = (host: string) => routeForward(state, vmOf(['10.0.0.7']), ask({ host }))
  expect(route('host-a')).toEqual({ host: 'host-a', network: 'lan', guest: '10.0.0.7', gateway: '10.0.0.253' })
  expect(route('host-b')).toMatchObject({ host: 'host-b', gateway: '10.0.0.251' })
})

test('the first host that is up, has QEMU and is on the guest network', () => {
  const state = stateOf({
    'host-a': { up: false },
    'host-b': { whyNoQemu: 'none' },
    'host-c': { guest: false },
    'host-d': {},
  })
  expect(routeForward(state, vmOf(['10.0.0.7']), ask()).host).toBe('host-d')
})

test('an address that is said counts, in the network of the size that is said', () => {
  const state = stateOf({ 'host-a': {} })
  const { guest, gateway } = routeForward(state, vmOf([]), ask({ address: '172.16.3.9', bits: 16 }))
  expect([guest, gateway]).toEqual(['172.16.3.9', '172.16.255.254'])
})

test.each([
  ['no-network', stateOf({ 'host-a': {} }), vmOf(null), ask()],
  ['no-address', stateOf({ 'host-a': {} }), vmOf([]), ask()],
  ['host-unfit', stateOf({ 'host-a': { whyNoQemu: 'none' } }), vmOf(['10.0.0.7']), ask()],
  ['host-unfit', stateOf({ 'host-a': {} }), vmOf(['10.0.0.7']), ask({ host: 'host-z' })],
  ['host-unfit', stateOf({ 'host-a': { guest: false } }), vmOf(['10.0.0.7']), ask({ host: 'host-a' })],
  [
    'no-address',
    stateOf(
      { 'host-a': {} },
      Array.from({ length: 14 }, (_, i) => `10.0.0.${i + 1}`),
    ),
    vmOf(['10.0.0.7']),
    ask({ bits: 28 }),
  ],
])('%s', (code, state, vm, request) => {
  expect(() => routeForward(state, vm, request)).toThrow(expect.objectContaining({ code }))
})

test('a screen is on the host that runs the VM, and a VM without one, or that does not run, is refused', () => {
  const vm = (screen: boolean, phase: string | null, hypervisor = 'qemu', desired = 'stopped') =>
    ({
      name: 'web',
      desired,
      spec: { hypervisor, parameters: screen ? { screen } : {} },
      placement: phase === null ? null : { host: 'host-b', phase },
    }) as unknown as VmRecord
  expect(screenHost(vm(true, 'running'))).toBe('host-b')
  expect(() => screenHost(vm(true, null))).toThrow(/not running/)
  expect(screenHost(vm(true, 'stopping'))).toBe('host-b')
  expect(() => screenHost(vm(true, null, 'qemu', 'running'))).toThrow(/not placed yet/)
  expect(() => screenHost(vm(false, 'running'))).toThrow(/no screen/)
  expect(() => screenHost(vm(true, 'running', 'wasm'))).toThrow(/no screen/)
})
