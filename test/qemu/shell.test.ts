// The shell that the tiny guest has besides itself: lines typed on the console are done by busybox, in the guest, while it goes on.

import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { afterAll, beforeAll, describe, expect, it, onTestFailed } from 'vitest'
import { type Running, Stellwerk } from '../processes/stellwerk.ts'
import { qemu, tinyImageFile } from './tiny-image.ts'

const LONG = 600_000
const PATIENT = { timeout: 300_000, interval: 300 }
const stellwerk = new Stellwerk('shell')

describe.skipIf(qemu.missing)(`a shell in the guest (${qemu.note})`, () => {
  beforeAll(async () => {
    const env = createEnvironment({ name: 'test', directory: join(stellwerk.directory, 'env'), store: memoryStore() })
    copyFileSync(await tinyImageFile(env.processes), join(stellwerk.directory, 'tiny.boot'))
    await env.close()
    await stellwerk.start('up', '--hosts', '2').said(/^up after/)
  }, LONG)

  afterAll(() => stellwerk.remove(), LONG)

  /** What the guest says from an order to its end. */
  async function ordered({ lines, process }: Running, order: string, end: string): Promise<string> {
    const from = lines.length
    process.stdin?.write(`${order}\n`)
    const said = () => lines.slice(from)
    await expect.poll(() => said().some(line => line === end), PATIENT).toBe(true)
    return said().join('\n')
  }

  it('does what it is told, says how it ended, and fetches another guest’s page', { timeout: LONG }, async () => {
    const said: Running[] = []
    onTestFailed(() => console.log(said.flatMap(({ lines }) => lines.slice(-40)).join('\n')))
    for (const [name, host, ip] of [
      ['server', 'host-a', '10.0.0.1'],
      ['client', 'host-b', '10.0.0.2'],
    ] as const) {
      const words = ['--guest', 'tiny.boot', '--memory', '96MiB', '--host', host, '--nic', `lan,ip=${ip}`]
      const parameters = [`ip=${ip}/24`, 'writesPerSecond=0', 'workingSetMiB=1'].flatMap(each => ['--param', each])
      await expect
        .poll(async () => (await stellwerk.run('vm', 'create', name, ...words, ...parameters)).code, PATIENT)
        .toBe(0)
      said.push(stellwerk.console(name))
    }
    const [server, client] = said as [Running, Running]
    for (const { lines } of said) await expect.poll(() => lines.includes('boot'), PATIENT).toBe(true)
    const page = 'wget -q -O - http://10.0.0.1/ && ip -4 addr show'
    const text = await ordered(client, `sh ${page}`, 'ran sh status 0')
    expect(text).toMatch(/^entries 0$/m)
    expect(text).toContain('10.0.0.2/24')
    await ordered(server, 'sh cat /proc/uptime > /tmp/up && test -s /tmp/up && exit 3', 'ran sh status 3')
    await ordered(server, 'sh kill -9 $$', 'ran sh signal 9')
    // Cut short it would be another order.
    await ordered(server, `sh echo ${'x'.repeat(1_100)}`, 'line too long')
    await ordered(server, `sh echo ${'x'.repeat(900)}`, 'ran sh status 0')
  })

  it('VM2: says each line once and whole, wherever it moves meanwhile', { timeout: LONG }, async () => {
    const said = stellwerk.console('server')
    const line = /^(\d+) abcdefghijklmnopqrstuvwxyz$/
    const numbers = () => said.lines.flatMap(each => line.exec(each)?.slice(1).map(Number) ?? [])
    const loop = 'i=0; while [ ! -e /tmp/over ]; do i=$((i+1)); echo $i abcdefghijklmnopqrstuvwxyz; done'
    const answered = () => {
      if (said.lines.some(each => each.startsWith('status entries'))) return true
      said.process.stdin?.write('status\n')
      return false
    }
    await expect.poll(answered, PATIENT).toBe(true)
    said.process.stdin?.write(`sh ${loop}\n`)
    for (const to of ['host-b', 'host-a', 'host-b']) {
      const before = numbers().length
      await expect.poll(() => numbers().length, PATIENT).toBeGreaterThan(before + 200)
      const { code, lines } = await stellwerk.run('vm', 'migrate', 'server', '--to', to, '--wait')
      expect([code, lines.at(-1)]).toEqual([
        0,
        expect.stringMatching(/: done, \d+ rounds, .* sent, paused for \d+ ms$/),
      ])
    }
    await ordered(said, 'sh touch /tmp/over', 'ran sh status 0')
    await expect.poll(() => said.lines.filter(each => each === 'ran sh status 0').length, PATIENT).toBe(2)
    expect(numbers()).toEqual(numbers().map((_, i) => i + 1))
    expect(said.lines.filter(each => each.includes('xyz') && !line.test(each) && !each.startsWith('> '))).toEqual([])
  })
})
