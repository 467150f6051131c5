// A forward that is kept follows its VM: it is open on the host that runs it after a migration, a failover and a restart of the
// coordinator, with no command running; a port that is taken is told and tried again; it ends when it is ended, and with its VM.

import { copyFileSync, existsSync, readdirSync } from 'node:fs'
import { connect, createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Stellwerk } from '../processes/stellwerk.ts'
import { qemu, tinyImageFile } from './tiny-image.ts'

const LONG = 600_000
const PATIENT = { timeout: 300_000, interval: 300 }
const stellwerk = new Stellwerk('forwards')

interface Forward {
  readonly forward: string
  readonly hosts: readonly { readonly host: string; readonly state: string; readonly why: string | null }[]
}
const forwards = () => stellwerk.json<Forward[]>('vm', 'forwards', 'web')
const stands = async (forward: string) => (await forwards()).find(each => each.forward === forward)?.hosts
const hostOf = async (vm: string) => (await stellwerk.json<{ host: string | null }>('vm', 'show', vm)).host
const other = (host: string | null) => (host === 'host-a' ? 'host-b' : 'host-a')

/** On loopback, where nothing listens now. */
async function freePort(): Promise<number> {
  const { server, port } = await listen(0)
  await new Promise(resolve => server.close(resolve))
  return port
}

async function listen(at: number): Promise<{ server: Server; port: number }> {
  const server = createServer(socket => socket.destroy())
  const port = await new Promise<number>((resolve, reject) => {
    server.once('error', reject)
    server.listen(at, '127.0.0.1', () => resolve((server.address() as { port: number }).port))
  })
  return { server, port }
}

/** Each time by a connection of its own. */
async function page(port: number): Promise<number> {
  const answer = await fetch(`http://127.0.0.1:${port}/`, {
    headers: { connection: 'close' },
    signal: AbortSignal.timeout(10_000),
  })
  await answer.text()
  return answer.status
}

async function migrate(to: string): Promise<void> {
  const over = await stellwerk.json<{ phase: string }>('vm', 'migrate', 'web', '--to', to, '--wait')
  expect(over.phase).toBe('done')
}

