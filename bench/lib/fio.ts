// fio's nbd engine as the client of all NBD servers alike: one number a run.

import { execFile } from 'node:child_process'
import { tmpdir } from 'node:os'
import { promisify } from 'node:util'
import type { Unit } from './rows.ts'

const run = promisify(execFile)
const MIB = 1024 * 1024
const BLOCK_BYTES = 4096
/** fio's report is JSON of some tens of KiB. */
const OUTPUT_MAX_BYTES = 4 * MIB

export interface Load {
  readonly name: string
  readonly kind: 'read' | 'write'
  readonly unit: Extract<Unit, 'IOPS' | 'MiB/s'>
  readonly args: readonly string[]
}

function load(name: string, rw: string, blockSize: string, depth: number, ...more: string[]): Load {
  return {
    name,
    kind: rw.endsWith('read') ? 'read' : 'write',
    unit: blockSize === '4k' ? 'IOPS' : 'MiB/s',
    args: [`--rw=${rw}`, `--bs=${blockSize}`, `--iodepth=${depth}`, ...more],
  }
}

/** What the disk paths are measured with. */
export const DISK_LOADS: readonly Load[] = [
  load('4k read qd1', 'randread', '4k', 1),
  load('4k write qd1', 'randwrite', '4k', 1),
  load('4k read qd32', 'randread', '4k', 32),
  load('4k write qd32', 'randwrite', '4k', 32),
  load('256k read qd8', 'read', '256k', 8),
  load('256k write qd8', 'write', '256k', 8),
]

/** What file-backed servers are measured with. */
export const STORAGE_LOADS: readonly Load[] = [
  load('4k read qd32', 'randread', '4k', 32),
  load('4k write qd32', 'randwrite', '4k', 32),
  load('4k write qd32, flush every 32', 'randwrite', '4k', 32, '--fsync=32'),
  load('256k read qd8', 'read', '256k', 8),
  load('256k write qd8', 'write', '256k', 8),
]

export interface Target {
  readonly name: string
  /** Of a unix socket, or host:port. */
  readonly socket: string
  readonly exportName: string
  /** Where the range begins that may be written. */
  readonly offsetBytes: number
}

export interface FioTimes {
  readonly runtimeS: number
  readonly rampS: number
}

/** Gives the load's unit. */
export async function measure(target: Target, { args, kind, unit }: Load, sizeBytes: number, times: FioTimes) {
  const side = await fio(target, kind, [...args, `--size=${sizeBytes}`, ...timed(times)])
  return unit === 'IOPS' ? side.iops : side.bw_bytes / MIB
}

function timed({ runtimeS, rampS }: FioTimes): string[] {
  const ms = (seconds: number): string => `${Math.round(seconds * 1000)}ms`
  return ['--time_based', `--runtime=${ms(runtimeS)}`, `--ramp_time=${ms(rampS)}`]
}

/** What writes took, in ms. */
export interface WriteTimes {
  readonly mean: number
  readonly p99: number
  readonly p999: number
}

/** A guest that is not at its limit: 4 KiB writes all over the range, so many a second. */
export async function writeTimes(
  target: Target,
  perSecond: number,
  sizeBytes: number,
  times: FioTimes,
): Promise<WriteTimes> {
  const load = ['--rw=randwrite', '--bs=4k', '--iodepth=8', `--rate_iops=${perSecond}`]
  const { clat_ns: took } = await fio(target, 'write', [...load, `--size=${sizeBytes}`, ...timed(times)])
  const { percentile } = took
  return { mean: took.mean / 1e6, p99: percentile['99.000000'] / 1e6, p999: percentile['99.900000'] / 1e6 }
}

/** Once over the whole range, so that nothing measured later allocates. */
export async function fill(target: Target, sizeBytes: number): Promise<void> {
  await fio(target, 'write', ['--rw=write', '--bs=1m', '--iodepth=4', `--size=${sizeBytes}`])
}

/** One block at the start of each of the pieces. */
export async function touch(target: Target, sizeBytes: number, pieceBytes: number): Promise<void> {
  const written = (sizeBytes / pieceBytes) * BLOCK_BYTES
  const each = [`--rw=write:${pieceBytes - BLOCK_BYTES}`, `--bs=${BLOCK_BYTES}`, '--iodepth=4']
  await fio(target, 'write', [...each, `--size=${sizeBytes}`, `--io_size=${written}`])
}

interface Side {
  readonly iops: number
  readonly bw_bytes: number
  readonly clat_ns: {
    readonly mean: number
    readonly percentile: { readonly '99.000000': number; readonly '99.900000': number }
  }
}

function uriOf({ socket, exportName }: Target): string {
  return socket.startsWith('/') ? `nbd+unix:///${exportName}?socket=${socket}` : `nbd://${socket}/${exportName}`
}

async function fio(target: Target, kind: 'read' | 'write', args: readonly string[]): Promise<Side> {
  const fixed = [
    '--name=bench',
    '--ioengine=nbd',
    `--uri=${uriOf(target)}`,
    `--offset=${target.offsetBytes}`,
    '--norandommap',
    '--randrepeat=1',
    '--output-format=json',
  ]
  const { stdout } = await run('fio', [...fixed, ...args], { cwd: tmpdir(), maxBuffer: OUTPUT_MAX_BYTES })
  // Before its JSON the nbd engine says that it is connected.
  const { jobs } = JSON.parse(stdout.slice(stdout.indexOf('{')))
  const job = jobs[0]
  if (job.error !== 0) throw new Error(`fio on ${target.name} failed with error ${job.error}`)
  return job[kind]
}
