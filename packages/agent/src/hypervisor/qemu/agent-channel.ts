// One connection to the agent in a guest (qemu-ga): a line of JSON asked, a line answered, one at a time. Answers carry no ids, and an
// earlier connection's may still come: so it is first agreed on where this one begins (`guest-sync-delimited`), and again after
// every question that had no answer in time. The guest is not trusted: what it says is bounded, and nobody reads what it says unasked.
// Source: docs/interop/qemu-ga.rst, qga/qapi-schema.json and qga/main.c in the QEMU tree.

import { assert } from '@stellwerk/runtime/assert.ts'
import type { ByteStream, Json, Random, Timers } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { KIB } from '@stellwerk/runtime/units.ts'
import { seen } from './guest-facts.ts'

/** A guest with hundreds of network interfaces needs that much to tell of them. */
const LINE_MAX_BYTES = 256 * KIB
/** Of one answer, with what is dropped before it. */
const ANSWER_MAX_BYTES = 1024 * KIB
const NEWLINE = 0x0a
/** In no JSON: it resets the agent's parser, and stands before the answer that begins a connection. */
const SENTINEL = 0xff
const ID_MAX = 2 ** 31

interface Question {
  /** What an answer is kept for; false: it is somebody else's. */
  take(message: { readonly [key: string]: Json }): boolean
  fail(why: string): void
  bytes: number
}

export class AgentChannel {
  readonly #stream: ByteStream
  readonly #timers: Timers
  readonly #random: Random
  /** Whether a word may leave the guest. */
  readonly #mayPass: () => boolean
  #question: Question | null = null
  #isSynced = false
  #isClosed = false
  /** What comes is dropped up to the next sentinel. */
  #skips = true
  #parts: Uint8Array[] = []
  #partBytes = 0

  constructor(stream: ByteStream, timers: Timers, random: Random, mayPass: () => boolean) {
    this.#stream = stream
    this.#timers = timers
    this.#random = random
    this.#mayPass = mayPass
    stream.onData(chunk => this.#heard(chunk))
    stream.onEnd(() => this.close())
    stream.onClose(() => this.close())
    stream.pause()
  }

  get closed(): boolean {
    return this.#isClosed
  }

  /** Nothing is waited for that was asked before. */
  get synced(): boolean {
    return this.#isSynced && !this.#isClosed
  }

  /** Who has answered before is gone. */
  forget(): void {
    this.#isSynced = false
    this.#question?.fail('it has gone')
  }

  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#stream.destroy()
    this.#question?.fail('its port was closed')
  }

  /** The answer after this one is to what is asked after this. Rejects with `guest-agent-silent`. */
  async sync(deadlineMs: number): Promise<void> {
    const id = this.#random.int(ID_MAX)
    this.#isSynced = false
    this.#skips = true
    await this.#ask('guest-sync-delimited', { id }, deadlineMs, message => message['return'] === id)
    this.#isSynced = true
  }

  /**
   * What it answers. Rejects with `guest-agent-refused` when it says no, and with `guest-agent-silent` when it says nothing that can be
   * read, after which nothing is asked but for a `sync`.
   */
  async execute(command: string, args: { readonly [key: string]: Json }, deadlineMs: number): Promise<Json> {
    assert(this.#isSynced, `${command} is asked of an agent that may answer something else`)
    const { return: answer, error } = await this.#ask(command, args, deadlineMs, () => true)
    if (answer !== undefined) return answer
    const desc = isRecord(error) && typeof error['desc'] === 'string' ? error['desc'] : 'no reason given'
    throw new StellwerkError('guest-agent-refused', `${command}: ${seen(desc, 200)}`)
  }

  #ask(
    command: string,
    args: { readonly [key: string]: Json },
    deadlineMs: number,
    isIt: (message: { readonly [key: string]: Json }) => boolean,
  ): Promise<{ readonly [key: string]: Json }> {
    assert(this.#question === null, `${command} is asked while another answer is waited for`)
    return new Promise((resolve, reject) => {
      const over = (): void => {
        timer.cancel()
        this.#question = null
        this.#stream.pause()
      }
      const fail = (why: string): void => {
        over()
        this.#isSynced = false
        reject(new StellwerkError('guest-agent-silent', `${command}: ${why}`, { retryable: true }))
      }
      const timer = this.#timers.after(deadlineMs, () => fail(`no answer within ${deadlineMs} ms`))
      const take = (message: { readonly [key: string]: Json }): boolean => {
        if (!isIt(message)) return false
        over()
        resolve(message)
        return true
      }
      this.#question = { take, fail, bytes: 0 }
      if (this.#isClosed) {
        fail('its port was closed')
        return
      }
      const line = Buffer.from(`${JSON.stringify({ execute: command, arguments: args })}\n`, 'utf8')
      this.#stream.write(this.#isSynced ? [line] : [Buffer.from([SENTINEL]), line])
      this.#stream.resume()
    })
  }

  #heard(chunk: Uint8Array): void {
    const question = this.#question
    // Said by nobody who has a right to it, or asked by nobody.
    if (question === null || !this.#mayPass()) {
      this.#drop()
      this.#isSynced = false
      return
    }
    question.bytes += chunk.length
    let rest = chunk
    const begin = rest.lastIndexOf(SENTINEL)
    if (begin >= 0) {
      this.#drop()
      this.#skips = false
      rest = rest.subarray(begin + 1)
    }
    if (!this.#skips) this.#lines(rest)
    if (this.#question === question && question.bytes > ANSWER_MAX_BYTES) question.fail('it says too much')
  }

  #lines(bytes: Uint8Array): void {
    let rest = bytes
    for (let end = rest.indexOf(NEWLINE); end >= 0; end = rest.indexOf(NEWLINE)) {
      const line = Buffer.concat([...this.#parts, rest.subarray(0, end)])
      this.#parts = []
      this.#partBytes = 0
      rest = rest.subarray(end + 1)
      // What stands behind an answer nobody has asked for.
      if (this.#said(line)) return
    }
    if (rest.length === 0) return
    this.#partBytes += rest.length
    if (this.#partBytes > LINE_MAX_BYTES) this.#drop()
    else this.#parts.push(Uint8Array.from(rest))
  }

  /** True: it was waited for. */
  #said(line: Buffer): boolean {
    if (line.length > LINE_MAX_BYTES) return false
    const message = parsed(line)
    return message !== null && (this.#question?.take(message) ?? true)
  }

  #drop(): void {
    this.#skips = true
    this.#parts = []
    this.#partBytes = 0
  }
}

export function isRecord(value: Json | undefined): value is { readonly [key: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function parsed(line: Buffer): { readonly [key: string]: Json } | null {
  let value: Json
  try {
    value = JSON.parse(line.toString('utf8')) as Json
  } catch {
    // No JSON: an answer that can't be read is none.
    return null
  }
  return isRecord(value) && ('return' in value || 'error' in value) ? value : null
}