describe.skipIf(qemu.missing)(`lasting forwards to a Linux guest on ${qemu.note}`, () => {
  let web = 0

  beforeAll(async () => {
    const env = createEnvironment({ name: 'test', directory: join(stellwerk.directory, 'env'), store: memoryStore() })
    copyFileSync(await tinyImageFile(env.processes), join(stellwerk.directory, 'tiny.boot'))
    await env.close()
    await stellwerk.start('up', '--hosts', '2').said(/^up after/)
    web = await freePort()
  }, LONG)

  afterAll(() => stellwerk.remove(), LONG)

  it('what cannot be is refused in one line', { timeout: LONG }, async () => {
    const words = ['--guest', 'tiny.boot', '--memory', '96MiB', '--param', 'writesPerSecond=0', '--host', 'host-a']
    const card = ['--nic', 'lan,ip=10.0.0.1', '--param', 'ip=10.0.0.1/24']
    await expect.poll(async () => (await stellwerk.run('vm', 'create', 'web', ...words, ...card)).code, PATIENT).toBe(0)
    const refusals: [string[], number, RegExp][] = [
      [['none', '80', '--keep', '--listen', '80'], 1, /no VM "none"/],
      [['web', '80', '--keep'], 2, /known by its port.*--listen 2222/],
      [['web', '80', '--keep', '--listen', '0'], 1, /"0" is no number/],
      [['web', '80', '--keep', '--listen', 'here:80'], 1, /no IPv4 address/],
      [['web', '80', '--keep', '--listen', '80', '--address', '10.0.0'], 1, /no IPv4 address/],
      [['web', '80', '--keep', '--listen', '80', '--host', 'host-z'], 1, /no host "host-z"/],
      [['web', '80', '--keep', '--listen', '80', '--on', 'some'], 1, /"some" is not one of vm, all/],
      [['web', '80', '--keep', '--listen', '80', '--on', 'all', '--host', 'host-a'], 2, /--on and --host/],
      [['web', '80', '--on', 'all'], 2, /--on is for lasting forwards.*--keep/],
    ]
    for (const [words, code, said] of refusals) {
      const refused = await stellwerk.run('vm', 'forward', ...words)
      expect([words, refused]).toEqual([words, { code, lines: [expect.stringMatching(said)] }])
    }
    expect(await forwards()).toEqual([])
    const ended = await stellwerk.run('vm', 'unforward', 'web', '2222')
    expect(ended).toEqual({ code: 1, lines: [expect.stringMatching(/no lasting forward "2222".*vm forwards web/)] })
  })

  it('it is open where its VM runs, without a command, and where that is moved to', { timeout: LONG }, async () => {
    const kept = await stellwerk.run('vm', 'forward', 'web', '80', '--listen', String(web), '--keep')
    const said = `127.0.0.1:${web} on host-a leads to web, 10.0.0.1:80, until it is ended`
    expect(kept).toEqual({ code: 0, lines: [said] })
    await expect.poll(() => page(web), PATIENT).toBe(200)
    const again = await stellwerk.run('vm', 'forward', 'web', '7', '--listen', String(web), '--keep')
    expect(again).toEqual({ code: 1, lines: [expect.stringMatching(/port \d+ is that of the forward .*vm unforward/)] })
    await migrate('host-b')
    await expect
      .poll(() => stands(String(web)), PATIENT)
      .toEqual([{ host: 'host-b', state: 'open', address: `127.0.0.1:${web}`, why: null }])
    expect(await page(web)).toBe(200)
  })

  it('a connection through one that stays on its host is held while the VM moves', { timeout: LONG }, async () => {
    const port = await freePort()
    const from = await hostOf('web')
    const words = ['web', '7', '--listen', String(port), '--keep', '--host', String(from)]
    expect((await stellwerk.run('vm', 'forward', ...words)).code).toBe(0)
    const socket = connect(port, '127.0.0.1')
    const came: Buffer[] = []
    socket.on('data', chunk => came.push(chunk as Buffer))
    const echoed = () => Buffer.concat(came).toString()
    socket.write('before ')
    await expect.poll(echoed, PATIENT).toBe('before ')
    await migrate(other(from))
    socket.write('behind')
    await expect.poll(echoed, PATIENT).toBe('before behind')
    socket.destroy()
    const ended = await stellwerk.run('vm', 'unforward', 'web', String(port))
    expect(ended).toEqual({ code: 0, lines: [`${port} leads to web no more`] })
    await expect(page(port)).rejects.toThrow()
  })

  it('a port that is taken is told, and had as soon as it is free', { timeout: LONG }, async () => {
    const { server, port } = await listen(0)
    const { code, lines } = await stellwerk.run('vm', 'forward', 'web', '80', '--listen', String(port), '--keep')
    const told = /not open on host-[ab]: the host does not let it listen there.*; it is tried again/
    expect([code, lines]).toEqual([1, [expect.stringMatching(told)]])
    expect((await stellwerk.run('why', 'vm', 'web')).lines.join('\n')).toMatch(/forward \d+ is not open on host-/)
    expect((await stellwerk.run('vm', 'show', 'web')).lines.join('\n')).toMatch(told)
    await new Promise(resolve => server.close(resolve))
    await expect.poll(async () => (await stands(String(port)))?.[0]?.state, PATIENT).toBe('open')
    expect(await page(port)).toBe(200)
    expect((await stellwerk.run('vm', 'unforward', 'web', String(port))).code).toBe(0)
  })

  it('every host may listen, and leads to the VM wherever it is', { timeout: LONG }, async () => {
    const port = await freePort()
    // Both hosts have one loopback here: one of them gets the port.
    const all = await stellwerk.run('vm', 'forward', 'web', '80', '--listen', String(port), '--keep', '--on', 'all')
    expect(all.code).toBe(1)
    const isOpen = async () => (await stands(String(port)))?.filter(({ state }) => state === 'open')
    const [listens] = (await isOpen()) ?? []
    expect([await page(port), all.lines.filter(line => line.includes('leads to')).length]).toEqual([200, 1])
    await migrate(other(await hostOf('web')))
    expect([await page(port), await isOpen()]).toEqual([200, [listens]])
    expect((await stellwerk.run('vm', 'unforward', 'web', String(port))).code).toBe(0)
  })

  it('it outlives its gateway, its host, and the coordinator', { timeout: LONG }, async () => {
    await stellwerk.kill('gateway/lan')
    await expect.poll(() => page(web).catch(() => 0), PATIENT).toBe(200)
    await stellwerk.kill('coordinator')
    expect(await page(web)).toBe(200)
    await stellwerk.run('up')
    expect((await stands(String(web)))?.length).toBe(1)
    const host = String(await hostOf('web'))
    await stellwerk.kill(`${host}/agent`)
    await expect.poll(() => page(web).catch(() => 0), PATIENT).toBe(200)
    const now = await hostOf('web')
    await expect.poll(async () => (await stands(String(web)))?.[0], PATIENT).toMatchObject({ host: now, state: 'open' })
  })

  it('it goes with its VM, and nothing of its gateway stays', { timeout: LONG }, async () => {
    const host = String(await hostOf('web'))
    expect((await stellwerk.run('vm', 'delete', 'web')).code).toBe(0)
    await expect.poll(() => page(web).catch(() => 0), PATIENT).toBe(0)
    // What an agent that was killed has left is taken away with its host's next gateway.
    const directory = join(stellwerk.state, host, 'agent', 'gateways')
    await expect.poll(() => (existsSync(directory) ? readdirSync(directory) : []), PATIENT).toEqual([])
    expect(await stellwerk.json('vm', 'forwards')).toEqual([])
  })
})
