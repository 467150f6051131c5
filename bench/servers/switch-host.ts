// A host's virtual switch as a process of its own, with one card: whoever connects to its socket is the machine behind it, and
// frames pass as QEMU's `-netdev stream` passes them. Ordered to, it links itself to the other host's switch.

import { renameSync, writeFileSync } from 'node:fs'
import { GuestNic } from '@stellwerk/agent/hypervisor/qemu/guest-nic.ts'
import { VirtualSwitch } from '@stellwerk/agent/network/virtual-switch.ts'
import { benchIdentity, config, endWithParent, serverEnvironment } from './config.ts'
import { takeOrders } from './orders.ts'

export interface SwitchHostConfig {
  readonly name: string
  readonly directory: string
  readonly mac: string
  /** Where the machine connects. */
  readonly socket: string
  /** Where peers' switches connect. */
  readonly port: number
  readonly readyFile: string
}

/** Where a peer's switch listens. */
export interface SwitchPeer {
  readonly name: string
  readonly port: number
}

const HOST = '127.0.0.1'
const EPOCH = 1
const always = (): boolean => true

const { name, directory, mac, socket, port, readyFile } = config<SwitchHostConfig>()
const env = serverEnvironment(name, directory)
const network = new VirtualSwitch({
  env,
  identity: benchIdentity(name),
  listen: { network: 'guest', host: HOST, port },
  epoch: () => EPOCH,
})
await network.listen()
await env.network.listenStream({ network: 'local', host: socket, port: 0 }, stream => {
  const card = network.port({ network: 'lan', mac, addresses: [], placementEpoch: 1, owner: name })
  new GuestNic(card, stream, always, always)
  stream.onClose(() => card.detach())
  card.attach()
})
takeOrders({
  link: async ({ name: peer, port: peerPort }: SwitchPeer) => {
    const guest = { network: 'guest', host: HOST, port: peerPort } as const
    network.follow({ hosts: [{ name: peer, epoch: EPOCH, control: guest, disabled: [], guest }] })
    return null
  },
})
writeFileSync(`${readyFile}.part`, '{}')
renameSync(`${readyFile}.part`, readyFile)
endWithParent()
