// A cluster in containers under test: it is asked from within, and what its guests say is gathered all along.

import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Status } from '@stellwerk/coordinator/view/schemas.ts'
import { peer, peers } from '@stellwerk/runtime/testing/peers.ts'
import { expect, it, onTestFailed } from 'vitest'
import { Engine, ROOT } from './engine.ts'

export const LONG = 900_000
export const PATIENT = { timeout: 180_000, interval: 1_000 }
const FIRST_GUESTS = ['ledger-1', 'ledger-2', 'ledger-3']

const { missing, note } = peers(
  ...[peer('dockerd', 'docker.io'), peer('docker-compose', 'docker-compose'), peer('debootstrap', 'debootstrap')],
)
const isRoot = process.getuid?.() === 0
export const cannotRun = missing || !isRoot
export const noteOnPeers = isRoot ? note : 'skipped: takes root'

export interface Ended {
  readonly code: number
  readonly atMs: number
}

export class ContainerCluster {
  readonly engine: Engine
  readonly #project: string
  readonly #heard = new Map<string, string[]>(FIRST_GUESTS.map(name => [name, []]))
  readonly #followers = new Set<ChildProcess>()
  #isOver = false

  constructor(name: string, guests: 'wasm' | 'qemu') {
    this.#project = `${name}${process.pid}`
    this.engine = new Engine(this.#project, { STELLWERK_GUESTS: guests })
  }

  async up(): Promise<void> {
    await this.engine.start()
    this.engine.compose('build')
    this.engine.compose('up', '-d')
  }

  async down(): Promise<void> {
    this.#isOver = true
    for (const follower of this.#followers) follower.kill()
    this.engine.try('docker-compose', 'down', '-v', '-t', '60')
    await this.engine.stop()
  }

  story(name: string, tell: () => Promise<void>): void {
    it(name, { timeout: LONG }, async () => {
      onTestFailed(() => console.log(this.stellwerk('status').output, this.engine.try('docker-compose', 'ps').output))
      await tell()
    })
  }

  stellwerk(...words: string[]): { readonly code: number | null; readonly output: string } {
    return this.engine.try('docker-compose', 'exec', '-T', 'coordinator', 'stellwerk', ...words)
  }

  /** Null: the coordinator does not answer. */
  status(): Status | null {
    const { code, output } = this.stellwerk('status', '--json')
    return code === 0 ? (JSON.parse(output) as Status) : null
  }

  vm(name: string): Status['vms'][string] | undefined {
    return this.status()?.vms[name]
  }

  hostOf(name: string): string {
    return this.vm(name)?.host ?? ''
  }

  /** Of a service that has one, or `agent_2`. */
  container(service: string): string {
    return `${this.#project}_${/_\d+$/.test(service) ? service : `${service}_1`}`
  }

  /** A container that does not run any more: its exit status, and when it came to that (ms since 1970). */
  ended(service: string): Ended {
    const words = ['inspect', '-f', '{{.State.ExitCode}} {{.State.FinishedAt}}', this.container(service)]
    const [code = '', at = ''] = this.engine
      .run('docker', ...words)
      .trim()
      .split(' ')
    return { code: Number(code), atMs: Date.parse(at) }
  }

  containerOf(host: string): string {
    return this.container(host.replace('agent-', 'agent_'))
  }

  network(what: 'connect' | 'disconnect', name: string, container: string, ...words: string[]): void {
    this.engine.run('docker', 'network', what, ...words, `${this.#project}_${name}`, container)
  }

  async healthy(): Promise<void> {
    const running = (): number =>
      Object.values(this.status()?.vms ?? {}).filter(each => each.state === 'running').length
    await expect.poll(running, PATIENT).toBe(FIRST_GUESTS.length)
  }

  /** From now on, to the end. */
  followGuests(): void {
    for (const name of FIRST_GUESTS) this.#follow(name)
  }

  said(name: string, word: string): boolean {
    return (this.#heard.get(name) ?? []).some(line => line.startsWith(word))
  }

  /** Nothing of what each guest has said it has is missing, whenever it has booted. */
  guestsAreIntact(...names: string[]): void {
    for (const name of names.length > 0 ? names : FIRST_GUESTS) {
      const lines = this.#heard.get(name) ?? []
      expect(lines.filter(line => line.includes('damaged'))).toEqual([])
      let acknowledged = 0
      for (const line of lines) {
        const [word, count] = line.split(' ')
        if (word === 'recovered') expect(Number(count)).toBeGreaterThanOrEqual(acknowledged)
        if (word === 'ack') acknowledged = Math.max(acknowledged, Number(count))
      }
      expect(acknowledged, name).toBeGreaterThan(0)
    }
  }

  /** The container that it is heard through may be killed: then it is heard anew. */
  #follow(name: string): void {
    if (this.#isOver) return
    const words = ['exec', '-T', 'coordinator', 'stellwerk', 'vm', 'console', name]
    const follower = spawn('docker-compose', words, {
      cwd: ROOT,
      env: this.engine.environment,
      stdio: ['pipe', 'pipe', 'ignore'],
    })
    this.#followers.add(follower)
    createInterface({ input: follower.stdout! }).on('line', line => this.#heard.get(name)?.push(line))
    follower.once('exit', () => {
      this.#followers.delete(follower)
      setTimeout(() => this.#follow(name), 1_000)
    })
  }
}
