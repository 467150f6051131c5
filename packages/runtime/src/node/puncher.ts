// Gives ranges of files back to the file system. Node has no fallocate, so the system's `fallocate` program does it: many
// ranges for one start of a shell, since starting a process from here is what costs.
//
// That shell outlives a killed process for a moment, and must not take away what the next one writes. So it holds a lock while
// it works, has it before it is told to begin, and whoever opens files here waits for it first.

import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from '../environment.ts'
import { errorMessage, StellwerkError } from '../errors.ts'
import { KIB } from '../units.ts'

/** Shorter ranges are not worth a process: the caller writes zeroes. */
const PUNCH_MIN_BYTES = 256 * KIB
/** Ranges handed to one shell; the rest waits for the next. */
const BATCH_MAX = 64
/** Waiting ranges; beyond it the caller writes zeroes rather than wait. */
const WAITING_MAX = 4096

const LOCK_FILE = 'punching.lock'
/** A predecessor's last batch takes milliseconds, minutes perhaps on a file system in trouble. */
const PREDECESSOR_MS = 120_000
const NO_PROGRAM = /spawn .* ENOENT/

/** Its lock is the descriptor's, which all that it starts inherit. Without a word it was left alone: it does nothing. */
const SCRIPT = `
flock -s 3 && echo locked && read -r word || exit 1
while [ $# -gt 0 ]; do
  fallocate --punch-hole --keep-size --offset "$2" --length "$3" -- "$1" || exit 1
  shift 3
done`

const NOT_HERE = 'not supported'
/** No program, no such file system: it is not tried again, as after too many processes or open files it is. */
const NEVER = /not supported|unsupported|not implemented|not found|spawn .* ENOENT/

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
  readonly #lock: string
  readonly #program: string
  #predecessor: Promise<void> | null = null
  #waiting: Range[] = []
  #running = false
  #supported = true
  /** The last failure that was logged. */
  #told: string | null = null

  /** `directory`: of all its files. `program` runs the script: a test names another. */
  constructor(log: Logger, directory: string, program = 'sh') {
    this.#log = log
    this.#lock = join(directory, LOCK_FILE)
    this.#program = program
  }

  /** Resolves when nothing that an earlier process began is at work here any more. Rejects with `leftover-stuck`. */
  predecessorGone(): Promise<void> {
    this.#predecessor ??= existsSync(this.#lock) ? this.#awaitPredecessor() : Promise.resolve()
    const waiting = this.#predecessor
    // Whoever asks next finds out anew.
    waiting.catch(() => {
      if (this.#predecessor === waiting) this.#predecessor = null
    })
    return waiting
  }

  async #awaitPredecessor(): Promise<void> {
    const lock = await open(this.#lock, 'a')
    try {
      const child = spawn('flock', ['-x', '3'], { stdio: ['ignore', 'ignore', 'pipe', lock.fd] })
      const impatience = setTimeout(() => child.kill(), PREDECESSOR_MS)
      const why = await ended(child)
      clearTimeout(impatience)
      // Without that program nothing was begun here: see the script.
      if (why === null || NO_PROGRAM.test(why)) return
      throw new StellwerkError('leftover-stuck', `a predecessor's fallocate may still be at work: ${why}`, {
        where: this.#lock,
        hint: 'end it, or see why the file system does not',
      })
    } finally {
      await lock.close()
    }
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
      const failure = this.#supported ? await this.#punchBatch(batch).catch(errorMessage) : NOT_HERE
      if (failure !== null && this.#supported && failure !== this.#told) {
        this.#told = failure
        this.#log.warn(
          { failure },
          'ranges of files cannot be punched here (fallocate and flock of util-linux, and a file system that can): zeroes are written instead',
        )
      }
      if (failure === null) this.#told = null
      if (failure !== null && NEVER.test(failure)) this.#supported = false
      // After a failure some ranges of the batch may have been punched; zeroes on top of them are as good.
      for (const range of batch) range.done(failure === null ? 'punched' : 'unsupported')
    }
    this.#running = false
  }

  /** Null, or what went wrong. */
  async #punchBatch(batch: readonly Range[]): Promise<string | null> {
    const ranges = batch.flatMap(range => [range.path, String(range.offset), String(range.length)])
    const lock = await open(this.#lock, 'a', 0o600)
    try {
      const child = spawn(this.#program, ['-c', SCRIPT, 'punch', ...ranges], {
        env: { ...process.env, LC_ALL: 'C' },
        stdio: ['pipe', 'pipe', 'pipe', lock.fd],
      })
      // One that has ended hears nothing: how it ended says why.
      child.stdin?.on('error', () => undefined)
      child.stdout?.once('data', () => child.stdin?.end('go\n'))
      return await ended(child)
    } finally {
      await lock.close()
    }
  }
}

/** Null, or what went wrong. */
function ended(child: ChildProcess): Promise<string | null> {
  return new Promise(resolve => {
    let said = ''
    child.stderr?.on('data', chunk => {
      said = (said + String(chunk)).slice(0, KIB)
    })
    child.on('error', error => resolve(errorMessage(error)))
    child.on('close', code => resolve(code === 0 ? null : said.trim() || `exit code ${code}`))
  })
}
