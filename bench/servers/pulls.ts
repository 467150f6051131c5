// Pulls HBAs under a host that reads and writes all the while, and measures how long its I/O stands still: from the pull
// until everything that was under way then is answered. The figures go to a file.

import { renameSync, writeFileSync } from 'node:fs'
import { createConnection, createServer, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import '@stellwerk/protocol/messages/all.ts'
import { type MultipathDevice, openMultipath } from '@stellwerk/block/path/multipath.ts'
import { nbdPath } from '@stellwerk/block/path/nbd-path.ts'
import type { PathTransport } from '@stellwerk/block/path/transport.ts'
import { exportName, overPeer } from './carried-disk.ts'
import { config, serverEnvironment } from './config.ts'

export interface PullsConfig {
  readonly directory: string
  readonly portalSocket: string
  readonly peerPort: number
  readonly pulls: number
  readonly blackHoles: number
  readonly resultFile: string
}

export interface Pulled {
  /** Ms, one a pull: one HBA reset, both reset, both silent. */
  readonly hba: readonly number[]
  readonly redirected: readonly number[]
  readonly blackHole: readonly number[]
  readonly deadlineMs: number
}

const BLOCK = 4096
const DEPTH = 16
const DEADLINE_MS = 2_000
const PROBE_MS = 500
const PULLS_PROBE_MS = 100
const PROBE_DEADLINE_MS = 1_000

const options = config<PullsConfig>()
const env = serverEnvironment('pulls', options.directory)

/** An HBA: what stands between the host and the portal, and can be taken away. */
class Hba {
  state: 'up' | 'pulled' | 'silent' = 'up'
  port = 0
  readonly #pairs = new Set<readonly [Socket, Socket]>()

  async start(): Promise<this> {
    const server = createServer(near => this.#accept(near))
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', () => resolve()))
    server.unref()
    this.port = (server.address() as { port: number }).port
    return this
  }

  #accept(near: Socket): void {
    near.on('error', () => undefined)
    if (this.state === 'pulled') {
      near.resetAndDestroy()
      return
    }
    if (this.state === 'silent') return
    const far = createConnection(options.portalSocket)
    const pair = [near, far] as const
    this.#pairs.add(pair)
    near.setNoDelay(true)
    for (const [from, to] of [pair, [far, near] as const]) {
      from.on('error', () => undefined)
      from.on('data', chunk => {
        if (this.state === 'up') to.write(chunk)
      })
      from.on('close', () => {
        this.#pairs.delete(pair)
        if (this.state !== 'silent') to.destroy()
      })
    }
  }

  pull(): void {
    this.state = 'pulled'
    for (const [near, far] of [...this.#pairs]) {
      near.resetAndDestroy()
      far.destroy()
    }
  }

  path(name: string): PathTransport {
    return nbdPath({
      ...{ name, priority: 0, network: env.network, timers: env.timers },
      address: { network: 'fabric-0', host: '127.0.0.1', port: this.port },
      dialTimeoutMs: DEADLINE_MS,
      probe: () => {
        if (this.state === 'up') return Promise.resolve()
        if (this.state === 'pulled') return Promise.reject(new Error('pulled'))
        // As an agent's: an answer that does not come is an error in the end.
        return sleep(PROBE_DEADLINE_MS).then(() => Promise.reject(new Error('no answer')))
      },
    })
  }
}

class Bench {
  readonly #device: MultipathDevice
  readonly #startedAt = new Map<number, number>()
  #next = 0
  #over = false
  #onDone: () => void = () => undefined

  constructor(device: MultipathDevice) {
    this.#device = device
    for (let i = 0; i < DEPTH; i += 1) void this.#work(i)
  }

  async #work(lane: number): Promise<void> {
    const io = { origin: 'bench', deadlineAt: null }
    const data = [new Uint8Array(BLOCK)]
    while (!this.#over) {
      const id = this.#next++
      this.#startedAt.set(id, performance.now())
      const offset = (lane * 64 + (id % 64)) * BLOCK
      if (id % 2 === 0) await this.#device.write(offset, data, {}, io)
      else await this.#device.read(offset, BLOCK, io)
      this.#startedAt.delete(id)
      this.#onDone()
    }
  }

  /** How long until all that was under way when `pull` was called is answered. */
  async standstill(pull: () => void): Promise<number> {
    const from = performance.now()
    pull()
    const underWay = [...this.#startedAt.keys()]
    await new Promise<void>(resolve => {
      this.#onDone = () => {
        if (!underWay.some(id => this.#startedAt.has(id))) resolve()
      }
    })
    return performance.now() - from
  }

  async stop(): Promise<void> {
    this.#over = true
    await this.#device.close()
  }
}

async function measure(probeIntervalMs: number, times: number, pull: (hbas: readonly Hba[], round: number) => void) {
  const hbas = [await new Hba().start(), await new Hba().start()]
  let session = 1
  const device = await openMultipath({
    paths: [...hbas.map((hba, i) => hba.path(`hba-${i}/san`)), overPeer(env, options.peerPort)],
    exportName,
    session,
    raiseSession: () => ++session,
    clock: env.clock,
    timers: env.timers,
    config: { requestDeadlineMs: DEADLINE_MS, probeIntervalMs, backoffMaxMs: probeIntervalMs * 2 },
  })
  const bench = new Bench(device)
  const found: number[] = []
  for (let round = 0; round < times; round += 1) {
    await settled(device)
    found.push(await bench.standstill(() => pull(hbas, round)))
    for (const hba of hbas) hba.state = 'up'
  }
  await bench.stop()
  return found
}

/** Both HBAs are trusted again, and the redirected path rests. */
async function settled(device: MultipathDevice): Promise<void> {
  await sleep(50)
  while (device.paths().some(path => path.state !== (path.standby ? 'standby' : 'up'))) await sleep(20)
}

const hba = await measure(PULLS_PROBE_MS, options.pulls, (hbas, round) => hbas[round % 2]!.pull())
const redirected = await measure(PULLS_PROBE_MS, options.pulls, hbas => {
  for (const each of hbas) each.pull()
})
const blackHole = await measure(PROBE_MS, options.blackHoles, hbas => {
  for (const each of hbas) each.state = 'silent'
})
const pulled: Pulled = { hba, redirected, blackHole, deadlineMs: DEADLINE_MS }
writeFileSync(`${options.resultFile}.part`, JSON.stringify(pulled))
renameSync(`${options.resultFile}.part`, options.resultFile)
process.exit(0)
