// The embedded storage subsystem beside `nbdkit file` and `qemu-nbd`: the same file, the same durability (all three
// acknowledge a plain write from the page cache), fio's nbd engine over a unix socket. Prints JSON lines
// {name, ours, peer, peerName, unit, ratio}, medians of interleaved rounds; `peer` is the better of the two.
//
// It means something on an idle machine only: between other busy processes one event loop gets less than many threads do
// (`chrt -r 1 node bench/storage.ts` puts all three before the others).
//
//   node bench/storage.ts [--seconds 3] [--rounds 3] [--size-mib 512] [--only PART-OF-A-NAME] [--no-peers]

import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { startStorage } from '@stellwerk/storage/server.ts'

const LUN = 'bench'
const MIB = 1024 * 1024
const START_MS = 10_000

interface Load {
  readonly name: string
  readonly unit: 'IOPS' | 'MiB/s'
  readonly fio: readonly string[]
}

const LOADS: readonly Load[] = [
  { name: 'read 4k qd32', unit: 'IOPS', fio: ['--rw=randread', '--bs=4k', '--iodepth=32'] },
  { name: 'write 4k qd32', unit: 'IOPS', fio: ['--rw=randwrite', '--bs=4k', '--iodepth=32'] },
  { name: 'read 256k qd8', unit: 'MiB/s', fio: ['--rw=randread', '--bs=256k', '--iodepth=8'] },
  { name: 'write 256k qd8', unit: 'MiB/s', fio: ['--rw=randwrite', '--bs=256k', '--iodepth=8'] },
  {
    name: 'write 4k qd32, flush every 32',
    unit: 'IOPS',
    fio: ['--rw=randwrite', '--bs=4k', '--iodepth=32', '--fsync=32'],
  },
]

interface Target {
  readonly name: string
  readonly uri: string
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      serve: { type: 'string' },
      seconds: { type: 'string', default: '3' },
      rounds: { type: 'string', default: '3' },
      'size-mib': { type: 'string', default: '512' },
      only: { type: 'string' },
      peers: { type: 'boolean', default: true },
    },
    allowNegative: true,
  })
  const sizeBytes = Number(values['size-mib']) * MIB
  if (values.serve !== undefined) return serve(values.serve, sizeBytes)

  const directory = mkdtempSync(join(tmpdir(), 'stellwerk-bench-'))
  const children: ChildProcess[] = []
  const start = async (command: string, args: string[], socket: string): Promise<void> => {
    const child = spawn(command, args, { stdio: ['pipe', 'inherit', 'inherit'] })
    children.push(child)
    for (let waited = 0; !existsSync(socket); waited += 20) {
      if (child.exitCode !== null || waited > START_MS) throw new Error(`${command} did not start`)
      await sleep(20)
    }
  }
  try {
    const ours: Target = { name: 'stellwerk', uri: `nbd+unix:///${LUN}?socket=${join(directory, 'ours.sock')}` }
    await start(
      process.execPath,
      [import.meta.filename, '--serve', directory, '--size-mib', values['size-mib']],
      join(directory, 'ours.sock'),
    )
    // Once over the whole LUN, so that all three work on the same allocated, cached file.
    fio(ours, ['--rw=write', '--bs=1m', '--iodepth=4', `--size=${sizeBytes}`])
    const file = execFileSync('sh', ['-c', `ls ${directory}/san/luns/*.data`], { encoding: 'utf8' }).trim()

    const peers: Target[] = []
    const has = (program: string): boolean => execFileSync('sh', ['-c', `command -v ${program} || true`]).length > 0
    if (values.peers && has('nbdkit')) {
      const socket = join(directory, 'nbdkit.sock')
      await start('nbdkit', ['-f', '-U', socket, 'file', file], socket)
      peers.push({ name: 'nbdkit file', uri: `nbd+unix:///?socket=${socket}` })
    }
    if (values.peers && has('qemu-nbd')) {
      const socket = join(directory, 'qemu.sock')
      await start('qemu-nbd', ['-t', '-f', 'raw', '-e', '8', '--cache=writeback', '-k', socket, file], socket)
      peers.push({ name: 'qemu-nbd', uri: `nbd+unix:///?socket=${socket}` })
    }
    for (const load of LOADS) {
      if (values.only !== undefined && !load.name.includes(values.only)) continue
      const results = new Map<string, number[]>()
      for (let round = 0; round < Number(values.rounds); round++) {
        for (const target of [ours, ...peers]) {
          const result = measure(target, load, Number(values.seconds), sizeBytes)
          results.set(target.name, [...(results.get(target.name) ?? []), result])
        }
      }
      const best = peers
        .map(({ name }) => ({ name, value: median(results.get(name) ?? []) }))
        .sort((a, b) => b.value - a.value)[0]
      const mine = median(results.get(ours.name) ?? [])
      const row = {
        name: `storage, ${load.name}`,
        ours: Math.round(mine),
        peer: best === undefined ? null : Math.round(best.value),
        peerName: best?.name ?? null,
        unit: load.unit,
        ratio: best === undefined ? null : Number((mine / best.value).toFixed(2)),
      }
      process.stdout.write(`${JSON.stringify(row)}\n`)
    }
  } finally {
    for (const child of children) child.kill('SIGTERM')
    rmSync(directory, { recursive: true, force: true })
  }
}

/** The subsystem, in a process of its own as in a cluster; ends with its parent. */
async function serve(directory: string, sizeBytes: number): Promise<void> {
  const env = createEnvironment({ name: 'san', directory: join(directory, 'san'), logLevel: 'warn' })
  const server = await startStorage(env, {
    name: 'san',
    cluster: 'bench',
    credential: 'bench',
    portals: [{ network: 'local', host: join(directory, 'ours.sock'), port: 0 }],
    control: [],
  })
  await server.order('storage.create-lun', { lun: LUN, sizeBytes, open: true })
  process.stdin.on('end', () => process.exit(0)).resume()
}

function measure(target: Target, load: Load, seconds: number, sizeBytes: number): number {
  const args = [...load.fio, `--size=${sizeBytes}`, '--time_based', `--runtime=${seconds}`]
  const { jobs } = JSON.parse(fio(target, args))
  const side = load.fio[0]?.includes('read') ? jobs[0].read : jobs[0].write
  return load.unit === 'IOPS' ? side.iops : side.bw_bytes / MIB
}

function fio(target: Target, args: readonly string[]): string {
  const fixed = [
    '--name=bench',
    '--ioengine=nbd',
    `--uri=${target.uri}`,
    '--output-format=json',
    '--norandommap',
    '--randrepeat=1',
  ]
  const output = execFileSync('fio', [...fixed, ...args], {
    stdio: ['ignore', 'pipe', 'ignore'],
    cwd: tmpdir(),
  }).toString()
  // Before its JSON the nbd engine says that it is connected.
  return output.slice(output.indexOf('{'))
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? 0
}

await main()
