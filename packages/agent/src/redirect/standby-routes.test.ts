import { expect, it } from 'vitest'
import { FAILED_MS, StandbyRoutes } from './standby-routes.ts'

const host = (name: string) => ({
  ...{ name, epoch: 1, disabled: [] },
  control: { network: 'cluster', host: name, port: 1 } as const,
})
const MAP = {
  hosts: ['host-a', 'host-b', 'host-c', 'host-d'].map(host),
  routes: [{ storage: 'san-a', lun: 'csv1', peers: ['host-b', 'host-a', 'host-d', 'gone', 'host-c'] }],
}
const names = (routes: StandbyRoutes, now = 0, heard: (peer: string) => boolean = () => true) =>
  routes.inOrder('san-a', 'csv1', heard, now).map(({ name }) => name)

it('asks in the coordinator’s order, never itself, nor one that is no member', () => {
  const routes = new StandbyRoutes('host-a')
  expect(names(routes)).toEqual([])
  routes.follow(MAP)
  expect(names(routes)).toEqual(['host-b', 'host-d', 'host-c'])
  expect(routes.inOrder('san-b', 'csv1', () => true, 0)).toEqual([])
})

it('asks one that failed after the others for a while, and one that is not heard last, but asks it', () => {
  const routes = new StandbyRoutes('host-a')
  routes.follow(MAP)
  routes.failed('host-b', 1_000)
  expect(names(routes, 1_001)).toEqual(['host-d', 'host-c', 'host-b'])
  expect(names(routes, 1_001, peer => peer !== 'host-d')).toEqual(['host-c', 'host-b', 'host-d'])
  expect(names(routes, 1_000 + FAILED_MS)).toEqual(['host-b', 'host-d', 'host-c'])
})
