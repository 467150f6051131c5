// The configuration files of single processes: the documented ones are good, and what could not work is one clear line.

import { readFileSync } from 'node:fs'
import { checkOf } from '@stellwerk/coordinator/api/misfit.ts'
import { describe, expect, it } from 'vitest'
import { AgentFile, CoordinatorFile, checkStorage, checkStorages, parse, StorageFile } from './config-file.ts'

const DOCUMENT = new URL('../../../../docs/OPERATIONS.md', import.meta.url)
const at = (network: 'cluster' | 'fabric-0' | 'fabric-1') => ({ network, host: '10.0.0.9', port: 1 })

describe('configuration files', () => {
  it('as OPERATIONS.md shows them can be used', () => {
    const [, block = ''] = /```yaml\n(# coordinator[\s\S]*?)```/.exec(readFileSync(DOCUMENT, 'utf8')) ?? []
    const [coordinator = '', storage = '', agent = ''] = block.split(/^\n/m)
    const known = parse(coordinator, 'coordinator.yaml', checkOf(CoordinatorFile)) as CoordinatorFile
    const own = parse(storage, 'storage.yaml', checkOf(StorageFile)) as StorageFile
    parse(agent, 'agent.yaml', checkOf(AgentFile))
    const { name, portals, control } = own
    expect(known.storages).toEqual([{ name, portals, control }])
    for (const each of known.storages) checkStorage(each, 'here')
  })

  it.each([
    [[at('cluster')], /'control' has no address on fabric-0, where the hosts must reach it/],
    [[at('fabric-0')], /'control' has no address on cluster, where the coordinator must reach it/],
  ])('a storage that hosts or coordinator could not ask is refused', (control, line) => {
    expect(() => checkStorage({ name: 'san-a', portals: [at('fabric-0')], control }, 'storage.yaml')).toThrow(line)
    expect(() => checkStorage({ name: 'san-a', portals: [], control }, 'storage.yaml')).toThrow(/'portals' is empty/)
  })

  it.each([
    [['san-a', 'san-a'], /'storages' names san-a twice/],
    [['coordinator'], /a storage is called "coordinator", as the coordinator is/],
  ])('storages that could not be told apart are refused: %s', (names, line) => {
    const storages = names.map(name => ({ name, portals: [at('fabric-0')], control: [at('cluster'), at('fabric-0')] }))
    expect(() => checkStorages(storages, 'coordinator.yaml')).toThrow(line)
  })
})
