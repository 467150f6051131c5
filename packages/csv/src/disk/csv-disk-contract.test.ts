import { describeBlockDevice } from '@stellwerk/block/contract/device-contract.ts'
import { openOwner, smallVolume } from '../testing/fixture.ts'
import { callTo, openDisk, openHost } from '../testing/host-fixture.ts'

describeBlockDevice('CSV disk', async () => {
  const { platter } = await smallVolume()
  const { owner } = await openOwner(platter, 1)
  const call = callTo(() => owner)
  const host = await openHost(platter, call)
  return { device: await openDisk(host, call, 'disk-1', 24), dispose: () => owner.close() }
})
