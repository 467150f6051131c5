// A database as people run one, on a disk of a mirrored volume: PostgreSQL on ext4, while fifty faults at random hit hosts,
// storages, cables and the coordinator. When the host that serves the disk is lost, ext4 and PostgreSQL recover from what is
// there, as after a power failure, over another host. No transaction that a client was told is committed may be missing.

import { errorCode } from '@stellwerk/runtime/errors.ts'
import { SimRandom } from '@stellwerk/runtime/sim/random.ts'
import { peers } from '@stellwerk/runtime/testing/peers.ts'
import type { ApiClient } from 'stellwerk/api-client/client.ts'
import { endExport, lookAtExport } from 'stellwerk/api-client/exports.ts'
import { apiOf } from 'stellwerk/cluster/directory.ts'
import { afterAll, beforeAll, describe, expect, it, onTestFailed } from 'vitest'
import { exportDisk } from './clients.ts'
import { DATABASE_PEERS, Database } from './database.ts'
import { MOUNT_PEERS, MountedDisk } from './mounted-disk.ts'
import { freePorts } from './served-cluster.ts'
import { type Running, Stellwerk } from './stellwerk.ts'

/** As many as the environment says, or fifty. */
const FAULTS = Number(process.env['STELLWERK_FAULTS'] ?? '50')
const CLIENTS = 3
const LONG = 3_600_000
const PATIENCE = { timeout: 120_000, interval: 200 }
const VOLUME = 'csv1'
const DISK = 'pg'
const HOSTS = ['host-a', 'host-b', 'host-c'] as const
const STORAGES = ['san-a', 'san-b'] as const

/** What must be whole before it: one host and one storage may be lost at a time, and a second fault may follow the first. */
type Needs = 'hosts' | 'storages' | 'nothing'
interface Drawn {
  readonly needs: Needs
  /** Words of `chaos inject`; more than one: at once. */
  readonly faults: readonly (readonly string[])[]
}

type Draw = (random: SimRandom) => Drawn
const host = (random: SimRandom) => ['--host', HOSTS[random.int(HOSTS.length)] ?? '']
const storage = (random: SimRandom) => ['--storage', STORAGES[random.int(STORAGES.length)] ?? '']
const one = (needs: Needs, ...words: readonly string[]): Drawn => ({ needs, faults: [words] })

const DRAWS: readonly Draw[] = [
  random => one('hosts', 'agent-kill', ...host(random)),
  random => one('hosts', 'host-kill', ...host(random)),
  random => one('hosts', 'host-pause', ...host(random)),
  random => one('hosts', 'host-restart', ...host(random)),
  random => one('hosts', 'host-isolate', ...host(random)),
  random => one('hosts', 'clock-jump', ...host(random), '--by', '300000'),
  random => one('storages', 'storage-kill', ...storage(random)),
  random => one('storages', 'storage-kill', ...storage(random)),
  random => one('storages', 'storage-pause', ...storage(random)),
  random => one('storages', 'disk-full', ...storage(random)),
  random => one('storages', 'io-error', ...storage(random), '--chance', '0.5'),
  random => one('nothing', 'disk-slow', ...storage(random), '--delay', '60'),
  random => one('nothing', 'fabric-down', '--fabric', String(random.int(2))),
  random => one('nothing', 'cable-pull', ...host(random), '--fabric', String(random.int(2))),
  random => {
    const words = ['cable-pull', ...host(random), '--fabric']
    return {
      needs: 'nothing',
      faults: [
        [...words, '0'],
        [...words, '1'],
      ],
    }
  },
  random => one('nothing', 'loss', ...host(random), '--chance', '0.1'),
  () => one('nothing', 'coordinator-kill'),
  () => one('nothing', 'coordinator-pause'),
]

const { missing, note } = peers(...DATABASE_PEERS, ...MOUNT_PEERS)
const isRoot = process.getuid?.() === 0
const how = isRoot ? note : `${note}; mounting takes root`

