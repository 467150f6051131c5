// Real machines in containers: the image with QEMU, three Linux guests in it, one moved live, a host killed under another.

import { afterAll, beforeAll, describe, expect } from 'vitest'
import { ContainerCluster, cannotRun, LONG, noteOnPeers, PATIENT } from './container-cluster.ts'

describe.skipIf(cannotRun)(`real machines in containers (${noteOnPeers})`, () => {
  const cluster = new ContainerCluster('swkm', 'qemu')

  beforeAll(() => cluster.up(), LONG)

  afterAll(() => cluster.down(), LONG)

  cluster.story('come up from nothing, as processes without privileges', async () => {
    await cluster.healthy()
    cluster.followGuests()
    expect(cluster.vm('ledger-1')).toMatchObject({ hypervisor: 'qemu' })
    const container = cluster.containerOf(cluster.hostOf('ledger-1'))
    const { output } = cluster.engine.try('docker', 'top', container, '-eo', 'pid,uid,args')
    expect(output).toMatch(/^ *\d+ +10001 .*qemu-system-x86_64/m)
  })

  cluster.story('move live, and keep what they were told is written', async () => {
    await expect.poll(() => cluster.said('ledger-1', 'ack'), PATIENT).toBe(true)
    const { output } = cluster.stellwerk('vm', 'migrate', 'ledger-1', '--wait', '--json')
    expect(JSON.parse(output)).toMatchObject({ phase: 'done' })
    cluster.guestsAreIntact('ledger-1')
  })

  cluster.story('start elsewhere when their host is killed, with everything they had', async () => {
    await expect.poll(() => cluster.said('ledger-2', 'ack'), PATIENT).toBe(true)
    const lost = cluster.hostOf('ledger-2')
    cluster.engine.run('docker', 'kill', cluster.containerOf(lost))
    const place = () => [cluster.vm('ledger-2')?.state, cluster.hostOf('ledger-2') === lost]
    await expect.poll(place, PATIENT).toEqual(['running', false])
    await expect.poll(() => cluster.said('ledger-2', 'recovered'), PATIENT).toBe(true)
    cluster.engine.run('docker', 'start', cluster.containerOf(lost))
    await cluster.healthy()
    cluster.guestsAreIntact()
  })
})
