// The agent in the simulated QEMU's guest, where its parameter `agent` says that it has one: as much of qemu-ga as is asked of it, or one
// that does its worst. It executes with its guest, by the guest's own steps.

import type { Json } from '@stellwerk/runtime/environment.ts'
import { isRecord } from '../agent-channel.ts'
import { AGENT_PORT } from '../command-line.ts'
import type { Arguments } from './monitor.ts'

/**
 * `there`; `only`: its guest does not hear the power button; `unfrozen`: its guest has no file system; `rough`: what it is not to say, and
 * then what it is; the others never say what they were asked: nothing, for other questions, without an end, deep in brackets.
 */
export const AGENT_KINDS = ['there', 'only', 'unfrozen', 'rough', 'silent', 'wrong-ids', 'endless', 'deep'] as const
export type AgentKind = (typeof AGENT_KINDS)[number]

const SENTINEL = Buffer.from([0xff])
/** Of its guest, so long after it began to execute. */
const OPENS_AFTER_STEPS = 3
const TOO_LONG_BYTES = 300 * 1024
const DEPTH = 100_000
const FROZEN_MAY: readonly string[] = [
  'guest-sync-delimited',
  'guest-info',
  'guest-fsfreeze-status',
  'guest-fsfreeze-thaw',
]

export interface SimulatedAgentParts {
  readonly kind: AgentKind
  readonly hostName: string
  readonly mac: string | null
  readonly write: (bytes: Uint8Array) => void
  /** On QEMU's monitor. */
  readonly event: (event: string, data: Arguments) => void
  /** Nothing that the guest has begun is under way. */
  readonly isAtRest: () => boolean
  readonly shutDown: () => void
}

export class SimulatedGuestAgent {
  readonly #parts: SimulatedAgentParts
  #steps = 0
  #isOpen = false
  #files: 'thawed' | 'freezing' | 'frozen' = 'thawed'
  #typed: Buffer = Buffer.alloc(0)
  #asked: Buffer[] = []

  constructor(parts: SimulatedAgentParts) {
    this.#parts = parts
  }

  get isOpen(): boolean {
    return this.#isOpen
  }

  /** The guest begins nothing that is written. */
  get holdsFiles(): boolean {
    return this.#files !== 'thawed'
  }

  get hearsButton(): boolean {
    return this.#parts.kind !== 'only'
  }

