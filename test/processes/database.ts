// A PostgreSQL of this machine in a directory of the test's, and clients that commit one transaction after the other and keep
// what they were told. Not a test itself.

import { chmodSync, existsSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { peer, peerFile } from '@stellwerk/runtime/testing/peers.ts'
import { expect } from 'vitest'
import type { Running, Stellwerk } from './stellwerk.ts'

const DEBIAN = '/usr/lib/postgresql'
/** The newest that is installed; of none, what Debian's package would have. */
const BIN = join(DEBIAN, (existsSync(DEBIAN) ? readdirSync(DEBIAN).sort().at(-1) : undefined) ?? '15', 'bin')

export const DATABASE_PEERS = [
  peerFile(join(BIN, 'postgres'), 'postgresql'),
  peerFile(join(BIN, 'pg_amcheck'), 'postgresql'),
  peer('setpriv', 'util-linux'),
  peer('stdbuf', 'coreutils'),
]

/** Debian's package makes this user; PostgreSQL does not run as root. */
const USER = 'postgres'
const HOST = '127.0.0.1'
const ACCOUNTS = 500
/** Small, so that segments come and go while a test runs. */
const SETTINGS = { wal_keep_size: '0', max_wal_size: '32MB', checkpoint_timeout: '30s', unix_socket_directories: '' }

/** What a client was told, and what it was not. */
interface Told {
  /** Committed: the server said so. */
  readonly committed: number[]
  /** Sent, and the connection ended before an answer: either is right. */
  readonly unknown: Set<number>
}

export class Database {
  readonly told = new Map<number, Told>()
  readonly #stellwerk: Stellwerk
  readonly #directory: string
  readonly #port: number
  #server: Running | null = null
  #clients: readonly Promise<void>[] = []
  #isOver = false

  /** Its files will be below `parent`, which may be mounted later. */
  constructor(stellwerk: Stellwerk, parent: string, port: number) {
    this.#stellwerk = stellwerk
    this.#directory = join(parent, 'data')
    this.#port = port
    chmodSync(stellwerk.directory, 0o755)
  }

  async create(): Promise<void> {
    mkdirSync(this.#directory)
    expect((await this.#stellwerk.tool('chown', USER, this.#directory)).code).toBe(0)
    const words = ['--data-checksums', '--auth=trust', '--wal-segsize=4', '--encoding=UTF8', '--locale=C']
    await this.#succeeds('initdb', '-D', this.#directory, ...words)
    await this.start()
    await this.ask(
      'CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL, filler text NOT NULL)',
      `INSERT INTO account SELECT id, 0, repeat('x', 80) FROM generate_series(0, ${ACCOUNTS - 1}) id`,
      'CREATE TABLE ledger (client int, entry int, payload text NOT NULL, PRIMARY KEY (client, entry))',
      'CREATE INDEX ledger_payload ON ledger (payload)',
    )
  }

  /** Recovers first what a crash left. */
  async start(): Promise<void> {
    const settings = Object.entries(SETTINGS).map(([name, value]) => `--${name}=${value}`)
    const words = ['-D', this.#directory, '-h', HOST, '-p', String(this.#port), ...settings]
    this.#server = this.#stellwerk.startTool('setpriv', ...AS_USER, join(BIN, 'postgres'), ...words)
    await this.#server.said(/ready to accept connections/)
  }

  /** fast: in order. immediate: as if its machine lost its power; the next start recovers. */
  async stop(how: 'fast' | 'immediate'): Promise<void> {
    const server = this.#server
    if (server === null) return
    server.process.kill(how === 'fast' ? 'SIGINT' : 'SIGQUIT')
    await server.ended
    this.#server = null
  }

  isRunning(): boolean {
    return this.#server !== null && this.#server.process.exitCode === null && this.#server.process.signalCode === null
  }

  /** The end of what the server said. */
  lastWords(): string {
    return this.#server?.lines.slice(-20).join('\n') ?? ''
  }

  /** `count` clients at work until `finishClients`; they come back after each end of their server. */
  beginClients(count: number): void {
    this.#isOver = false
    this.#clients = Array.from({ length: count }, (_, client) => {
      const told: Told = { committed: [], unknown: new Set() }
      this.told.set(client, told)
      return this.#work(client, told)
    })
  }

  async finishClients(): Promise<void> {
    this.#isOver = true
    await Promise.all(this.#clients)
  }

  /** Transactions that clients were told are committed. */
  committed(): number {
    return [...this.told.values()].reduce((sum, { committed }) => sum + committed.length, 0)
  }

  /** All that was told is there, what nobody sent is not, and no money came or went. */
  async audit(): Promise<void> {
    const rows = await this.ask(
      `SELECT client || ' ' || entry FROM ledger WHERE payload = ${PAYLOAD('client', 'entry')}`,
    )
    const kept = new Map<number, Set<number>>()
    for (const row of rows) {
      const [client = -1, entry = -1] = row.split(' ').map(Number)
      if (!kept.has(client)) kept.set(client, new Set())
      kept.get(client)?.add(entry)
    }
    for (const [client, { committed, unknown }] of this.told) {
      const of = kept.get(client) ?? new Set()
      expect(committed.filter(entry => !of.has(entry))).toEqual([])
      const told = new Set(committed)
      expect([...of].filter(entry => !told.has(entry) && !unknown.has(entry))).toEqual([])
    }
    expect(await this.ask('SELECT count(*) FROM ledger')).toEqual([String(rows.length)])
    expect(await this.ask('SELECT sum(balance) FROM account')).toEqual(['0'])
  }

  /** Every table and index is what it should be, each index has every row, and each page its checksum. */
  async checkPages(): Promise<void> {
    const words = ['-h', HOST, '-p', String(this.#port), '-U', USER, '--install-missing', '--heapallindexed', USER]
    await this.#succeeds('pg_amcheck', ...words)
    await this.stop('fast')
    await this.#succeeds('pg_checksums', '--check', '-D', this.#directory)
  }

  /** What each of these says, a row a line. */
  async ask(...statements: readonly string[]): Promise<readonly string[]> {
    const words = [...this.#psql(), ...statements.flatMap(statement => ['-c', statement])]
    const { code, lines } = await this.#stellwerk.tool('setpriv', ...AS_USER, ...words)
    expect(code, lines.join('\n')).toBe(0)
    return lines
  }

  #psql(): string[] {
    const options = ['-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1']
    return ['stdbuf', '-oL', join(BIN, 'psql'), ...options, '-h', HOST, '-p', String(this.#port), '-U', USER]
  }

  async #work(client: number, told: Told): Promise<void> {
    let entry = 0
    while (!this.#isOver) {
      const psql = this.#stellwerk.startTyped('setpriv', ...AS_USER, ...this.#psql())
      // Once its server is gone it takes no more words; that it has ended is seen below.
      psql.process.stdin?.on('error', () => undefined)
      while (!this.#isOver) {
        entry += 1
        psql.process.stdin?.write(transaction(client, entry))
        const done = await psql.said(new RegExp(`^committed ${entry}$`)).catch(() => null)
        if (done === null) {
          told.unknown.add(entry)
          break
        }
        told.committed.push(entry)
        psql.lines.length = 0
      }
      psql.process.stdin?.end()
      await psql.ended
      if (!this.#isOver) await new Promise(resolve => setTimeout(resolve, 200))
    }
  }

  async #succeeds(program: string, ...words: string[]): Promise<void> {
    const { code, lines } = await this.#stellwerk.tool('setpriv', ...AS_USER, join(BIN, program), ...words)
    expect(code, `${program}: ${lines.join('\n')}`).toBe(0)
  }
}

const AS_USER = [`--reuid=${USER}`, `--regid=${USER}`, '--clear-groups', '--'] as const
const PAYLOAD = (client: string, entry: string) => `repeat(md5(${client} || ':' || ${entry}), 12)`

/** Moves money between two accounts and notes the entry, all or nothing; says so when the server has. */
function transaction(client: number, entry: number): string {
  const one = (entry * 7 + client * 131) % ACCOUNTS
  const other = (one + 1 + (entry % (ACCOUNTS - 1))) % ACCOUNTS
  // In one order: two clients wait for each other otherwise.
  const [low, high] = one < other ? [one, other] : [other, one]
  return [
    'BEGIN;',
    `UPDATE account SET balance = balance - ${entry} WHERE id = ${low};`,
    `UPDATE account SET balance = balance + ${entry} WHERE id = ${high};`,
    `INSERT INTO ledger VALUES (${client}, ${entry}, ${PAYLOAD(String(client), String(entry))});`,
    'COMMIT;',
    `\\echo committed ${entry}`,
    '',
  ].join('\n')
}
