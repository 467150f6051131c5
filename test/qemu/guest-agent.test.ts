// A Linux guest with QEMU's own agent in it, Debian's qemu-ga, which the image's maker was told to add: it is seen with what it tells,
// a forward finds its address, and it is found again where the guest moves, by its host's next agent, and by nobody once it has ended.

import { copyFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { peer, peers } from '@stellwerk/runtime/testing/peers.ts'
import { afterAll, beforeAll, describe, expect, it, onTestFailed } from 'vitest'
import { type Running, Stellwerk } from '../processes/stellwerk.ts'
import { qemu, tinyImageFile } from './tiny-image.ts'

const LONG = 900_000
const PATIENT = { timeout: 300_000, interval: 500 }
const agent = peer('qemu-ga', 'qemu-guest-agent')
const tools = peers(agent)
const MAC = '52:54:00:00:00:07'
/** Behind a disk and a card on its bus. */
const PORT = '/dev/vport2p1'
const stellwerk = new Stellwerk('qga')

interface Seen {
  readonly host: string | null
  readonly guestAgent: { readonly state: string; readonly interfaces: readonly object[] } | null
}
const show = () => stellwerk.json<Seen>('vm', 'show', 'www')
const stateOf = async () => (await show()).guestAgent?.state

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  await new Promise(resolve => server.close(resolve))
  return port
}

describe.skipIf(qemu.missing || tools.missing)(`${tools.note} in a Linux guest on ${qemu.note}`, () => {
  let said: Running

  beforeAll(async () => {
    const env = createEnvironment({ name: 'test', directory: join(stellwerk.directory, 'env'), store: memoryStore() })
    copyFileSync(await tinyImageFile(env.processes, [agent.path ?? '']), join(stellwerk.directory, 'agent.boot'))
    await env.close()
    // Its lease is long: an agent that starts on a busy machine takes a while.
    await stellwerk.start('up', '--hosts', '2', '--supervise', '--profile', 'production').said(/^up after/)
  }, LONG)

  afterAll(() => stellwerk.remove(), LONG)

  it('is absent until it runs, and then tells of its guest', { timeout: LONG }, async () => {
    onTestFailed(() => console.log(said.lines.slice(-40).join('\n')))
    const words = ['--guest', 'agent.boot', '--memory', '160MiB', '--host', 'host-a', '--disk', 'csv1:64MiB']
    const card = ['--nic', `lan,mac=${MAC}`, '--param', 'ip=10.0.0.7/24', '--param', 'writesPerSecond=5']
    await expect.poll(async () => (await stellwerk.run('vm', 'create', 'www', ...words, ...card)).code, PATIENT).toBe(0)
    said = stellwerk.console('www')
    const answers = () => {
      if (said.lines.some(line => line.startsWith('status entries'))) return true
      said.process.stdin?.write('status\n')
      return false
    }
    await expect.poll(answers, { ...PATIENT, interval: 2_000 }).toBe(true)
    expect(await stateOf()).toBe('absent')
    const unknown = await stellwerk.run('vm', 'forward', 'www', '80', '--listen', '80', '--keep')
    expect(unknown).toEqual({ code: 1, lines: [expect.stringMatching(/nobody knows which address.*qemu-ga/)] })
    said.process.stdin?.write(`run ${agent.path} -m virtio-serial -p ${PORT} -t /tmp -f /tmp/agent.pid\n`)
    await expect.poll(stateOf, PATIENT).toBe('there')
    expect((await show()).guestAgent).toMatchObject({
      version: expect.stringMatching(/^\d+\.\d+/),
      os: expect.stringMatching(/^kernel \d+\.\d+.*cloud/),
      interfaces: [{ mac: MAC, addresses: ['10.0.0.7'] }],
    })
    const { lines } = await stellwerk.run('vm', 'show', 'www')
    expect(lines).toContainEqual(expect.stringMatching(/^agent +there \(\d/))
    expect(lines).toContainEqual(expect.stringMatching(/52:54:00:00:00:07, 10\.0\.0\.7$/))
  })

  it('a forward without an address leads to the one that it tells', { timeout: LONG }, async () => {
    const port = await freePort()
    const kept = await stellwerk.run('vm', 'forward', 'www', '80', '--listen', String(port), '--keep')
    expect(kept).toEqual({
      code: 0,
      lines: [expect.stringMatching(/leads to www, 10\.0\.0\.7:80, until it is ended$/)],
    })
    const page = async () => (await fetch(`http://127.0.0.1:${port}/`, { headers: { connection: 'close' } })).status
    await expect.poll(() => page().catch(() => 0), PATIENT).toBe(200)
  })

  it('a snapshot of a guest without a file system says that it was not frozen', { timeout: LONG }, async () => {
    const { lines } = await stellwerk.run('disk', 'snapshot', 'csv1', 'www-0', 'kept')
    expect(lines.at(-1)).toMatch(/crash-consistent \(its guest has no file system that can be frozen\)$/)
  })

  it('it is there again behind a migration, and with the next agent of its host', { timeout: LONG }, async () => {
    const over = await stellwerk.json<{ phase: string }>('vm', 'migrate', 'www', '--to', 'host-b', '--wait')
    expect(over.phase).toBe('done')
    await expect.poll(show, PATIENT).toMatchObject({ host: 'host-b', guestAgent: { state: 'there' } })
    const boots = () => said.lines.filter(line => line === 'boot').length
    const booted = boots()
    await stellwerk.kill('host-b/agent')
    await expect.poll(stateOf, PATIENT).not.toBe('there')
    await expect.poll(show, PATIENT).toMatchObject({ host: 'host-b', guestAgent: { state: 'there' } })
    expect(boots()).toBe(booted)
  })

  it('the guest shuts down by its power button where its agent cannot', { timeout: LONG }, async () => {
    expect((await stellwerk.run('vm', 'stop', 'www', '--timeout', '120000')).code).toBe(0)
    const state = async () => await stellwerk.json<{ state: string; why: string | null }>('vm', 'show', 'www')
    await expect.poll(state, PATIENT).toMatchObject({ state: 'stopped' })
    expect((await state()).why ?? '').not.toMatch(/killed/)
    expect((await show()).guestAgent).toBe(null)
  })
})