  /** On its port. */
  take(chunk: Uint8Array): void {
    if (!this.#isOpen) return
    let rest = Buffer.concat([this.#typed, chunk])
    for (let end = rest.indexOf('\n'); end >= 0; end = rest.indexOf('\n')) {
      this.#asked.push(rest.subarray(0, end))
      rest = rest.subarray(end + 1)
    }
    this.#typed = rest
  }

  /** Its guest executes. */
  step(): void {
    this.#steps += 1
    if (this.#steps === OPENS_AFTER_STEPS) this.#open(true)
    if (this.#files === 'freezing') {
      if (!this.#parts.isAtRest()) return
      this.#files = 'frozen'
      this.#answer(1)
    }
    const asked = this.#asked.shift()
    if (asked === undefined) return
    const begin = asked.lastIndexOf(SENTINEL)
    if (this.#misbehaves(asked)) return
    this.#obey(JSON.parse(asked.subarray(begin + 1).toString('utf8')) as { execute: string; arguments: Arguments })
  }

  #open(isOpen: boolean): void {
    this.#isOpen = isOpen
    this.#parts.event('VSERPORT_CHANGE', { id: AGENT_PORT, open: isOpen })
    if (this.#parts.kind === 'endless') this.#say('x'.repeat(TOO_LONG_BYTES))
  }

  /** True: that was all. */
  #misbehaves(asked: Buffer): boolean {
    switch (this.#parts.kind) {
      case 'silent':
        return true
      case 'wrong-ids':
        this.#parts.write(SENTINEL)
        this.#say('{"return": -1}\n')
        return true
      case 'endless':
        this.#parts.write(SENTINEL)
        for (let n = 0; n < 8; n += 1) this.#say('x'.repeat(TOO_LONG_BYTES))
        return true
      case 'deep':
        this.#parts.write(SENTINEL)
        this.#say(`{"return": ${'['.repeat(DEPTH)}${']'.repeat(DEPTH)}}\n`)
        return true
      case 'rough':
        // What an earlier connection had asked for, and a line that nobody can read.
        if (asked.includes('guest-sync-delimited'))
          this.#say(`{"return": {"host-name": "late"}}\n${'x'.repeat(TOO_LONG_BYTES)}\n{]\n`)
        return false
      default:
        return false
    }
  }

  #obey({ execute, arguments: args }: { readonly execute: string; readonly arguments: Arguments }): void {
    if (this.#files === 'frozen' && !FROZEN_MAY.includes(execute)) {
      this.#refuse(`Command ${execute} has been disabled: the agent is in frozen state`)
      return
    }
    if (execute === 'guest-sync-delimited') this.#parts.write(SENTINEL)
    const answer = this.#answerTo(execute, args)
    if (answer === 'unknown') this.#refuse(`The command ${execute} has not been found`)
    else if (answer !== 'later') this.#answer(answer.value)
  }

  #answerTo(execute: string, args: Arguments): { readonly value: Json } | 'later' | 'unknown' {
    const { hostName, mac, shutDown, kind } = this.#parts
    switch (execute) {
      case 'guest-sync-delimited':
        return { value: args['id'] ?? null }
      case 'guest-info':
        return { value: { version: '7.2.0', supported_commands: [] } }
      case 'guest-get-host-name':
        return { value: { 'host-name': hostName } }
      case 'guest-get-osinfo':
        return { value: { id: 'model', name: 'Model', 'pretty-name': 'Model \u001b[31mguest 1\n' } }
      case 'guest-network-get-interfaces':
        return { value: [LOOPBACK, ...(mac === null ? [] : [interfaceOf(mac)])] }
      case 'guest-shutdown':
        shutDown()
        return 'later'
      case 'guest-fsfreeze-status':
        return { value: this.#files }
      case 'guest-fsfreeze-freeze':
        if (kind === 'unfrozen') return { value: 0 }
        this.#files = 'freezing'
        return 'later'
      case 'guest-fsfreeze-thaw': {
        const count = this.#files === 'frozen' ? 1 : 0
        this.#files = 'thawed'
        return { value: count }
      }
      default:
        return 'unknown'
    }
  }

  #answer(value: Json): void {
    this.#say(`${JSON.stringify({ return: value })}\n`)
  }

  #refuse(desc: string): void {
    this.#say(`${JSON.stringify({ error: { class: 'GenericError', desc } })}\n`)
  }

  #say(text: string): void {
    this.#parts.write(Buffer.from(text, 'utf8'))
  }

  /** What a migration takes along. */
  get state(): Json {
    return {
      steps: this.#steps,
      open: this.#isOpen,
      files: this.#files,
      asked: this.#asked.map(each => each.toString('latin1')),
    }
  }

  set state(state: Json) {
    if (!isRecord(state)) return
    this.#steps = Number(state['steps'])
    this.#files = state['files'] as 'thawed' | 'freezing' | 'frozen'
    this.#asked = (state['asked'] as string[]).map(each => Buffer.from(each, 'latin1'))
    // As virtio-serial does when it was loaded.
    if (state['open'] === true) this.#open(true)
  }
}

const LOOPBACK: Json = {
  name: 'lo',
  'ip-addresses': [{ 'ip-address-type': 'ipv4', 'ip-address': '127.0.0.1', prefix: 8 }],
}

function interfaceOf(mac: string): Json {
  return {
    ...{ name: 'eth0', 'hardware-address': mac },
    'ip-addresses': [
      {
        'ip-address-type': 'ipv4',
        'ip-address': `10.77.${parseInt(mac.slice(12, 14), 16)}.${parseInt(mac.slice(15), 16)}`,
        prefix: 16,
      },
      { 'ip-address-type': 'ipv6', 'ip-address': 'fe80::1', prefix: 64 },
    ],
  }
}
