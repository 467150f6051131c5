import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Value } from '@stellwerk/protocol/schema/typebox.js'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { calendar } from '../core/quarantine.ts'
import { ErrorSchema } from './openapi.ts'
import { ROUTES, startApi } from './server.ts'
import { type BenchApi, benchApi, TOKEN } from './testing/bench-coordinator.ts'

let directory: string
let api: BenchApi

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'api-'))
  api = await benchApi(directory)
})

afterEach(async () => {
  await api.close()
  rmSync(directory, { recursive: true })
})

const DISK = {
  ...{ disk: 'd1', name: 'd1', parent: null, snapshot: false, sizeBytes: 4096 },
  ...{ allocatedBytes: 0, sharedBytes: 0, mapVersion: 1, mappedVersion: 0, holder: null, reserved: null },
}
const SNAPSHOT = { ...DISK, disk: 's1', name: 's1', parent: 'd1', snapshot: true }

const DISKS = '/v1/volumes/csv1/disks'

const SCRUB = {
  ...{ scrub: 'scrub-1', state: 'done', doneBytes: 4096, totalBytes: 4096, repaired: 0, unresolved: 0, skipped: 0 },
  ...{ why: null, legs: ['leg-0', 'leg-1'], goodLeg: null, findings: [], more: 0 },
}

const LUN = {
  lun: 'csv1',
  id: 'v1',
  sizeBytes: 2 ** 30,
  allocatedBytes: 4096,
  connections: 1,
  why: null,
  generation: 1,
}

