// One side of live migrations of a QEMU machine, as a process of its own: Stellwerk's way, over a bulk link, or QEMU's own, from
// one QEMU to another over TCP. After each the source's guest runs on, so that the next finds it as busy as this one.

import { renameSync, writeFileSync } from 'node:fs'
import type { Outgoing } from '@stellwerk/agent/hypervisor/hypervisor.ts'
import { decodeBootImage } from '@stellwerk/agent/hypervisor/qemu/boot-image.ts'
import { commandLine, INITRD_FILE, KERNEL_FILE, kernelWords } from '@stellwerk/agent/hypervisor/qemu/command-line.ts'
import { QemuHypervisor } from '@stellwerk/agent/hypervisor/qemu/hypervisor.ts'
import type { QemuMachine } from '@stellwerk/agent/hypervisor/qemu/machine.ts'
import { probeQemu, QEMU_PROGRAM } from '@stellwerk/agent/hypervisor/qemu/probe.ts'
import { QemuProcess } from '@stellwerk/agent/hypervisor/qemu/qemu-process.ts'
import { relay } from '@stellwerk/agent/migration/byte-relay.ts'
import { BulkStreams } from '@stellwerk/agent/migration/streams.ts'
import { MemoryDevice } from '@stellwerk/block/memory-device.ts'
import { listenSessions } from '@stellwerk/protocol/session-handshake.ts'
import type { ByteStream, CommandSpec, Json } from '@stellwerk/runtime/environment.ts'
import { benchIdentity, config, endWithParent, serverEnvironment } from './config.ts'
import { machineNow, migrationId } from './migration-shapes.ts'
import { takeOrders } from './orders.ts'
import { DISK_BYTES, QEMU_VM, qemuSpec, type Received, type Sent, type SideConfig } from './qemu-shapes.ts'

const BANDWIDTH_MAX = 2 ** 40
const MAX_ROUNDS = 30
/** Entries that its guest has acknowledged before it is moved. */
const WARM_ENTRIES = 20
const RSS_LOOK_MS = 20

interface Boot {
  readonly image: string
  readonly dirtyMiBPerSecond: number
}

const options = config<SideConfig>()
const whole = serverEnvironment(options.name, options.directory)
/** A pool that takes nothing has all go as it is. */
const uncompressing = { ...whole.compute, compress: () => Promise.reject(new Error('nothing is to be compressed')) }
const env = options.compresses ? whole : { ...whole, compute: uncompressing }
const streams = new BulkStreams(env, benchIdentity(options.name))
const start = async (_vm: string | null, spec: CommandSpec) => env.processes.command(spec)
const hypervisor = new QemuHypervisor(
  { env, mayExecute: () => true, until: () => Number.POSITIVE_INFINITY, evidence: () => undefined },
  { start },
)
const listener = await listenSessions(
  env,
  { network: 'cluster', host: options.host, port: 0 },
  benchIdentity(options.name),
  () => ({ ok: true }),
  session => streams.accept(session),
)

let machine: QemuMachine | null = null
let outgoing: Outgoing | null = null
let plain: QemuProcess | null = null
let plains = 0
let plainRuns = Promise.withResolvers<number>()

const disk = () => new MemoryDevice({ size: DISK_BYTES })

