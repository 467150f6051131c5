// Real clients at work on disks that a host exports: fio, which verifies what it wrote, round after round until it is told
// to end, and nbdcopy with file systems on their way in. No error may reach any of them. Not a test itself.

import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ExportView } from '@stellwerk/coordinator/view/schemas.ts'
import { peer } from '@stellwerk/runtime/testing/peers.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { type ApiClient, pathOf } from 'stellwerk/api-client/client.ts'
import { expect } from 'vitest'
import { checkImage, FILE_SYSTEMS, type FileSystem, IMAGE_BYTES, IMAGE_PEERS, makeImages, same } from './peer-images.ts'
import type { Running, Stellwerk } from './stellwerk.ts'

export const CLIENT_PEERS = [peer('fio', 'fio'), peer('nbdkit', 'nbdkit'), ...IMAGE_PEERS]

const DISKS = ['fio', ...FILE_SYSTEMS] as const
/** fio's rounds take these parts of its disk in turn. */
const PARTS = 3
const PART_BYTES = IMAGE_BYTES / PARTS
/** Each round another: fio takes blocks for its own that are whole and of its size, also those of an earlier round. */
const BLOCK_BYTES = [4096, 8192, 16_384, 32_768, 65_536] as const
/** Slow enough that a fault finds them in the middle of it. */
const FIO_BYTES_PER_SECOND = 8 * MIB
/** The copies begin at the first rate, go on at the second, which takes longer than any test, and end at the third. */
const COPY_BITS_PER_SECOND = { begin: 10_000_000, goOn: 1_000_000, finish: 200_000_000 }

interface FioJob {
  readonly error: number
  readonly read: { readonly total_ios: number }
  readonly write: { readonly total_ios: number; readonly lat_ns: { readonly max: number } }
}

interface Round {
  readonly name: string
  readonly part: number
  readonly blockBytes: number
}

/** Work that is under way. */
export interface Work {
  /** No client has ended. */
  goesOn(): boolean
  /** Lets the copies and fio's round end, and proves that none of them saw an error and that all is there. */
  finish(): Promise<{ readonly rounds: number; readonly slowestWriteMs: number }>
}

export class Clients {
  readonly #stellwerk: Stellwerk
  readonly #uris = new Map<string, string>()
  /** By part of fio's disk. */
  readonly #last = new Map<number, Round>()
  #rounds = 0
  #isAtWork = false

  constructor(stellwerk: Stellwerk) {
    this.#stellwerk = stellwerk
  }

  /** New disks of the volume, served by `host`. By the API: a test of many commands is a slow one. */
  async export(api: ApiClient, volume: string, host: string): Promise<void> {
    for (const disk of DISKS) {
      await api.post(pathOf('volumes', volume, 'disks'), { disk, sizeBytes: IMAGE_BYTES })
      this.#uris.set(disk, await exportDisk(api, volume, disk, { host }))
    }
  }

