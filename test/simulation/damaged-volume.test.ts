// A volume whose journal was blanked under a cluster: it is refused with its reason where an operator looks, nothing is
// written to it, and it is not handed from host to host.

import { volumeView } from '@stellwerk/coordinator/view/volumes.ts'
import { planLayout } from '@stellwerk/csv/format/layout.ts'
import { GIB } from '@stellwerk/runtime/units.ts'
import { expect, test } from 'vitest'
import { VOLUME_BYTES, World } from '../../packages/cli/src/simulation/world.ts'
import { startWithVolume } from './support.ts'

const HOSTS = ['host-a', 'host-b']

test('a blanked journal keeps its volume closed, says why, and opens when it is put back', async () => {
  const world = new World({ seed: 'blank', hosts: HOSTS, storages: ['san-a'], settings: {}, hostMemoryBytes: 4 * GIB })
  const state = () => world.coordinator?.state
  const until = async (what: () => boolean) => expect(await world.sim.runUntil(what, 60_000)).toBe(true)
  const view = () => {
    const volume = state()?.volumes.get('csv1')
    return volume === undefined ? undefined : volumeView(state()!, volume, null, world.sim.now)
  }
  await startWithVolume(world)
  await until(() => view()?.state === 'serving')

  const layout = planLayout({ volumeId: 'v1', clusterId: 'sim', volumeBytes: VOLUME_BYTES })
  const file = world.sim.host('san-a').disk.file('san-a', 'luns/v1.data')!
  const journal = file.read(layout.journalOffset, layout.journalBytes).slice()
  file.write(layout.journalOffset, [new Uint8Array(layout.journalBytes)])
  world.sim
    .host(view()?.owner ?? '')
    .process(`${view()?.owner}/agent`)
    ?.kill()
  await until(() => view()?.state === 'damaged')
  expect(view()?.whyNot).toContain('the journal ends at owner epoch 0, but the storage knows that it got as far as 1')
  const { ownerEpoch } = view()!
  await world.sim.runFor(40_000)
  expect(view()).toMatchObject({ state: 'damaged', ownerEpoch })
  expect(file.read(layout.journalOffset, layout.journalBytes).every(byte => byte === 0)).toBe(true)

  // A check says what it is, at once.
  const asked = world.sim.now
  const answer = world.coordinator!.askOwner('csv1', 'volume.check', { volume: 'csv1' })
  let report: unknown = null
  answer.then(
    said => {
      report = said
    },
    (error: unknown) => {
      report = error
    },
  )
  await until(() => report !== null)
  expect(report).toMatchObject({ clean: false, findings: [{ code: 'journal-lost', severity: 'damage' }] })
  expect(world.sim.now - asked).toBeLessThan(1_000)

  file.write(layout.journalOffset, [journal])
  await until(() => view()?.state === 'serving')
  expect(view()?.whyNot).toBeNull()
})