describe('the HTTP API', () => {
  it('answers every look in the shape that its document gives', async () => {
    api.answer = kind => {
      if (kind === 'volume.list-disks') return { disks: [DISK] }
      if (kind === 'volume.scrub-report') return SCRUB
      if (kind === 'storage.list-luns') return { luns: [LUN] }
      const usage = { usedBytes: 4096, freeBytes: 4096, mappedBytes: 8192, extentBytes: 4096 }
      return { sizeBytes: 2 ** 30, ...usage, disks: 1, ownerEpoch: 1 }
    }
    api.bench.command({ kind: 'vm-migrate', name: 'web', to: null, id: 'm1' })
    const exported = { volume: 'csv1', disk: 'd1', readOnly: false, host: null, socket: null, port: 0 }
    api.bench.command({ kind: 'disk-export', id: 'e1', ...exported })
    const names: Record<string, string> = { id: 'm1', what: 'vm', disk: 'd1' }
    const named = { hosts: 'host-a', volumes: 'csv1', storages: 'san-a', vms: 'web' }
    const nameIn = (path: string) => Object.entries(named).find(([kind]) => path.includes(`/${kind}/`))?.[1] ?? 'web'
    const looks = ROUTES.filter(route => route.method === 'GET' && route.stream !== true)
    expect(looks.length).toBeGreaterThan(10)
    for (const route of looks) {
      const path = route.path.replace(/\{(\w+)\}/g, (_, key: string) => names[key] ?? nameIn(route.path))
      const { status, body } = await api.call('GET', path)
      expect([path, status]).toEqual([path, 200])
      expect([path, Value.Check(route.reply, body)]).toEqual([path, true])
    }
  })

  it('status has hosts, vms, volumes and paths, keyed by name, each with a state', async () => {
    const { body } = await api.call('GET', '/v1/status')
    const status = body as Record<string, Record<string, { state: string }>>
    expect(status['hosts']?.['host-a']?.state).toBe('up')
    expect(status['vms']?.['web']?.state).toBe('running')
    expect(status['volumes']?.['csv1']?.state).toBe('serving')
    expect(status['paths']).toEqual({})
  })

  it('serves its OpenAPI document, to whoever asks, with every route and the schemas that check it', async () => {
    const response = await api.app.inject({ url: '/openapi.json' })
    const document = response.json() as {
      openapi: string
      paths: Record<string, Record<string, { requestBody?: { content: Record<string, { schema: object }> } }>>
    }
    expect(document.openapi).toBe('3.1.0')
    for (const { method, path } of ROUTES) expect(document.paths[path]).toHaveProperty(method.toLowerCase())
    const create = document.paths['/v1/vms']?.['post']?.requestBody?.content['application/json']?.schema
    expect(create).toMatchObject({ additionalProperties: false, required: ['name', 'guest', 'memoryBytes'] })
  })

  it('turns away who does not show the token', async () => {
    for (const authorization of ['', 'Bearer', 'Bearer wrong', `Basic ${TOKEN}`, `Bearer ${TOKEN}x`]) {
      const response = await api.app.inject({ url: '/v1/status', headers: { authorization } })
      expect([authorization, response.statusCode]).toEqual([authorization, 401])
      expect(response.json()).toMatchObject({ code: 'unauthorized' })
    }
  })

  it('carries out commands: a VM is made, started, stopped, deleted', async () => {
    api.answer = () => ({ disks: [] })
    const body = { name: 'db', guest: 'ledger', memoryBytes: 2 ** 26, disks: [{ volume: 'csv1', sizeBytes: 2 ** 20 }] }
    expect(await api.call('POST', '/v1/vms', body)).toEqual({ status: 201, body: { vm: 'db' } })
    api.bench.round(3)
    expect((await api.call('GET', '/v1/vms/db')).body).toMatchObject({ state: 'running' })
    expect((await api.call('POST', '/v1/vms/db/stop')).status).toBe(200)
    api.bench.round(3)
    expect((await api.call('GET', '/v1/vms/db')).body).toMatchObject({ state: 'stopped', desired: 'stopped' })
    expect((await api.call('POST', '/v1/vms/db/start', {})).status).toBe(200)
    api.bench.round(3)
    expect((await api.call('DELETE', '/v1/vms/db')).status).toBe(200)
    api.bench.round(4)
    expect((await api.call('GET', '/v1/vms/db')).status).toBe(404)
  })

  it('migrates, and tells how far it is', async () => {
    const answer = await api.call('POST', '/v1/vms/web/migrate', {})
    expect(answer.status).toBe(202)
    const { migration } = answer.body as { migration: string }
    expect((await api.call('GET', `/v1/migrations/${migration}`)).body).toMatchObject({ vm: 'web', phase: 'precopy' })
    expect((await api.call('POST', '/v1/vms/web/cancel')).status).toBe(200)
    expect((await api.call('GET', `/v1/migrations/${migration}`)).body).toMatchObject({ phase: 'aborted' })
  })

  it('halts: nothing is to run, and everything stays wanted', async () => {
    expect((await api.call('POST', '/v1/cluster/halt')).body).toEqual({ halting: ['web'] })
    api.bench.round(4)
    expect((await api.call('GET', '/v1/vms/web')).body).toMatchObject({
      state: 'stopped',
      desired: 'running',
      host: null,
    })
  })

  it('asks the owner to cancel its scrub, and passes on that none runs', async () => {
    api.answer = () => ({ scrub: 'scrub-1' })
    expect(await api.call('DELETE', '/v1/volumes/csv1/scrub')).toMatchObject({
      status: 200,
      body: { scrub: 'scrub-1' },
    })
    expect(api.asked.at(-1)).toMatchObject({ kind: 'volume.scrub-cancel', body: { volume: 'csv1' } })
    api.answer = () => {
      throw new StellwerkError('no-scrub', 'no scrub of volume "csv1" is running')
    }
    const refused = await api.call('DELETE', '/v1/volumes/csv1/scrub')
    expect(refused).toMatchObject({ status: 409, body: { code: 'no-scrub' } })
  })

  it('asks the owner for snapshots, clones and repairs, and makes a VM from a snapshot', async () => {
    let freed = 7
    api.answer = kind => {
      if (kind === 'volume.list-disks') return { disks: [DISK, SNAPSHOT] }
      if (kind !== 'volume.repair-leaks') return SNAPSHOT
      const now = freed
      freed = 0
      return { freed: now }
    }
    expect((await api.call('POST', `${DISKS}/d1/snapshots`, { name: 's2' })).status).toBe(201)
    expect((await api.call('POST', `${DISKS}/s1/clones`, { name: 'c1' })).status).toBe(201)
    expect((await api.call('POST', '/v1/volumes/csv1/repair')).body).toEqual({ freed: 7 })
    const asked = api.asked.filter(({ kind }) => kind !== 'volume.list-disks').map(({ kind, body }) => [kind, body])
    expect(asked.slice(0, 2)).toEqual([
      ['volume.snapshot-disk', { volume: 'csv1', disk: 'd1', snapshot: 's2', name: 's2' }],
      ['volume.clone-disk', { volume: 'csv1', snapshot: 's1', disk: 'c1', name: 'c1' }],
    ])
    const vm = { name: 'db', guest: 'ledger', memoryBytes: 2 ** 26, disks: [{ volume: 'csv1', snapshot: 's1' }] }
    expect((await api.call('POST', '/v1/vms', vm)).status).toBe(201)
    expect(api.bench.state.vms.get('db')?.disks).toMatchObject([{ disk: 'db-0', snapshot: 's1', sizeBytes: 4096 }])
  })

  it('warns of a volume that fills up, and says so once', async () => {
    let free = 15
    api.answer = () => {
      const usage = {
        usedBytes: (100 - free) * 4096,
        freeBytes: free * 4096,
        mappedBytes: 100 * 4096,
        extentBytes: 4096,
      }
      return { ...usage, sizeBytes: 2 ** 30, disks: 1, ownerEpoch: 1 }
    }
    const told = async (): Promise<unknown> => {
      await api.call('GET', '/v1/volumes/csv1/usage')
      const { body } = await api.call('GET', '/v1/volumes/csv1')
      return (body as { warning: string | null }).warning
    }
    expect(await told()).toBe('85 % full')
    free = 9
    expect(await told()).toBe('91 % full')
    expect(await told()).toBe('91 % full')
    free = 0
    expect(await told()).toMatch(/^full: /)
    free = 50
    expect(await told()).toBe(null)
    const kinds = api.events.since(0, 100).map(({ kind }) => kind)
    expect(kinds.filter(kind => /^volume\.(is|has)/.test(kind))).toEqual([
      'volume.is-filling-up',
      'volume.is-nearly-full',
      'volume.is-full',
      'volume.has-room-again',
    ])
  })

  it('asks the owner about disks, and the host of a VM to pass a line on', async () => {
    api.answer = kind => (kind === 'volume.list-disks' ? { disks: [DISK] } : DISK)
    expect((await api.call('POST', '/v1/volumes/csv1/disks', { disk: 'd2', sizeBytes: 8192 })).status).toBe(201)
    expect((await api.call('POST', '/v1/volumes/csv1/disks/d1/resize', { sizeBytes: 8192 })).status).toBe(200)
    expect((await api.call('DELETE', '/v1/volumes/csv1/disks/d1')).status).toBe(200)
    expect((await api.call('POST', '/v1/vms/web/input', { line: 'hello' })).status).toBe(200)
    const kinds = api.asked.map(({ kind }) => kind).filter(kind => kind !== 'volume.list-disks')
    expect(kinds).toEqual(['volume.create-disk', 'volume.resize-disk', 'volume.delete-disk', 'vm.input'])
    expect(api.asked.at(-1)?.body).toMatchObject({
      vm: 'web',
      epoch: expect.any(Number),
      incarnation: 1,
      line: 'hello',
    })
  })

  it('starts hosts where its machine can, and says what to do where it can’t', async () => {
    expect(await api.call('POST', '/v1/hosts', { name: 'host-d' })).toMatchObject({
      status: 501,
      body: { code: 'not-here', hint: expect.stringContaining('agent serve') },
    })
    const added: string[] = []
    const other = await benchApi(directory, {
      addHost: async name => {
        added.push(name)
        return { host: name }
      },
    })
    expect((await other.call('POST', '/v1/hosts', { name: 'host-d' })).status).toBe(202)
    expect((await other.call('POST', '/v1/hosts', { name: 'host-a' })).body).toMatchObject({ code: 'duplicate-name' })
    expect((await other.call('POST', '/v1/hosts', { name: '../x' })).body).toMatchObject({ code: 'bad-name' })
    expect(added).toEqual(['host-d'])
    await other.close()
  })

  it('lets a removed host in again by adding it, and ends a quarantine', async () => {
    const { bench } = api
    const idle = ['host-a', 'host-b', 'host-c'].find(name => name !== bench.placement('web')?.host)!
    expect((await api.call('DELETE', `/v1/hosts/${idle}`)).status).toBe(200)
    bench.round(2)
    expect((await api.call('GET', `/v1/hosts/${idle}`)).status).toBe(404)
    expect(await api.call('POST', '/v1/hosts', { name: idle })).toMatchObject({ status: 202, body: { host: idle } })
    bench.round(4)
    expect((await api.call('GET', `/v1/hosts/${idle}`)).body).toMatchObject({ state: 'up', epoch: 2, quarantine: null })
    expect((await api.call('POST', `/v1/hosts/${idle}/resume`)).body).toMatchObject({ code: 'not-quarantined' })
    const host = bench.state.hosts.get(idle)!
    const untilMs = calendar(bench.state, bench.now) + 60_000
    bench.state.hosts.set(idle, { ...host, quarantine: { sinceMs: 0, untilMs, why: 'it failed' } })
    const shown = (await api.call('GET', `/v1/hosts/${idle}`)).body
    expect(shown).toMatchObject({ quarantine: { why: 'it failed', leftMs: 60_000 } })
    expect((await api.call('GET', `/v1/why/host/${idle}`)).body).toMatchObject({
      now: expect.arrayContaining([expect.stringContaining('in quarantine because it failed')]),
    })
    expect((await api.call('POST', `/v1/hosts/${idle}/resume`)).body).toEqual({ host: idle })
    expect((await api.call('GET', `/v1/hosts/${idle}`)).body).toMatchObject({ quarantine: null })
  })

  it('tells what happened, from a mark on, and goes on telling', async () => {
    const trace = api.env.trace
    trace.emit({ level: 'decision', kind: 'vm.started', vm: 'web', host: 'host-a', body: { epoch: 1 } })
    trace.emit({ level: 'message', kind: 'lease.granted', host: 'host-a' })
    const events = (await api.call('GET', '/v1/events')).body as { seq: number; text: string }[]
    expect(events.at(-1)?.text).toBe('web: started on host-a (epoch 1)')
    expect(events.some(event => event.text.startsWith('web: host-'))).toBe(true)
    const last = events.at(-1)?.seq ?? 0
    expect((await api.call('GET', `/v1/events?after=${last}`)).body).toEqual([])
  })

  it('streams events to followers until they leave', async () => {
    const address = await api.app.listen({ host: '127.0.0.1', port: 0 })
    const stop = new AbortController()
    const response = await fetch(`${address}/v1/events/follow`, {
      headers: { authorization: `Bearer ${TOKEN}` },
      signal: stop.signal,
    })
    const reader = response.body!.getReader()
    const read = async () => Buffer.from((await reader.read()).value ?? []).toString()
    expect(await read()).toBe(': following\n\n')
    api.env.trace.emit({ level: 'decision', kind: 'vm.started', vm: 'web' })
    expect(await read()).toMatch(/^id: \d+\ndata: \{.*"kind":"vm.started".*\}\n\n$/)
    stop.abort()
    await expect.poll(() => api.events.followers).toBe(0)
  })

  it('a port that is taken is one clear error', async () => {
    const options = { listen: { port: 0 }, token: TOKEN, events: api.events }
    const coordinator = {} as Parameters<typeof startApi>[1]
    const first = await startApi(api.env, coordinator, options)
    const second = startApi(api.env, coordinator, { ...options, listen: { port: first.port } })
    await expect(second).rejects.toMatchObject({ code: 'address-in-use', where: `127.0.0.1:${first.port}` })
    await first.close()
  })
})

