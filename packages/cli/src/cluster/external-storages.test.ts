import { describe, expect, it } from 'vitest'
import type { ClusterFile } from './cluster-file.ts'
import { parseExternal, withExternal } from './external-storages.ts'
import { coordinatorConfig, newCluster } from './layout.ts'

const file = (): ClusterFile =>
  newCluster({ cluster: 'c', profile: 'lab', address: '127.0.0.1', hosts: 1, memoryBytes: 1, ports: [] })

describe('an external storage named on the command line', () => {
  it('has an address a fabric', () => {
    expect(parseExternal('nas=10.0.0.9:10809,[fe80::1]:10810')).toEqual({
      name: 'nas',
      portals: [
        { network: 'fabric-0', host: '10.0.0.9', port: 10_809 },
        { network: 'fabric-1', host: 'fe80::1', port: 10_810 },
      ],
      exports: [],
    })
  })

  it.each([
    ['10.0.0.9:10809', /does not begin with a storage's name/],
    ['nas=10.0.0.9', /is no HOST:PORT/],
    ['nas=a:1,b:2,c:3', /more addresses than there are fabrics/],
    ['nas=a:99999', /is no HOST:PORT/],
  ])('%s is refused', (text, line) => {
    expect(() => parseExternal(text)).toThrow(line)
  })

  it('is kept in the cluster’s file, gets other addresses, and keeps what was said of its exports', () => {
    const once = withExternal(file(), [parseExternal('nas=a:1')])
    const exports = [{ lun: 'csv1', export: '' }]
    const edited = { ...once, external: once.external?.map(each => ({ ...each, exports })) ?? [] }
    const moved = withExternal(edited, [parseExternal('nas=b:2')])
    expect(moved.external).toEqual([{ name: 'nas', portals: [{ network: 'fabric-0', host: 'b', port: 2 }], exports }])
    expect(withExternal(moved, [])).toBe(moved)
    const { storages } = coordinatorConfig(moved, { join: 'x', api: 'y' }).coordinator
    expect(storages.map(({ name, external }) => [name, external !== undefined])).toEqual([
      ['san-a', false],
      ['san-b', false],
      ['nas', true],
    ])
  })

  it('has no name of the cluster’s own', () => {
    expect(() => withExternal(file(), [parseExternal('san-a=a:1')])).toThrow(/one of the cluster's own storages/)
    for (const name of ['host-a', 'coordinator']) {
      expect(() => withExternal(file(), [parseExternal(`${name}=a:1`)])).toThrow(/what a host or the coordinator is/)
    }
  })
})