describe.skipIf(missing || !isRoot)(`PostgreSQL on ext4 on a cluster’s disk (${how})`, () => {
  const stellwerk = new Stellwerk('database')
  const mounted = new MountedDisk(stellwerk)
  const seed = process.env['STELLWERK_SEED'] ?? String(Date.now())
  const random = new SimRandom(`database/${seed}`)
  const story: string[] = [`STELLWERK_SEED=${seed}`]
  let database: Database
  let api: ApiClient
  let up: Running
  let recoveries = 0

  beforeAll(async () => {
    const [port = 0] = await freePorts(stellwerk, 1)
    database = new Database(stellwerk, mounted.directory, port)
    up = stellwerk.start('up', '--profile', 'lab', '--chaos')
    await up.said(/^up after/)
    api = await apiOf(stellwerk.state)
    expect((await stellwerk.run('disk', 'create', VOLUME, DISK, '512MiB')).code).toBe(0)
    await mounted.attach(await exportDisk(api, VOLUME, DISK))
    await mounted.format()
    await mounted.mount()
    await database.create()
  }, LONG)

  afterAll(async () => {
    mounted.disconnect()
    try {
      await database.stop('immediate')
      await database.finishClients()
      await mounted.abandon()
    } finally {
      await stellwerk.remove()
    }
  }, LONG)

  const statesOf = async (needs: Needs): Promise<readonly string[]> => {
    const { hosts, volumes } = await api.status()
    if (needs === 'hosts') return Object.values(hosts).map(({ state }) => state)
    return (volumes[VOLUME]?.legs ?? []).map(({ role }) => role)
  }
  const isWhole = async (needs: Needs) => {
    if (needs === 'nothing') return
    const wanted = needs === 'hosts' ? HOSTS.map(() => 'up') : STORAGES.map(() => 'in-sync')
    await expect.poll(() => statesOf(needs).catch(String), PATIENCE).toEqual(wanted)
  }

  const isExported = async () => {
    try {
      await lookAtExport(api, VOLUME, DISK)
      return true
    } catch (error) {
      if (errorCode(error) === 'unknown-export') return false
      // The coordinator is away: nothing is lost by that.
      return true
    }
  }

  /** As whoever looks after a database does when the host that served its disk is lost. */
  const recover = async () => {
    recoveries += 1
    mounted.disconnect()
    await database.stop('immediate')
    await mounted.abandon()
    await mounted.attach(await exportAgain())
    await mounted.mount()
    await database.start()
  }

  /** The host that had it may have to be fenced first. */
  const exportAgain = async (): Promise<string> => {
    let uri = ''
    const tryIt = () => exportDisk(api, VOLUME, DISK).then(said => (uri = said), String)
    await expect.poll(tryIt, PATIENCE).toMatch(/^nbd:/)
    return uri
  }

  /** Clients are told of more, over another host if it must be; no error has reached ext4 or PostgreSQL as long as it is the same. */
  const goesOn = async () => {
    const before = database.committed()
    await expect
      .poll(async () => {
        if (!(await isExported())) await recover()
        // Between an error here and the export's end there may be a moment; without an end there may be no error.
        return database.isRunning() && mounted.errors() === 0 && database.committed() > before + 5
      }, PATIENCE)
      .toBe(true)
  }

  it(`commits through ${FAULTS} faults, and loses nothing that it said was committed`, { timeout: LONG }, async () => {
    onTestFailed(() => console.log([...story, database.lastWords(), ...up.lines.slice(-40)].join('\n')))
    database.beginClients(CLIENTS)
    await goesOn()
    for (let fault = 1; fault <= FAULTS; fault += 1) {
      const { needs, faults } = DRAWS[random.int(DRAWS.length)]?.(random) ?? one('nothing', 'coordinator-kill')
      const seconds = String(1 + random.int(5))
      await isWhole(needs)
      story.push(
        `${fault}: ${faults.map(words => words.join(' ')).join(' + ')} for ${seconds} s, ${database.committed()} committed`,
      )
      const done = faults.map(words => stellwerk.run('chaos', 'inject', ...words, '--seconds', seconds))
      for (const { code, lines } of await Promise.all(done)) expect(code, lines.join('\n')).toBe(0)
      await goesOn()
    }
    await database.finishClients()
    console.log(
      `${FAULTS} faults, ${database.committed()} transactions committed, ${recoveries} recoveries, seed ${seed}`,
    )
    await database.audit()
  })

  it('and every page, index and inode is sound, on either leg', { timeout: LONG }, async () => {
    await isWhole('hosts')
    await isWhole('storages')
    await database.checkPages()
    await mounted.unmountAndCheck()
    await mounted.detach()
    await endExport(api, VOLUME, DISK)
    const scrub = await stellwerk.run('volume', 'check', VOLUME, '--scrub')
    expect(scrub).toMatchObject({ code: 0, lines: expect.arrayContaining([`${VOLUME} is sound`]) })
    expect(scrub.lines).toContainEqual(expect.stringMatching(/: 0 repaired, 0 undecided, 0 not compared$/))
    expect((await stellwerk.run('down')).lines).toEqual(['the cluster is down'])
    const check = await stellwerk.run('volume', 'check', VOLUME)
    expect([check.code, check.lines.at(-1)]).toEqual([0, `${VOLUME} is sound`])
  })
})
