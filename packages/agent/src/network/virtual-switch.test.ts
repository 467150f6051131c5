// What a switch says by itself of a port that is plugged in: to whoever else is in its network.

import { etherTypeOf, formatMac, ipAnnouncement, parseMac, sourceOf } from '@stellwerk/protocol/ethernet.ts'
import { parseIpv4 } from '@stellwerk/protocol/ipv4.ts'
import type { Identity } from '@stellwerk/protocol/session.ts'
import { expect, test } from 'vitest'
import { createVirtualEnvironment } from '../hypervisor/testing/virtual-environment.ts'
import { VirtualSwitch } from './virtual-switch.ts'

const MAC = '52:54:00:00:00:07'
const OTHER = '52:54:00:00:00:08'
const identity = { node: 'host-a' } as Identity

function bench() {
  const { env } = createVirtualEnvironment(1)
  const network = new VirtualSwitch({ env, identity, listen: null, epoch: () => 1, isBridged: () => true })
  const port = (mac: string | null, addresses: string[] = []) =>
    network.port({ network: 'lan', mac, addresses, placementEpoch: 1, owner: mac ?? 'anybody' })
  const heard: Uint8Array[] = []
  const neighbour = port(OTHER)
  neighbour.onFrame(frame => heard.push(frame))
  neighbour.attach()
  const types = () => heard.map(frame => [formatMac(sourceOf(frame)), etherTypeOf(frame).toString(16)])
  return { network, port, heard, types }
}

test('a port announces its MAC, and each IP address that it is bound to, whenever it is attached', () => {
  const { port, heard, types } = bench()
  const card = port(MAC, ['10.0.0.7', '10.0.0.9'])
  card.attach()
  card.attach()
  const once = [
    [MAC, '8035'],
    [MAC, '806'],
    [MAC, '806'],
  ]
  expect(types()).toEqual(once)
  expect(heard.slice(1)).toEqual(['10.0.0.7', '10.0.0.9'].map(ip => ipAnnouncement(parseMac(MAC), parseIpv4(ip))))
  card.detach()
  card.attach()
  expect(types()).toEqual([...once, ...once])
})

test('of a port that may have any address only the MAC is announced, and nothing of one that may have any MAC', () => {
  const { port, types } = bench()
  port(MAC).attach()
  port(null).attach()
  expect(types()).toEqual([[MAC, '8035']])
})

test('once more when its network is on its bridge again', () => {
  const { network, port, types } = bench()
  port(MAC, ['10.0.0.7']).attach()
  network.bridged('lan', 'it has no bridge')
  expect(types()).toHaveLength(2)
  network.bridged('lan', null)
  expect(types().slice(2)).toEqual([
    [MAC, '8035'],
    [MAC, '806'],
  ])
})