  /** All of them are at work when it resolves: a part is written, much is not. */
  async begin(): Promise<Work> {
    if (this.#isAtWork) throw new Error('the clients never finished what they did before')
    this.#isAtWork = true
    await makeImages(this.#stellwerk)
    this.#copyAt('begin')
    const copies = FILE_SYSTEMS.map(system => this.#copy(system))
    let slowestWriteMs = 0
    let rounds = 0
    let round = this.#startRound()
    let isOver = false
    let failed = false
    const writing = (async () => {
      for (;;) {
        slowestWriteMs = Math.max(slowestWriteMs, await this.#endRound(round))
        rounds += 1
        if (isOver) return
        round = this.#startRound()
      }
    })()
    // Whoever finishes hears of it.
    writing.catch(() => {
      failed = true
    })
    await Promise.all([round.running.said(/connected to NBD server/), ...FILE_SYSTEMS.map(each => this.#isRead(each))])
    this.#copyAt('goOn')
    return {
      // Between two of its rounds there is no fio, and that is no end.
      goesOn: () => !failed && copies.every(({ process }) => process.exitCode === null),
      finish: async () => {
        this.#copyAt('finish')
        for (const copy of copies) expect((await copy.ended).code, copy.lines.join('\n')).toBe(0)
        isOver = true
        await writing
        this.#isAtWork = false
        rmSync(join(this.#stellwerk.directory, 'fio.img'), { force: true })
        const kept = await this.#stellwerk.tool('nbdcopy', this.#uri('fio'), 'fio.img')
        expect(kept).toEqual({ code: 0, lines: [] })
        await this.verify()
        return { rounds, slowestWriteMs }
      },
    }
  }

  /** What they wrote last is still there, all of it. */
  async verify(): Promise<void> {
    for (const round of this.#last.values()) {
      const again = { ...round, name: `${round.name}-again` }
      const { ended, lines } = this.#fio(again, '--verify_only=1')
      expect((await ended).code, lines.slice(0, 9).join('\n')).toBe(0)
      const { error, read } = told(lines)
      expect([error, read.total_ios]).toEqual([0, PART_BYTES / round.blockBytes])
    }
    await same(this.#stellwerk, 'fio.img', this.#uri('fio'))
    await Promise.all(
      FILE_SYSTEMS.map(system => checkImage(this.#stellwerk, system, `${system}.img`, this.#uri(system))),
    )
  }

  #uri(disk: string): string {
    const uri = this.#uris.get(disk)
    if (uri === undefined) throw new Error(`${disk} is not exported`)
    return uri
  }

  get #rateFile(): string {
    return join(this.#stellwerk.directory, 'rate')
  }

  /** nbdkit looks into the file as it goes. */
  #copyAt(rate: keyof typeof COPY_BITS_PER_SECOND): void {
    writeFileSync(`${this.#rateFile}.new`, `${COPY_BITS_PER_SECOND[rate]}\n`)
    renameSync(`${this.#rateFile}.new`, this.#rateFile)
  }

  #copy(system: FileSystem): Running {
    rmSync(join(this.#stellwerk.directory, `${system}.log`), { force: true })
    const options = [`rate-file=${this.#rateFile}`, `logfile=${system}.log`]
    const source = ['nbdkit', '--filter=log', '--filter=rate', 'file', `${system}.img`, ...options]
    return this.#stellwerk.startTool('nbdcopy', '--flush', '--requests=4', '--', '[', ...source, ']', this.#uri(system))
  }

  /** More of the image has been read than can wait to be written. */
  async #isRead(system: FileSystem): Promise<void> {
    const log = join(this.#stellwerk.directory, `${system}.log`)
    const reads = () => (existsSync(log) ? readFileSync(log, 'utf8').split('...Read').length - 1 : 0)
    await expect.poll(reads, { timeout: 60_000 }).toBeGreaterThan(6)
  }

  #startRound(): Round & { readonly running: Running } {
    this.#rounds += 1
    const name = `round-${this.#rounds}`
    const part = this.#rounds % PARTS
    const blockBytes = BLOCK_BYTES[this.#rounds % BLOCK_BYTES.length] ?? 4096
    const round = { name, part, blockBytes }
    this.#last.set(part, round)
    return { ...round, running: this.#fio(round, `--rate=,${FIO_BYTES_PER_SECOND}`) }
  }

  /** How long its slowest write took. */
  async #endRound(round: Round & { readonly running: Running }): Promise<number> {
    const { ended, lines } = round.running
    expect((await ended).code, lines.slice(0, 9).join('\n')).toBe(0)
    const { error, read, write } = told(lines)
    const blocks = PART_BYTES / round.blockBytes
    // All was written, and read again and verified.
    expect([error, write.total_ios, read.total_ios]).toEqual([0, blocks, blocks])
    return write.lat_ns.max / 1e6
  }

  #fio({ name, part, blockBytes }: Round, how: string): Running {
    return this.#stellwerk.startTool(
      'fio',
      `--name=${name}`,
      '--output-format=json',
      '--ioengine=nbd',
      `--uri=${this.#uri('fio')}`,
      '--rw=randwrite',
      `--bs=${blockBytes}`,
      `--offset=${part * PART_BYTES}`,
      `--size=${PART_BYTES}`,
      '--iodepth=16',
      '--verify=crc32c',
      '--verify_fatal=1',
      how,
    )
  }
}

/** As `disk export --detach` does; the URI. */
export async function exportDisk(api: ApiClient, volume: string, disk: string, options: object = {}): Promise<string> {
  const path = pathOf('volumes', volume, 'disks', disk, 'export')
  await api.post(path, { readOnly: false, port: 0, ...options })
  for (;;) {
    const { uri } = (await api.get(path)) as ExportView
    if (uri !== null) return uri
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

function told(lines: readonly string[]): FioJob {
  const text = lines.join('\n')
  const { jobs } = JSON.parse(text.slice(text.indexOf('\n{'))) as { jobs: FioJob[] }
  if (jobs[0] === undefined) throw new Error(`fio told nothing:\n${text}`)
  return jobs[0]
}
