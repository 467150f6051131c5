// A network of the guests that is a bridge of the host's: the host's own programs reach a guest by the bridge, and so does a guest of
// another host, over one TCP connection each while it moves; and nothing of it is left afterwards. In a network namespace.

import { execFileSync } from 'node:child_process'
import { copyFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { peer, peers } from '@stellwerk/runtime/testing/peers.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { childrenBelow, type Running, Stellwerk } from '../processes/stellwerk.ts'
import { qemu, tinyImageFile } from './tiny-image.ts'

const LONG = 600_000
const PATIENT = { timeout: 300_000, interval: 300 }
const BRIDGE = 'br0'
const namespace = `stellwerk-test-${process.pid}`
const tools = peers(peer('ip', 'iproute2'))
const isRoot = process.getuid?.() === 0
const missing = qemu.missing || tools.missing || !isRoot
const note = `${qemu.note}, ${tools.note}${isRoot ? '' : ', for root'}`

/** Sends a line every 20 ms to the guest's echo, and tells of every hundredth that comes back; ends when the connection does. */
const TALK = `
  const socket = require('node:net').connect(7, '10.0.0.1')
  let sent = 0, came = '', next = 0
  const timer = setInterval(() => socket.write(sent++ + '\\n'), 20)
  socket.on('data', chunk => {
    const lines = (came + chunk).split('\\n')
    came = lines.pop()
    for (const line of lines) {
      if (Number(line) !== next++) { console.log('out of order: ' + line); process.exit(1) }
      if (next % 100 === 0) console.log('echoed ' + next)
    }
  })
  socket.on('error', error => { console.log('lost: ' + error.code); process.exit(1) })
  socket.on('close', () => { clearInterval(timer); console.log('closed') })`

const ip = (...words: string[]) => execFileSync('ip', words, { encoding: 'utf8' })
const taps = () =>
  ip('-n', namespace, '-o', 'link', 'show', 'master', BRIDGE)
    .split('\n')
    .filter(line => line !== '')
const last = ({ lines }: Running, pattern: RegExp) =>
  Number(lines.flatMap(line => pattern.exec(line)?.[1] ?? []).at(-1) ?? 0)

describe.skipIf(missing)(`a network that is a bridge (${note})`, () => {
  const stellwerk = new Stellwerk('bridge')

  beforeAll(async () => {
    ip('netns', 'add', namespace)
    ip('-n', namespace, 'link', 'set', 'lo', 'up')
    stellwerk.within = ['ip', 'netns', 'exec', namespace]
    const env = createEnvironment({ name: 'test', directory: join(stellwerk.directory, 'env'), store: memoryStore() })
    copyFileSync(await tinyImageFile(env.processes), join(stellwerk.directory, 'tiny.boot'))
    await env.close()
  }, LONG)

  afterAll(async () => {
    await stellwerk.remove()
    ip('netns', 'del', namespace)
  }, LONG)

  it('reaches a guest from the host and from another host’s guest, and goes with it when it moves', {
    timeout: LONG,
  }, async () => {
    const up = stellwerk.start('up', '--hosts', '2', '--bridge', `lan=${BRIDGE}`)
    await up.said(/^up after/)
    const create = (name: string, host: string, ...more: string[]) => {
      const words = ['--guest', 'tiny.boot', '--memory', '96MiB', '--param', 'writesPerSecond=0', '--host', host]
      return expect
        .poll(async () => (await stellwerk.run('vm', 'create', name, ...words, ...more)).code, PATIENT)
        .toBe(0)
    }
    await create('web', 'host-a', '--nic', 'lan,ip=10.0.0.1', '--param', 'ip=10.0.0.1/24')
    await create('client', 'host-b', '--nic', 'lan', '--param', 'ip=10.0.0.2/24', '--param', 'talkTo=10.0.0.1')
    // The bridge comes late, and is found when it is there.
    ip('-n', namespace, 'link', 'add', BRIDGE, 'type', 'bridge')
    ip('-n', namespace, 'address', 'add', '10.0.0.100/24', 'dev', BRIDGE)
    ip('-n', namespace, 'link', 'set', BRIDGE, 'up')
    await expect.poll(() => taps().length, PATIENT).toBe(2)
    // Who holds them is nobody by now.
    const holders = childrenBelow(stellwerk.directory).filter(({ name }) => name === 'bridge/lan')
    const users = holders.map(({ pid }) => /^Uid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
    expect(users).toEqual(['65534', '65534'])

    const guest = stellwerk.console('client')
    const echoes = () => last(guest, /^echo (\d+) gap \d+$/)
    await expect.poll(echoes, PATIENT).toBeGreaterThan(50)
    const host = stellwerk.startTool(process.execPath, '-e', TALK)
    const talked = () => last(host, /^echoed (\d+)$/)
    await expect.poll(talked, PATIENT).toBeGreaterThan(100)
    const before = guest.lines.filter(line => line.startsWith('talk lost')).length
    for (const to of ['host-b', 'host-a']) {
      const over = await stellwerk.json<{ phase: string }>('vm', 'migrate', 'web', '--to', to, '--wait')
      expect(over.phase).toBe('done')
      const [echoed, said] = [echoes(), talked()]
      await expect.poll(echoes, PATIENT).toBeGreaterThan(echoed + 50)
      await expect.poll(talked, PATIENT).toBeGreaterThan(said + 100)
    }
    expect(host.lines.filter(line => !line.startsWith('echoed'))).toEqual([])
    expect(guest.lines.filter(line => line.startsWith('talk lost')).length).toBe(before)
    host.process.kill()

    up.process.kill('SIGINT')
    expect((await up.ended).code).toBe(0)
    expect(taps()).toEqual([])
  })
})
