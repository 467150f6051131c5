// A real cluster whose storage is qemu-storage-daemon, and one leg of a mirror nbdkit: no epochs there. What can't be a leg is
// refused in a line; the status names what is missing; an agent and a whole host are killed under load; the nbdkit leg is lost.

import { closeSync, ftruncateSync, mkdirSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { peer, peers } from '@stellwerk/runtime/testing/peers.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import type { ApiClient } from 'stellwerk/api-client/client.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Book } from './book.ts'
import { CLIENT_PEERS, Clients } from './clients.ts'
import { freePorts, HOSTS, ServedCluster } from './served-cluster.ts'
import { alive, type Running, Stellwerk } from './stellwerk.ts'

const LONG = 240_000
const PATIENCE = { timeout: 90_000, interval: 100 }
const NO_EPOCHS = "no epochs: a fenced host's late writes are not refused"
const { missing, note } = peers(...CLIENT_PEERS, peer('qemu-storage-daemon', 'qemu-system-common'))

describe.skipIf(missing)(`storages that are plain NBD servers (${note})`, () => {
  const stellwerk = new Stellwerk('external', '.')
  const cluster = new ServedCluster(stellwerk)
  const clients = new Clients(stellwerk)
  const book = new Book(stellwerk)
  const ports = { nas: 0, vault: 0, frozen: 0, alone: 0, nobody: 0 }
  let api: ApiClient
  let vault: Running

  const file = (name: string, bytes: number): string => {
    const path = join(stellwerk.directory, name)
    const fd = openSync(path, 'w')
    ftruncateSync(fd, bytes)
    closeSync(fd)
    return path
  }
  const nbdkit = (port: number, ...words: string[]) =>
    stellwerk.startTool('nbdkit', '-f', '-i', '127.0.0.1', '-p', String(port), ...words)
  const startVault = () => nbdkit(ports.vault, 'file', `dir=${join(stellwerk.directory, 'vault')}`)

  beforeAll(async () => {
    const free = await freePorts(stellwerk, 5)
    for (const [i, name] of (Object.keys(ports) as (keyof typeof ports)[]).entries()) ports[name] = free[i] ?? 0
    mkdirSync(join(stellwerk.directory, 'vault'))
    file('vault/both', 512 * MIB)
    file('vault/small', 64 * MIB)
    file('vault/twins', 512 * MIB)
    vault = startVault()
    nbdkit(ports.frozen, '-r', 'memory', '1G')
    nbdkit(ports.alone, '--filter=multi-conn', 'memory', '1G', 'multi-conn-mode=disable')
    const node = `driver=file,node-name=disk,filename=${file('nas.img', 512 * MIB)}`
    const nas = [
      ...['--blockdev', node],
      ...['--nbd-server', `addr.type=inet,addr.host=127.0.0.1,addr.port=${ports.nas}`],
      ...['--export', 'type=nbd,id=one,node-name=disk,name=volumes/one,writable=on'],
    ]
    stellwerk.startTool('qemu-storage-daemon', ...nas)
    const exports = [{ lun: 'csv1', export: 'volumes/one' }]
    const others = Object.entries(ports).filter(([name]) => name !== 'nas')
    // The same servers under other names: what they serve is no second copy.
    others.push(['vault-again', ports.vault])
    api = await cluster.start({ ioDeadlineMs: 2_000 }, [
      { name: 'nas', port: ports.nas, exports },
      { name: 'nas-again', port: ports.nas, exports },
      ...others.map(([name, port]) => ({ name, port, exports: [] })),
    ])
  }, LONG)

  afterAll(async () => {
    await stellwerk.remove()
    await cluster.close()
  }, LONG)

  const volume = async (name: string) => (await api.status()).volumes[name]
  const vm = async () => (await api.status()).vms['book']
  const serves = (name: string) => expect.poll(async () => (await volume(name))?.state, PATIENCE).toBe('serving')

  it('are reached by hosts, and what cannot be a leg is refused in one line', { timeout: LONG }, async () => {
    await expect
      .poll(async () => Object.values((await api.status()).hosts).map(({ state }) => state), PATIENCE)
      .toEqual(HOSTS.map(() => 'up'))
    for (const storage of ['nas', 'vault']) {
      const path = async () => (await api.status()).paths[`host-a/fabric-0/${storage}`]
      await expect.poll(path, PATIENCE).toMatchObject({ state: 'up', epochs: false })
    }
    const refused = async (name: string, storage: string) => {
      const { code, lines } = await stellwerk.run('volume', 'create', name, '512MiB', '--storage', storage)
      expect([code, lines.length]).toEqual([1, 1])
      return lines[0]
    }
    expect(await refused('csv2', 'nas')).toMatch(/storage "nas" does not open export "csv2"/)
    expect(await refused('small', 'vault')).toMatch(/has 67108864 bytes, less than the 536870912 of the volume/)
    expect(await refused('csv2', 'frozen')).toMatch(/export "csv2" of storage "frozen" can't be used: it is read-only/)
    expect(await refused('csv2', 'alone')).toMatch(/does not keep several connections coherent/)
    expect(await refused('csv2', 'nobody')).toMatch(/no NBD server answers for storage "nobody"/)
  })

  it('carry a volume, and everything says what they do not do', { timeout: LONG }, async () => {
    expect((await stellwerk.run('volume', 'create', 'csv1', '512MiB', '--storage', 'nas')).code).toBe(0)
    await serves('csv1')
    await book.begin('csv1', 'host-a')
    const { lines } = await stellwerk.run('status')
    expect(lines).toContain(`warning: storage nas (csv1) has ${NO_EPOCHS}`)
    expect(lines[0]).toMatch(/1 host NO \(host-a: book waits for confirm-dead, nas has no epochs\)/)
    const { storages } = await stellwerk.json<Awaited<ReturnType<ApiClient['status']>>>('status')
    expect(storages['nas']).toMatchObject({ kind: 'external', epochs: false, volumes: ['csv1'] })
    expect(storages['san-a']).toMatchObject({ kind: 'embedded', epochs: true, warning: null })
    expect((await stellwerk.run('volume', 'show', 'csv1')).lines.join('\n')).toContain(NO_EPOCHS)
    expect((await stellwerk.run('path', 'list')).lines.filter(line => line.includes(NO_EPOCHS))).not.toEqual([])
  })

  it('are no mirror of themselves under another name', { timeout: LONG }, async () => {
    const before = await volume('csv1')
    const { code, lines } = await stellwerk.run('volume', 'mirror', 'csv1', '--to', 'nas-again')
    expect([code, lines.length]).toEqual([1, 1])
    expect(lines[0]).toMatch(/export "volumes\/one" of storage "nas-again" can't be used: it is leg-0 of this volume/)
    expect((await volume('csv1'))?.legs.length).toBe(before?.legs.length)
    // Of two that are both blank it is seen when the volume is laid out.
    const twins = ['--storage', 'vault', '--storage', 'vault-again']
    await stellwerk.run('volume', 'create', 'twins', '512MiB', ...twins)
    const why = async () => (await stellwerk.run('volume', 'show', 'twins')).lines.join('\n')
    await expect.poll(why, PATIENCE).toContain('leg leg-1 is leg leg-0 by another name')
    expect((await stellwerk.run('volume', 'mirror', 'twins', '--remove', 'vault-again')).code).toBe(0)
    await serves('twins')
    expect((await stellwerk.run('volume', 'delete', 'twins')).code).toBe(0)
    await expect.poll(async () => Object.keys((await api.status()).volumes), PATIENCE).toEqual(['csv1'])
  })

  it('let a VM start again when its agent is dead, by its guardian’s word', { timeout: LONG }, async () => {
    await clients.export(api, 'csv1', 'host-b')
    const work = await clients.begin()
    const before = (await vm())?.epoch ?? 0
    await stellwerk.kill('host-a/agent')
    // On another host, or where it was: its guardian's next agent may be there before what was sent has had its time.
    const again = async () => {
      const now = await vm()
      return [now?.state, (now?.epoch ?? 0) > before]
    }
    await expect.poll(again, PATIENCE).toEqual(['running', true])
    await book.goesOn()
    await work.finish()
    const { lines } = await stellwerk.run('why', 'host', 'host-a')
    expect(lines.join('\n')).toMatch(/silent: count epoch \d+ as over on nas, because its agent is dead, attested by/)
    book.sawNoDamage()
  })

  it('and not when a whole host is gone, until an operator says so', { timeout: LONG }, async () => {
    await serves('csv1')
    const host = (await vm())?.host ?? ''
    const left = HOSTS.filter(each => each !== host)
    cluster.served.get(host)?.process.kill('SIGKILL')
    expect(left.length).toBe(2)
    const waits = /has no epochs and would take late writes of host-./
    await expect.poll(async () => (await vm())?.why, PATIENCE).toMatch(waits)
    expect((await stellwerk.run('host', 'confirm-dead', host)).code).toBe(0)
    await expect.poll(vm, PATIENCE).toMatchObject({ state: 'running', host: expect.not.stringMatching(host) })
    await book.goesOn()
    book.sawNoDamage()
  })

  it('are lost and resynced as a leg beside one that has epochs', { timeout: LONG }, async () => {
    const mirror = ['--storage', 'san-a', '--storage', 'vault']
    expect((await stellwerk.run('volume', 'create', 'both', '512MiB', ...mirror)).code).toBe(0)
    await serves('both')
    /** With why one is not resynced, for whoever reads of a failure. */
    const roles = async () =>
      ((await volume('both'))?.legs ?? []).map(({ storage, role, why }) => `${storage} ${role} ${why ?? ''}`).join(', ')
    const up = Object.values((await api.status()).hosts).find(({ state }) => state === 'up')?.name ?? ''
    const more = new Clients(stellwerk)
    await more.export(api, 'both', up)
    const work = await more.begin()
    vault.process.kill('SIGKILL')
    await expect.poll(roles, PATIENCE).toMatch(/^san-a in-sync , vault stale/)
    await work.finish()
    vault = startVault()
    await expect.poll(roles, PATIENCE).toBe('san-a in-sync , vault in-sync ')
    await more.verify()
    expect(alive([vault.process.pid ?? 0])).toHaveLength(1)
  })
})
