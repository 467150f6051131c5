import { type LunShown, storageFamily } from '@stellwerk/protocol/messages/storage.ts'
import type { Session } from '@stellwerk/protocol/session.ts'
import { dialSession } from '@stellwerk/protocol/session-handshake.ts'
import { createEnvironment, type NodeEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { type ApiClient, pathOf } from 'stellwerk/api-client/client.ts'
import { JOIN_TOKEN_FILE, readClusterFile, readToken } from 'stellwerk/cluster/cluster-file.ts'
import { apiOf } from 'stellwerk/cluster/directory.ts'
import { storageConfig } from 'stellwerk/cluster/layout.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Stellwerk } from './stellwerk.ts'

const LONG = 240_000
const PATIENCE = { timeout: 90_000, interval: 100 }
const ANSWER_MS = 60_000
const STORAGES = ['san-a', 'san-b'] as const
/** What somebody has there is of another size than anything that is asked for. */
const FOREIGN_BYTES = 64 * MIB

describe('a LUN on a storage that is not of the cluster', () => {
  const stellwerk = new Stellwerk('foreign-lun')
  const sessions = new Map<string, Session>()
  let env: NodeEnvironment
  let api: ApiClient

  beforeAll(async () => {
    await stellwerk.start('up', '--hosts', '2', '--profile', 'production').said(/^up after/)
    api = await apiOf(stellwerk.state)
    env = createEnvironment({ name: 'test', directory: stellwerk.state, store: memoryStore(), logLevel: 'silent' })
    const file = await readClusterFile(env.files, stellwerk.state)
    const credential = await readToken(env.files, JOIN_TOKEN_FILE)
    if (file === null || credential === null) throw new Error('the cluster has no file or no token')
    const identity = { cluster: file.cluster, node: 'somebody', role: 'agent', incarnation: 1, credential } as const
    for (const storage of STORAGES) {
      const [control] = storageConfig(file, { join: credential, api: '' }, storage).control
      if (control === undefined) throw new Error(`${storage} has no control address`)
      sessions.set(storage, await dialSession(env, control, 'control', identity))
    }
  }, LONG)

  afterAll(async () => {
    for (const session of sessions.values()) session.close()
    await env.close()
    await stellwerk.remove()
  }, LONG)

  const succeeds = async (...words: string[]) => expect(await stellwerk.run(...words)).toMatchObject({ code: 0 })
  const volumes = async () => (await api.status()).volumes
  const stateOf = async (name: string) => (await volumes())[name]?.state
  const to = (storage: string): Session => {
    const session = sessions.get(storage)
    if (session === undefined) throw new Error(`no session to ${storage}`)
    return session
  }
  const put = async (lun: string, storage: string) => {
    await storageFamily.request(to(storage), 'storage.create-lun', { lun, sizeBytes: FOREIGN_BYTES }, ANSWER_MS)
  }
  const lunsOf = async (storage: string): Promise<LunShown[]> =>
    (await storageFamily.request(to(storage), 'storage.list-luns', {}, ANSWER_MS)).luns
  /** What is to be left as it is. Not what changes by itself: ages, and what is connected just now. */
  const all = async () => {
    const legs = Object.values(await volumes()).map(({ name, state, legs, generation }) => ({
      ...{ name, state, generation },
      legs: legs.map(({ leg, storage, role }) => ({ leg, storage, role })),
    }))
    const luns = await Promise.all(STORAGES.map(lunsOf))
    return {
      legs,
      luns: luns.map(each => each.map(({ lun, id, sizeBytes, hosts }) => ({ lun, id, sizeBytes, hosts }))),
    }
  }
  const refuses = async (path: string, body: object, words: readonly string[], name: string) => {
    const before = await all()
    const says = `storage "san-b" has a LUN "${name}" already, which is not this volume's`
    const { code, lines } = await stellwerk.run(...words)
    expect([code, lines]).toEqual([1, [expect.stringContaining(says)]])
    await expect(api.post(path, body)).rejects.toMatchObject({ code: 'lun-exists' })
    expect(await all()).toEqual(before)
  }

  it('is no second leg of a volume', { timeout: LONG }, async () => {
    await succeeds('volume', 'create', 'lone', '128MiB', '--storage', 'san-a')
    await expect.poll(() => stateOf('lone'), PATIENCE).toBe('serving')
    await put('lone', 'san-b')
    const words = ['volume', 'mirror', 'lone', '--to', 'san-b']
    await refuses(pathOf('volumes', 'lone', 'mirror'), { storage: 'san-b' }, words, 'lone')
    expect(await stateOf('lone')).toBe('serving')
  })

  it('nor one of a new volume, which gets no leg elsewhere either', { timeout: LONG }, async () => {
    await put('taken', 'san-b')
    const body = { name: 'taken', sizeBytes: 128 * MIB }
    const alone = ['volume', 'create', 'taken', '128MiB', '--storage', 'san-b']
    await refuses(pathOf('volumes'), { ...body, storages: ['san-b'] }, alone, 'taken')
    const mirrored = ['volume', 'create', 'taken', '128MiB', '--storage', 'san-a', '--storage', 'san-b']
    await refuses(pathOf('volumes'), { ...body, storages: [...STORAGES] }, mirrored, 'taken')
    expect(await stateOf('taken')).toBe(undefined)
  })

  it('and in the way no longer once it is gone', { timeout: LONG }, async () => {
    const id = (await lunsOf('san-b')).find(({ lun }) => lun === 'lone')?.id ?? ''
    const { lines } = await stellwerk.run('lun', 'list', 'san-b')
    expect(lines.find(line => line.startsWith('lone'))).toContain(id)
    await succeeds('lun', 'delete', 'san-b', 'lone', `--id=${id}`)
    await succeeds('volume', 'mirror', 'lone', '--to', 'san-b')
    const roles = async () => (await volumes())['lone']?.legs.map(({ role }) => role)
    await expect.poll(roles, PATIENCE).toEqual(['in-sync', 'in-sync'])
    await succeeds('volume', 'create', 'taken', '128MiB', '--storage', 'san-a')
    await expect.poll(() => stateOf('taken'), PATIENCE).toBe('serving')
  })
})
