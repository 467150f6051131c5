// The promise everything else stands on: the same seed gives the same run, event by event and record by record, with
// everything in it: links, streams, files, stores, children, compression, and every kind of fault.

import { expect, test } from 'vitest'
import type { Address, Environment, Json } from '../environment.ts'
import { errorCode } from '../errors.ts'
import { Simulation } from './simulation.ts'
import { bytes, filled, sleep, text } from './test-support.ts'

const HOSTS = ['a', 'b', 'c']
const linkAt = (host: string): Address => ({ network: 'cluster', host, port: 7000 })
const streamAt = (host: string): Address => ({ network: 'fabric-0', host, port: 10_809 })

/** Answers pings, counts them durably, and serves an echo stream. */
async function server(env: Environment, config: Json): Promise<void> {
  const host = String(config)
  await env.network.listen(linkAt(host), link => {
    link.onFrame(frame => {
      const count = ((env.store.get('pings') as number | undefined) ?? 0) + 1
      env.store.commit([{ put: 'pings', value: count }])
      env.trace.emit({ level: 'message', kind: 'ping', host, body: { count, from: text(frame) } })
      link.trySend([bytes(`${count}`)])
    })
    link.onClose(code => void env.trace.emit({ level: 'message', kind: 'link.closed', host, body: code }))
  })
  await env.network.listenStream(streamAt(host), stream => {
    stream.onData(chunk => void stream.write([chunk]))
    stream.onClose(error => void env.trace.emit({ level: 'io', kind: 'stream.closed', body: errorCode(error) }))
  })
}

async function pinger(env: Environment, config: Json): Promise<void> {
  const { from, to } = config as { from: string; to: string }
  for (;;) {
    try {
      const link = await env.network.dial(linkAt(to), 'control', { timeoutMs: 1000 })
      let open = true
      link.onFrame(frame => void env.trace.emit({ level: 'message', kind: 'pong', host: from, body: text(frame) }))
      link.onClose(() => {
        open = false
      })
      while (open) {
        link.trySend([bytes(env.random.id())])
        await sleep(env, 20 + env.random.int(50))
      }
    } catch (error) {
      env.trace.emit({ level: 'decision', kind: 'dial.failed', host: from, body: errorCode(error) })
    }
    await sleep(env, 100 * env.random.float())
  }
}

async function streamer(env: Environment, config: Json): Promise<void> {
  const { to } = config as { to: string }
  for (;;) {
    await env.network
      .dialStream(streamAt(to), { timeoutMs: 500 })
      .then(async stream => {
        let received = 0
        let open = true
        stream.onData(chunk => {
          received += chunk.byteLength
        })
        stream.onClose(() => {
          open = false
        })
        for (let i = 0; i < 20 && open; i++) {
          stream.write([filled(1 + env.random.int(20_000), i)])
          await sleep(env, 10)
        }
        env.trace.emit({ level: 'io', kind: 'streamed', body: received })
        stream.end()
      })
      .catch(error => env.trace.emit({ level: 'io', kind: 'stream.failed', body: errorCode(error) }))
    await sleep(env, 50)
  }
}

async function writer(env: Environment): Promise<void> {
  const file = await env.files.open('lun', { create: true })
  for (let i = 0; ; i++) {
    const at = 512 * env.random.int(64)
    try {
      await file.write(at, [i % 10 === 0 ? await env.compute.compress(env.random.bytes(700)) : env.random.bytes(700)], {
        durable: i % 5 === 0,
      })
      if (i % 7 === 0) await file.sync()
      const back = await file.read(at, 8)
      env.trace.emit({ level: 'io', kind: 'disk.read', body: [...back] })
    } catch (error) {
      env.trace.emit({ level: 'io', kind: 'disk.failed', body: errorCode(error) })
      if (env.random.int(3) === 0) throw error
    }
    await sleep(env, 20)
  }
}

/** Restarts its children, as a guardian does. */
async function keeper(env: Environment, config: Json): Promise<void> {
  const host = String(config)
  await env.processes.killLeftovers()
  const others = HOSTS.filter(other => other !== host)
  const keep = (program: string, name: string, childConfig: Json) => {
    const child = env.processes.spawn({ program, name: `${host}/${name}`, config: childConfig })
    child.onExit(exit => {
      env.trace.emit({ level: 'decision', kind: 'child.exit', host, body: { name, ...exit } })
      env.timers.after(50, () => keep(program, name, childConfig))
    })
  }
  keep('server', 'server', host)
  keep('writer', 'writer', null)
  for (const to of others) {
    keep('pinger', `ping-${to}`, { from: host, to })
    keep('streamer', `stream-${to}`, { to })
  }
}

