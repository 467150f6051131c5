// Gives ranges of files back to the file system. Node has no fallocate, so the system's `fallocate` program does it: many
// ranges for one start of a shell, since starting a process from here is what costs.

import { spawn } from 'node:child_process'
import type { Logger } from '../environment.ts'
import { errorMessage } from '../errors.ts'
import { KIB } from '../units.ts'

/** Shorter ranges are not worth a process: the caller writes zeroes. */
const PUNCH_MIN_BYTES = 256 * KIB
/** Ranges handed to one shell; the rest waits for the next. */
const BATCH_MAX = 64
/** Waiting ranges; beyond it the caller writes zeroes rather than wait. */
const WAITING_MAX = 4096

const SCRIPT = `
while [ $# -gt 0 ]; do
  fallocate --punch-hole --keep-size --offset "$2" --length "$3" -- "$1" || exit 1
  shift 3
done`

/** `unsupported`: the range is unchanged, the caller must write zeroes. */
export type PunchResult = 'punched' | 'unsupported'

interface Range {
  readonly path: string
  readonly offset: number
  readonly length: number
  readonly done: (result: PunchResult) => void
}

export class Puncher {
  readonly #log: Logger
  readonly #program: string
  #waiting: Range[] = []
  #running = false
  #supported = true

  /** `program` runs the script: a test names another. */
  constructor(log: Logger, program = 'sh') {
    this.#log = log
    this.#program = program
  }

  punch(path: string, offset: number, length: number): Promise<PunchResult> {
    if (!this.#supported || length < PUNCH_MIN_BYTES || this.#waiting.length >= WAITING_MAX) {
      return Promise.resolve('unsupported')
    }
    return new Promise(resolve => {
      this.#waiting.push({ path, offset, length, done: resolve })
      // In a microtask: what is asked for together goes together.
      if (!this.#running) queueMicrotask(() => void this.#run())
    })
  }

  async #run(): Promise<void> {
    if (this.#running) return
    this.#running = true
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, BATCH_MAX)
      const failure = this.#supported ? await this.#punchBatch(batch) : 'not supported'
      if (failure !== null && this.#supported) {
        this.#supported = false
        this.#log.warn(
          { failure },
          'ranges of files cannot be punched here (fallocate of util-linux, and a file system that can): zeroes are written instead',
        )
      }
      // After a failure some ranges of the batch may have been punched; zeroes on top of them are as good.
      for (const range of batch) range.done(failure === null ? 'punched' : 'unsupported')
    }
    this.#running = false
  }

  /** Null, or what went wrong. */
  #punchBatch(batch: readonly Range[]): Promise<string | null> {
    const ranges = batch.flatMap(range => [range.path, String(range.offset), String(range.length)])
    return new Promise(resolve => {
      const child = spawn(this.#program, ['-c', SCRIPT, 'punch', ...ranges], { stdio: ['ignore', 'ignore', 'pipe'] })
      let said = ''
      child.stderr.on('data', chunk => {
        said = (said + String(chunk)).slice(0, KIB)
      })
      child.on('error', error => resolve(errorMessage(error)))
      child.on('close', code => resolve(code === 0 ? null : said.trim() || `exit code ${code}`))
    })
  }
}
