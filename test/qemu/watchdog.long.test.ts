// The watchdog of a real machine by Linux' own driver for it: fed by a program of the guest, here and where it has moved; and when that
// program is gone the guest has crashed, and begins anew.

import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { CLOUD_KERNEL } from 'stellwerk/images/tiny.ts'
import { afterAll, beforeAll, describe, expect, it, onTestFailed } from 'vitest'
import { type Running, Stellwerk } from '../processes/stellwerk.ts'
import { qemu, tinyImageFile } from './tiny-image.ts'

const LONG_TESTS = process.env['STELLWERK_LONG'] === '1'
const LONG = 900_000
const PATIENT = { timeout: 600_000, interval: 500 }
/** The cloud kernel has no driver for it. */
const ORDINARY_KERNEL = {
  package: 'linux-image-amd64',
  modules: [...CLOUD_KERNEL.modules, 'lpc_ich', 'watchdog', 'intel_pmc_bxt', 'iTCO_vendor_support', 'iTCO_wdt'],
}
/** It barks after twice so long. */
const TIMEOUT_S = 8
const stellwerk = new Stellwerk('watchdog')

describe.skipIf(qemu.missing || !LONG_TESTS)(`a watchdog and its driver (${qemu.note})`, () => {
  let said: Running

  beforeAll(async () => {
    const env = createEnvironment({ name: 'test', directory: join(stellwerk.directory, 'env'), store: memoryStore() })
    const image = await tinyImageFile(env.processes, [], ORDINARY_KERNEL)
    copyFileSync(image, join(stellwerk.directory, 'ordinary.boot'))
    await env.close()
    await stellwerk.start('up', '--hosts', '2').said(/^up after/)
  }, LONG)

  afterAll(() => stellwerk.remove(), LONG)

  const acknowledged = () => said.lines.filter(line => /^ack \d+$/.test(line))
  const boots = () => said.lines.filter(line => line === 'boot').length
  const crashes = async () =>
    (await stellwerk.run('events')).lines.filter(line => line.includes('its watchdog was not fed'))
  const fedFor = async (seconds: number): Promise<void> => {
    const before = acknowledged().length
    await new Promise(resolve => setTimeout(resolve, seconds * 1_000))
    expect(acknowledged().length).toBeGreaterThan(before)
    expect([boots(), await crashes()]).toEqual([1, []])
  }
  async function shell(order: string): Promise<void> {
    const before = said.lines.length
    said.process.stdin?.write(`sh ${order}\n`)
    const ended = () => said.lines.slice(before).find(line => line.startsWith('ran sh'))
    await expect.poll(ended, PATIENT).toBe('ran sh status 0')
  }

  it('is left alone while it is fed, on either host', { timeout: LONG }, async () => {
    const words = ['--guest', 'ordinary.boot', '--disk', 'csv1:64MiB', '--memory', '256MiB', '--host', 'host-a']
    await expect
      .poll(
        async () => (await stellwerk.run('vm', 'create', 'tux', ...words, '--param', 'workingSetMiB=8')).code,
        PATIENT,
      )
      .toBe(0)
    said = stellwerk.console('tux')
    onTestFailed(() => console.log(said.lines.slice(-40).join('\n')))
    await expect.poll(() => acknowledged().length, PATIENT).toBeGreaterThan(10)
    await shell(`cat /sys/class/watchdog/watchdog0/identity | grep iTCO && watchdog -T ${TIMEOUT_S} -t 1 /dev/watchdog`)
    await fedFor(3 * TIMEOUT_S)
    const { phase } = await stellwerk.json<{ phase: string }>('vm', 'migrate', 'tux', '--to', 'host-b', '--wait')
    expect(phase).toBe('done')
    await fedFor(3 * TIMEOUT_S)
  })

  it('barks when nobody feeds it any more: the guest has crashed, and begins anew with all that it had called durable', {
    timeout: LONG,
  }, async () => {
    onTestFailed(() => console.log(said.lines.slice(-40).join('\n')))
    await shell('killall -9 watchdog')
    await expect.poll(boots, PATIENT).toBe(2)
    expect(await crashes()).not.toEqual([])
    const last = said.lines.findLastIndex(line => line.startsWith('recovered'))
    const durable = Number(
      said.lines
        .slice(0, last)
        .findLast(line => /^ack \d+$/.test(line))
        ?.slice(4),
    )
    const [, entries, how] = /^recovered (\d+) (\w+)$/.exec(said.lines[last] ?? '') ?? []
    expect([Number(entries) >= durable, how]).toEqual([true, 'intact'])
    const before = acknowledged().length
    await expect.poll(() => acknowledged().length, PATIENT).toBeGreaterThan(before + 5)
  })
})