takeOrders({
  /** The guest of Stellwerk's migrations. */
  boot: async ({ image, dirtyMiBPerSecond }: Boot) => {
    machine = await hypervisor.create(qemuSpec(image, dirtyMiBPerSecond), [disk()], [])
    const warm = Promise.withResolvers<void>()
    machine.onEvent(event => {
      if (event.kind === 'console' && event.line === `ack ${WARM_ENTRIES}`) warm.resolve()
      if (event.kind === 'crashed' || event.kind === 'halted') warm.reject(new Error(event.reason))
    })
    machine.start()
    await warm.promise
  },
  /** Answers when the guest stands still for good here. */
  send: async ({ n, downtimeMs }: { n: number; downtimeMs: number }): Promise<Sent> => {
    const linked = Promise.withResolvers<ByteStream>()
    streams.expect(migrationId(n), linked.resolve)
    const stream = await linked.promise
    const memory = watchMemory()
    const startedAt = machineNow()
    const sending = machine!.send({ downtimeMs, maxRounds: MAX_ROUNDS, whenDiverging: 'pause' })
    outgoing = sending
    let pausedAt = 0
    machine!.onQemuEvent(({ event }) => {
      if (event === 'STOP' && pausedAt === 0) pausedAt = machineNow()
    })
    relay(sending.stream, stream)
    await sending.converged
    await sending.release(async () => ({}))
    return { startedAt, pausedAt, grownBytes: memory() }
  },
  resume: async () => outgoing?.abort(),
  /** While the other guest is measured. */
  rest: async () => machine?.freeze('the other one is measured'),
  wake: async () => machine?.thaw(),
  end: async () => machine?.kill(),
  receive: async ({ n, port, host, image, dirtyMiBPerSecond }: Boot & { n: number; port: number; host: string }) => {
    const incoming = await hypervisor.receive(qemuSpec(image, dirtyMiBPerSecond), [disk()], [])
    const stream = await opened(migrationId(n), host, port)
    const memory = watchMemory()
    let streamBytes = 0
    const counted: ByteStream = {
      ...stream,
      onData: f =>
        stream.onData(chunk => {
          streamBytes += chunk.length
          f(chunk)
        }),
    }
    await incoming.load(counted)
    const grownBytes = memory()
    const running = (await incoming.run({ migration: migrationId(n), vm: QEMU_VM, placementEpoch: n })) as QemuMachine
    const runs = Promise.withResolvers<number>()
    running.onQemuEvent(({ event }) => {
      if (event === 'RESUME') runs.resolve(machineNow())
    })
    const runsAt = await runs.promise
    await running.kill()
    return { runsAt, streamBytes, grownBytes } satisfies Received
  },

  /** The guest of QEMU's own. */
  plainBoot: async ({ image, dirtyMiBPerSecond }: Boot) => {
    plain = await plainQemu(image, dirtyMiBPerSecond, false)
    await acknowledged(plain, WARM_ENTRIES)
    return null
  },
  plainSend: async ({ uri, downtimeMs }: { uri: string; downtimeMs: number }): Promise<Sent> => {
    const { qmp } = plain!
    const over = Promise.withResolvers<void>()
    let startedAt = 0
    let pausedAt = 0
    qmp.onEvent(({ event, data }) => {
      // Before it began the guest may have been at rest.
      if (event === 'STOP' && startedAt !== 0 && pausedAt === 0) pausedAt = machineNow()
      if (event !== 'MIGRATION') return
      if (data['status'] === 'completed') over.resolve()
      if (data['status'] === 'failed') over.reject(new Error('QEMU’s own migration has failed'))
    })
    const on = (...names: string[]): Json => names.map(capability => ({ capability, state: true }))
    await qmp.execute('migrate-set-capabilities', { capabilities: on('events', 'auto-converge') })
    await qmp.execute('migrate-set-parameters', { 'downtime-limit': downtimeMs, 'max-bandwidth': BANDWIDTH_MAX })
    startedAt = machineNow()
    await qmp.execute('migrate', { uri })
    await over.promise
    return { startedAt, pausedAt, grownBytes: 0 }
  },
  plainRest: async () => plain?.qmp.execute('stop'),
  plainWake: async () => plain?.qmp.execute('cont'),
  plainEnd: async () => {
    plain?.kill()
    await plain?.gone
    return null
  },
  /** Answers with the port at which it waits, where that is to be a free one. */
  plainReceive: async ({ image, dirtyMiBPerSecond, uri }: Boot & { uri: string }): Promise<number> => {
    plain = await plainQemu(image, dirtyMiBPerSecond, true)
    await plain.qmp.execute('migrate-set-capabilities', { capabilities: [{ capability: 'events', state: true }] })
    plainRuns = Promise.withResolvers()
    plain.qmp.onEvent(({ event }) => {
      if (event === 'RESUME') plainRuns.resolve(machineNow())
    })
    await plain.qmp.execute('migrate-incoming', { uri })
    const answer = (await plain.qmp.execute('query-migrate')) as { 'socket-address'?: { port?: string }[] }
    return Number(answer['socket-address']?.[0]?.port)
  },
  plainReceived: async (): Promise<Received> => {
    const runsAt = await plainRuns.promise
    plain?.kill()
    await plain?.gone
    return { runsAt, streamBytes: 0, grownBytes: 0 }
  },
})

writeFileSync(`${options.readyFile}.part`, JSON.stringify({ port: listener.address.port }))
renameSync(`${options.readyFile}.part`, options.readyFile)
endWithParent()

/** As the hypervisor starts one, but that it executes as soon as it can: nobody's word is waited for. */
async function plainQemu(image: string, dirtyMiBPerSecond: number, incoming: boolean): Promise<QemuProcess> {
  const spec = qemuSpec(image, dirtyMiBPerSecond)
  const bytes = await env.files.read(image)
  const { kernel, initrd, commandLine: words } = decodeBootImage(image, bytes ?? new Uint8Array(0))
  const boot = { kind: 'kernel', commandLine: kernelWords(words, spec) } as const
  const { accelerator } = await probeQemu(env, start)
  const args = commandLine({ spec, accelerator, disks: 1, macs: [], boot, seed: false, incoming })
  return QemuProcess.start({
    ...{ env, vm: QEMU_VM, program: QEMU_PROGRAM, start, directory: `machines/plain-${++plains}` },
    args: args.filter(word => word !== '-S'),
    contents: { [KERNEL_FILE]: kernel, [INITRD_FILE]: initrd },
    ...{ disks: [disk()], nics: 0, agentPort: false, keep: null, incoming },
  })
}

function acknowledged({ console }: QemuProcess, entries: number): Promise<void> {
  return new Promise(resolve => {
    let said = ''
    console.onData(bytes => {
      said = (said + Buffer.from(bytes).toString('latin1')).slice(-4_096)
      if (said.includes(`ack ${entries}\r`) || said.includes(`ack ${entries}\n`)) resolve()
    })
  })
}

/** The source expects the next migration only when it is over with the last one. */
async function opened(id: string, host: string, port: number): Promise<ByteStream> {
  for (;;) {
    try {
      return await streams.open(id, { network: 'cluster', host, port })
    } catch (error) {
      if ((error as { code?: string }).code !== 'unknown-migration') throw error
    }
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

/** Call what it gives for how far the resident memory has grown since. */
function watchMemory(): () => number {
  const before = process.memoryUsage.rss()
  let most = before
  const timer = setInterval(() => {
    most = Math.max(most, process.memoryUsage.rss())
  }, RSS_LOOK_MS)
  return () => {
    clearInterval(timer)
    return Math.max(most, process.memoryUsage.rss()) - before
  }
}
