// What an operator's request asks of a storage goes directly, or through a host that has a path; and a leg is not put where another LUN
// has its name.

import { checkNewLeg } from '@stellwerk/coordinator/api/new-leg.ts'
import type { Coordinator } from '@stellwerk/coordinator/coordinator.ts'
import type { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { expect, it } from 'vitest'
import { JudgedCluster } from './judged-cluster.ts'
import { TIMEOUT } from './support.ts'

const FABRICS = ['cluster', 'fabric-0', 'fabric-1'] as const

it('asks a storage over its own link, then over a host’s, and says when nobody reaches it', TIMEOUT, async () => {
  const { world, until } = await started()
  const coordinator = (): Coordinator => world.coordinator!
  const luns = async (): Promise<string[]> => {
    const reply = await coordinator().askStorage('san-a', 'storage.list-luns', { lun: 'csv1' })
    return (reply as { luns: { lun: string }[] }).luns.map(({ lun }) => lun)
  }
  expect(await result(luns())).toEqual(['csv1'])
  expect(await result(coordinator().askStorage('san-a', 'storage.list-luns', { lun: 'other' }))).toEqual({ luns: [] })

  world.sim.network.cut('coord', 'san-a', { network: FABRICS })
  await world.sim.runFor(15_000)
  expect(await result(luns())).toEqual(['csv1'])

  const wanted = { lun: 'csv1', sizeBytes: 2 ** 30, volumeId: 'v1', legs: ['leg-0'] }
  const check = (lunId: string) => checkNewLeg(coordinator(), 'san-a', { ...wanted, lunId })
  expect(await result(check('another'))).toBe('lun-exists')
  expect(await result(check('v1'))).toBeUndefined()

  world.sim.host('san-a').process('san-a')?.kill()
  await world.sim.runFor(15_000)
  expect(await result(luns())).toBe('storage-unreachable')
  // It makes the LUN when it is back, or refuses it then.
  expect(await result(check('another'))).toBeUndefined()

  async function result(promise: Promise<unknown>): Promise<unknown> {
    let said: { readonly value: unknown } | null = null
    promise.then(
      value => {
        said = { value }
      },
      (error: StellwerkError) => {
        said = { value: error.code }
      },
    )
    expect(await until(() => said !== null)).toBe(true)
    return (said as { readonly value: unknown } | null)?.value
  }
})

async function started() {
  const cluster = await new JudgedCluster('ask-storage').start('san-a')
  return { world: cluster.world, until: (predicate: () => boolean) => cluster.until(predicate) }
}
