// What programs of other people measure through the virtual switch: two Linux guests on different hosts, each with Debian's
// iperf3 and ping, which the image's maker was told to add.

import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { peer, peers } from '@stellwerk/runtime/testing/peers.ts'
import { afterAll, beforeAll, describe, expect, it, onTestFailed } from 'vitest'
import { type Running, Stellwerk } from '../processes/stellwerk.ts'
import { qemu, tinyImageFile } from './tiny-image.ts'

const LONG = 600_000
const PATIENT = { timeout: 300_000, interval: 300 }
const PINGS = 50
const SECONDS = 10
const iperf = peer('iperf3', 'iperf3')
const ping = peer('ping', 'iputils-ping')
const tools = peers(iperf, ping)
const stellwerk = new Stellwerk('iperf')

describe.skipIf(qemu.missing || tools.missing)(`${tools.note} between two guests on ${qemu.note}`, () => {
  const heard = new Map<string, Running>()

  beforeAll(async () => {
    const env = createEnvironment({ name: 'test', directory: join(stellwerk.directory, 'env'), store: memoryStore() })
    const image = await tinyImageFile(env.processes, [iperf.path ?? '', ping.path ?? ''])
    copyFileSync(image, join(stellwerk.directory, 'tools.boot'))
    await env.close()
    await stellwerk.start('up', '--hosts', '2').said(/^up after/)
  }, LONG)

  afterAll(() => stellwerk.remove(), LONG)

  /** Typed to the guest until it answers: what is typed before it has booted nobody hears. */
  async function type(name: string, order: string, answer: RegExp): Promise<void> {
    const { lines, process } = heard.get(name)!
    const answered = () => {
      if (lines.some(line => answer.test(line))) return true
      process.stdin?.write(`${order}\n`)
      return false
    }
    await expect.poll(answered, { ...PATIENT, interval: 2_000 }).toBe(true)
  }

  /** What a program says from its start to its end, which must be a good one. */
  async function run(name: string, path: string | null, ...words: string[]): Promise<string> {
    const { lines, process } = heard.get(name)!
    const from = lines.length
    process.stdin?.write(`run ${[path, ...words].join(' ')}\n`)
    const said = () => lines.slice(from)
    await expect.poll(() => said().find(line => line.startsWith(`ran ${path} `)), PATIENT).toBe(`ran ${path} status 0`)
    return said().join('\n')
  }

  const pinged = async (...words: string[]) => {
    const text = await run('client', ping.path, '-n', '-c', `${PINGS}`, ...words, '10.0.0.1')
    const [, sent, received] = /^(\d+) packets transmitted, (\d+) received/m.exec(text) ?? []
    const [, least, mean, most] = /^rtt min\/avg\/max\/mdev = ([\d.]+)\/([\d.]+)\/([\d.]+)\//m.exec(text) ?? []
    return { sent: Number(sent), received: Number(received), ms: { least, mean, most } }
  }

  /** Mbit/s as the receiver has counted them; the server serves one test and ends. */
  const measured = async (...words: string[]): Promise<number> => {
    const server = run('server', iperf.path, '-s', '-4', '-1', '--forceflush')
    await expect
      .poll(() => heard.get('server')!.lines.some(line => line.startsWith('Server listening')), PATIENT)
      .toBe(true)
    const text = await run('client', iperf.path, '-4', '-c', '10.0.0.1', '-t', `${SECONDS}`, '-f', 'm', ...words)
    await server
    heard.get('server')!.lines.length = 0
    return Number(/([\d.]+) Mbits\/sec\s+receiver/.exec(text)?.[1])
  }

  async function create(name: string, host: string, ip: string): Promise<void> {
    const words = ['--guest', 'tools.boot', '--memory', '160MiB', '--host', host, '--nic', `lan,ip=${ip}`]
    const parameters = [`ip=${ip}/24`, 'writesPerSecond=0', 'workingSetMiB=1'].flatMap(each => ['--param', each])
    await expect
      .poll(async () => (await stellwerk.run('vm', 'create', name, ...words, ...parameters)).code, PATIENT)
      .toBe(0)
    heard.set(name, stellwerk.console(name))
    await type(name, 'status', /^status entries/)
  }

  it('no ping is lost, also beside a stream; both ways there is a throughput', { timeout: LONG }, async () => {
    onTestFailed(() => console.log([...heard].flatMap(([name, { lines }]) => [name, ...lines.slice(-40)]).join('\n')))
    await create('server', 'host-a', '10.0.0.1')
    await create('client', 'host-b', '10.0.0.2')
    const hosts = ['server', 'client'].map(name => stellwerk.json<{ host: string }>('vm', 'show', name))
    expect((await Promise.all(hosts)).map(({ host }) => host)).toEqual(['host-a', 'host-b'])
    const idle = await pinged('-i', '0.2')
    expect(idle).toMatchObject({ sent: PINGS, received: PINGS })
    const there = await measured()
    const back = await measured('-R')
    const [beside, busy] = await Promise.all([measured(), pinged('-i', '0.2')])
    expect(busy).toMatchObject({ sent: PINGS, received: PINGS })
    for (const mbits of [there, back, beside]) expect(mbits).toBeGreaterThan(0)
    const round = ({ ms }: typeof idle) => `${ms.least}/${ms.mean}/${ms.most} ms`
    console.log(
      `iperf3, ${SECONDS} s each: ${there} Mbit/s there, ${back} Mbit/s back, ${beside} Mbit/s beside pings; ` +
        `${PINGS} pings (least/mean/most): ${round(idle)} alone, ${round(busy)} beside a stream`,
    )
  })
})