describe('bad input gets one clear line and changes nothing', () => {
  const vm = { name: 'new', guest: 'ledger', memoryBytes: 2 ** 26 }
  type Case = [string, 'GET' | 'POST' | 'DELETE', string, unknown, number, string]
  const cases: Case[] = [
    ['an unknown VM', 'POST', '/v1/vms/nobody/start', {}, 404, 'unknown-vm'],
    ['an unknown VM to migrate', 'POST', '/v1/vms/nobody/migrate', {}, 404, 'unknown-vm'],
    ['an unknown VM to look at', 'GET', '/v1/vms/nobody', undefined, 404, 'unknown-vm'],
    ['an unknown host', 'GET', '/v1/hosts/nobody', undefined, 404, 'unknown-host'],
    ['an unknown host to remove', 'DELETE', '/v1/hosts/nobody', undefined, 404, 'unknown-host'],
    ['an unknown volume', 'GET', '/v1/volumes/nobody', undefined, 404, 'unknown-volume'],
    ['an unknown migration', 'GET', '/v1/migrations/nobody', undefined, 404, 'unknown-migration'],
    ['a snapshot of a missing disk', 'POST', `${DISKS}/nobody/snapshots`, { name: 's2' }, 404, 'unknown-disk'],
    [
      'a snapshot under a name that is taken',
      'POST',
      `${DISKS}/d1/snapshots`,
      { name: 'old-0' },
      409,
      'duplicate-name',
    ],
    ['a snapshot with no name for a disk', 'POST', `${DISKS}/d1/snapshots`, { name: 'a b' }, 400, 'bad-name'],
    ['a clone of a missing snapshot', 'POST', `${DISKS}/nobody/clones`, { name: 'c1' }, 404, 'unknown-disk'],
    ['a clone under a name that is taken', 'POST', `${DISKS}/d1/clones`, { name: 'd1' }, 409, 'duplicate-name'],
    [
      'a VM with a clone of a missing snapshot',
      'POST',
      '/v1/vms',
      { ...vm, disks: [{ volume: 'csv1', snapshot: 'nobody' }] },
      404,
      'unknown-disk',
    ],
    [
      'a VM with a clone of what is no snapshot',
      'POST',
      '/v1/vms',
      { ...vm, disks: [{ volume: 'csv1', snapshot: 'd1' }] },
      409,
      'not-a-snapshot',
    ],
    [
      'a VM with a disk of a size and of a snapshot',
      'POST',
      '/v1/vms',
      { ...vm, disks: [{ volume: 'csv1', snapshot: 'd1', sizeBytes: 4096 }] },
      400,
      'bad-request',
    ],
    ['an unknown disk', 'DELETE', '/v1/volumes/csv1/disks/nobody', undefined, 404, 'unknown-disk'],
    ['a duplicate VM', 'POST', '/v1/vms', { ...vm, name: 'web' }, 409, 'duplicate-name'],
    ['a duplicate volume', 'POST', '/v1/volumes', { name: 'csv1', sizeBytes: 2 ** 30 }, 409, 'duplicate-name'],
    ['a duplicate disk', 'POST', '/v1/volumes/csv1/disks', { disk: 'd1', sizeBytes: 4096 }, 409, 'duplicate-name'],
    [
      'a VM whose disk is there already',
      'POST',
      '/v1/vms',
      { ...vm, name: 'old', disks: [{ volume: 'csv1', sizeBytes: 4096 }] },
      409,
      'duplicate-name',
    ],
    [
      "a disk that a VM's is to be called",
      'POST',
      '/v1/volumes/csv1/disks',
      { disk: 'web-0', sizeBytes: 4096 },
      409,
      'duplicate-name',
    ],
    ['a name that is none', 'POST', '/v1/vms', { ...vm, name: 'a/b' }, 400, 'bad-name'],
    ['a restart policy with a field unknown', 'POST', '/v1/vms', { ...vm, restart: { often: 1 } }, 400, 'bad-request'],
    ['a restart policy at odds', 'POST', '/v1/vms', { ...vm, restart: { backoffMs: 600_000 } }, 400, 'bad-policy'],
    ['a VM larger than any host', 'POST', '/v1/vms', { ...vm, memoryBytes: 2 ** 40 }, 400, 'too-large'],
    [
      'a disk larger than the volume',
      'POST',
      '/v1/vms',
      { ...vm, disks: [{ volume: 'csv1', sizeBytes: 2 ** 40 }] },
      400,
      'disk-too-large',
    ],
    [
      'a free disk larger than the volume',
      'POST',
      '/v1/volumes/csv1/disks',
      { disk: 'x', sizeBytes: 2 ** 40 },
      400,
      'disk-too-large',
    ],
    ['a disk of no size', 'POST', '/v1/volumes/csv1/disks', { disk: 'x', sizeBytes: 5 }, 400, 'bad-size'],
    ['a volume larger than any LUN', 'POST', '/v1/volumes', { name: 'v', sizeBytes: 2 ** 47 }, 400, 'bad-size'],
    ['a volume that is too small', 'POST', '/v1/volumes', { name: 'v', sizeBytes: 4096 }, 400, 'bad-size'],
    [
      'an unknown storage',
      'POST',
      '/v1/volumes',
      { name: 'v', sizeBytes: 2 ** 30, storages: ['x'] },
      404,
      'unknown-storage',
    ],
    ['migrating to an unknown host', 'POST', '/v1/vms/web/migrate', { to: 'nobody' }, 404, 'unknown-host'],
    ['starting what runs', 'POST', '/v1/vms/web/start', {}, 409, 'already-running'],
    ['cancelling nothing', 'POST', '/v1/vms/web/cancel', undefined, 409, 'not-migrating'],
    ['vouching that a living host is dead', 'POST', '/v1/hosts/host-a/confirm-dead', undefined, 409, 'host-alive'],
    ['an unknown key', 'POST', '/v1/vms', { ...vm, memory: 5 }, 400, 'bad-request'],
    ['a missing key', 'POST', '/v1/vms', { name: 'x' }, 400, 'bad-request'],
    ['a wrong type', 'POST', '/v1/vms', { ...vm, memoryBytes: 'much' }, 400, 'bad-request'],
    ['a body where none is taken', 'POST', '/v1/vms/web/stop', { now: true }, 400, 'bad-request'],
    ['a query where none is taken', 'GET', '/v1/status?verbose=1', undefined, 400, 'bad-request'],
    ['a query that is no number', 'GET', '/v1/events?after=x', undefined, 400, 'bad-request'],
    ['a question about nothing', 'GET', '/v1/why/weather/today', undefined, 400, 'bad-request'],
    ['a route that is none', 'GET', '/v1/nothing', undefined, 404, 'unknown-route'],
  ]

  it.each(cases)('%s', async (_what, method, path, body, status, code) => {
    api.answer = kind => {
      if (kind === 'volume.list-disks') return { disks: [DISK, { ...DISK, disk: 'old-0', name: 'old-0' }] }
      throw new Error(`${kind} must not be asked`)
    }
    const before = JSON.stringify([...api.bench.store.values])
    const answer = await api.call(method, path, body)
    expect(answer).toMatchObject({ status, body: { code } })
    expect(Value.Check(ErrorSchema, answer.body)).toBe(true)
    const { message, hint } = answer.body as { message: string; hint: string }
    expect(hint).not.toBe('')
    expect(message).not.toMatch(/\n|undefined|\[object/)
    expect(JSON.stringify([...api.bench.store.values])).toBe(before)
  })

  it('names the key that is not known', async () => {
    const { body } = await api.call('POST', '/v1/vms', { ...vm, memory: 5, disks: [] })
    expect(body).toMatchObject({ message: 'POST /v1/vms: unknown key "memory"' })
    const nested = await api.call('POST', '/v1/vms', { ...vm, disks: [{ volume: 'csv1', size: 4 }] })
    expect(nested.body).toMatchObject({ message: expect.stringContaining('"disks.0.size"') })
  })

  it('migrating to the same host, a dead host, or a stopped VM', async () => {
    const here = api.bench.placement('web')?.host ?? ''
    expect((await api.call('POST', '/v1/vms/web/migrate', { to: here })).body).toMatchObject({ code: 'same-host' })
    const other = ['host-a', 'host-b', 'host-c'].find(name => name !== here) ?? ''
    api.bench.hosts.get(other)!.beating = false
    api.bench.round(8)
    expect((await api.call('POST', '/v1/vms/web/migrate', { to: other })).body).toMatchObject({ code: 'host-unfit' })
    await api.call('POST', '/v1/vms/web/stop')
    api.bench.round(3)
    expect((await api.call('POST', '/v1/vms/web/migrate', {})).body).toMatchObject({ code: 'not-running' })
  })

  it('a disk that a VM has is neither deleted nor made smaller under it', async () => {
    const holder = { vm: 'web', host: 'host-a', hostEpoch: 1, epoch: 1 }
    api.answer = () => ({ disks: [{ ...DISK, disk: 'web-0', holder }] })
    const before = api.changes()
    expect((await api.call('DELETE', '/v1/volumes/csv1/disks/web-0')).body).toMatchObject({ code: 'disk-in-use' })
    api.answer = () => ({ disks: [{ ...DISK, disk: 'web-0', sizeBytes: 8192, holder }] })
    const resized = await api.call('POST', '/v1/volumes/csv1/disks/web-0/resize', { sizeBytes: 4096 })
    expect(resized.body).toMatchObject({ code: 'disk-in-use' })
    expect(JSON.parse(api.changes())[0]).toEqual(JSON.parse(before)[0])
  })

  it('what the owner of the disk refuses is passed on in its one line', async () => {
    const refusal = new StellwerkError('chain-too-long', 's1 hangs on 31 disks and snapshots already', {
      hint: 'delete',
    })
    api.answer = kind => {
      if (kind === 'volume.list-disks') return { disks: [DISK, SNAPSHOT] }
      throw refusal
    }
    const before = JSON.stringify([...api.bench.store.values])
    for (const [path, body] of [
      ['disks/d1/snapshots', { name: 's2' }],
      ['disks/s1/clones', { name: 'c1' }],
      ['disks/d1/resize', { sizeBytes: 8192 }],
    ] as const) {
      const answer = await api.call('POST', `/v1/volumes/csv1/${path}`, body)
      expect(answer).toMatchObject({ status: 409, body: { code: 'chain-too-long', message: refusal.message } })
    }
    expect(JSON.stringify([...api.bench.store.values])).toBe(before)
  })

  it('what is no JSON, or too much of it', async () => {
    const headers = { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' }
    const broken = await api.app.inject({ method: 'POST', url: '/v1/vms', headers, payload: '{"name":' })
    expect([broken.statusCode, broken.json().code]).toEqual([400, 'bad-request'])
    const long = await api.app.inject({ method: 'POST', url: '/v1/vms', headers, payload: `"${'x'.repeat(2 ** 21)}"` })
    expect([long.statusCode, long.json().code]).toEqual([400, 'bad-request'])
  })

  it('somebody who does not answer is a 503, a failure of ours a 500, both with their code', async () => {
    api.answer = () => {
      throw new StellwerkError('deadline', 'no answer within 5000 ms', { retryable: true })
    }
    expect(await api.call('GET', '/v1/volumes/csv1/usage')).toMatchObject({ status: 503, body: { code: 'deadline' } })
    api.answer = () => {
      throw new TypeError('a bug')
    }
    expect(await api.call('GET', '/v1/volumes/csv1/usage')).toMatchObject({ status: 500, body: { code: 'internal' } })
  })
})