interface Healable {
  heal(): void
}

/** One fault at random; what it needs to end. */
function fault(sim: Simulation): Healable {
  const { random } = faults(sim)
  const host = HOSTS[random.int(3)] ?? 'a'
  const other = HOSTS.find(name => name !== host) ?? 'b'
  const processes = sim.host(host).processes
  const victim = processes[random.int(Math.max(1, processes.length))]
  const kinds: (() => Healable)[] = [
    () => sim.network.cut(host, other, { oneWay: random.int(2) === 0 }),
    () => sim.network.isolate(host),
    () =>
      sim.network.partition([
        ['a', 'b'],
        ['b', 'c'],
      ]),
    () => sim.network.slow({ from: host }, { delayMs: 30, jitterMs: 50, loss: 0.2, bytesPerMs: 5000 }),
    () => sim.network.clog({ to: host }),
    () => sim.network.refuseDials({ to: host }),
    () => sim.network.interfaceDown(host, 'fabric-0'),
    () => sim.host(host).disk.fault({ operation: ['write', 'sync'], chance: 0.3, verdict: 'EIO' }),
    () => sim.host(host).disk.fault({ operation: 'read', verdict: { delayMs: 40, jitterMs: 10 } }),
    () => sim.host(host).disk.fault({ verdict: 'hang', operation: 'write' }),
    () => {
      sim.network.reset({ from: host })
      return { heal: () => undefined }
    },
    () => {
      victim?.kill()
      return { heal: () => undefined }
    },
    () => {
      victim?.pause()
      return { heal: () => victim?.resume() }
    },
    () => {
      sim.host(host).crash({ unsynced: 'torn' })
      return {
        heal: () => {
          sim.host(host).powerOn()
          if (sim.host(host).process(`${host}/keeper`)?.alive !== true)
            sim.host(host).spawn('keeper', `${host}/keeper`, host)
        },
      }
    },
    () => {
      sim.host(host).setClockRate(1 + (random.float() - 0.5) / 50)
      sim.host(host).jumpWall(random.int(1000) - 500)
      return { heal: () => undefined }
    },
  ]
  return kinds[random.int(kinds.length)]?.() ?? { heal: () => undefined }
}

const faults = (sim: Simulation) => ({ random: sim.random.fork(`fault/${sim.events}`) })

async function world(seed: number) {
  // A short keepalive, so that a short run has broken connections and failed dials.
  const sim = new Simulation({ seed, network: { keepaliveMs: 300 } })
  for (const [name, main] of Object.entries({ server, pinger, streamer, writer, keeper })) sim.program(name, main)
  for (const host of HOSTS) sim.host(host).spawn('keeper', `${host}/keeper`, host)
  for (let i = 0; i < 8; i++) {
    await sim.runFor(200)
    if (sim.hosts.every(host => host.powered)) {
      const active = fault(sim)
      await sim.runFor(i === 5 ? 2000 : 600)
      active.heal()
    }
  }
  const kinds = new Map<string, number>()
  for (const { kind } of sim.trace) kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
  return { hash: sim.traceHash(), events: sim.events, records: sim.recorder.count, kinds, now: sim.now }
}

test('the same seed twice gives the same trace hash, other seeds give others', async () => {
  const hashes = new Set<string>()
  const kinds = new Set<string>()
  for (let seed = 1; seed <= 12; seed++) {
    const once = await world(seed)
    const twice = await world(seed)
    expect(twice).toEqual(once)
    hashes.add(once.hash)
    for (const kind of once.kinds.keys()) kinds.add(kind)
    expect(once.events).toBeGreaterThan(5000)
  }
  expect(hashes.size).toBe(12)
  // Not vacuous: over the seeds, everything of the programs came to pass.
  for (const kind of [
    'ping',
    'pong',
    'link.closed',
    'streamed',
    'stream.failed',
    'disk.read',
    'disk.failed',
    'dial.failed',
  ]) {
    expect([...kinds]).toContain(kind)
  }
  for (const kind of ['child.exit', 'process.dead', 'process.crashed']) expect([...kinds]).toContain(kind)
})
