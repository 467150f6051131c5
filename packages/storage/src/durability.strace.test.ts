// Seen from the kernel: before the reply to a flush, or to a write with FUA, leaves, a sync of the data that began after
// the write had ended has returned. A real process under strace, one request at a time.

import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connectNbd, type NbdClient } from '@stellwerk/block/nbd/client.ts'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { peer, peers } from '@stellwerk/runtime/testing/peers.ts'
import { expect, it } from 'vitest'
import { filled, IO } from './testing/sim-storage.ts'

const needed = peers(peer('strace', 'strace'))
const TRACED = 'pwrite64,pwritev,pwritev2,write,writev,sendmsg,sendto,fsync,fdatasync,fallocate'

/** What happened, in order: a write to the data ended, a sync of it began or ended well, a reply began. */
type Event = 'write' | 'sync-begin' | 'sync' | 'reply'

function eventsOf(trace: string, data: string): Event[] {
  const events: Event[] = []
  /** By thread: the call it is in, as it began. */
  const pending = new Map<string, string>()
  for (const line of trace.split('\n')) {
    const parts = /^(\d+)\s+(.*)$/.exec(line)
    if (parts === null) continue
    const [, thread = '', text = ''] = parts
    const resumed = text.startsWith('<... ')
    const begun = resumed ? (pending.get(thread) ?? '') : text
    const ended = !text.includes('<unfinished ...>')
    if (ended) pending.delete(thread)
    else pending.set(thread, text)
    const onData = begun.includes(data)
    const isSync = onData && /^f(data)?sync\(/.test(begun)
    if (!resumed) {
      if (isSync) events.push('sync-begin')
      if (/^(write|writev|sendmsg|sendto)\(\d+<(UNIX|socket)/.test(begun)) events.push('reply')
    }
    if (ended && onData && /^(pwrite|fallocate)/.test(begun)) events.push('write')
    if (ended && isSync && / = 0$/.test(text)) events.push('sync')
  }
  return events
}

async function started(child: ChildProcess): Promise<string> {
  for await (const chunk of child.stdout ?? []) {
    const found = /ready (\S+)/.exec(String(chunk))
    if (found?.[1] !== undefined) return found[1]
  }
  throw new Error('the storage did not start')
}

it.skipIf(needed.missing)(`IO2: a sync before each reply that promises durability (${needed.note})`, async () => {
  const directory = mkdtempSync(join(tmpdir(), 'stellwerk-strace-'))
  const output = join(directory, 'trace')
  const serve = join(import.meta.dirname, 'testing/serve.ts')
  const child = spawn(
    'strace',
    ['-f', '-y', '-s', '0', '-e', `trace=${TRACED}`, '-o', output, process.execPath, serve, directory],
    {
      stdio: ['pipe', 'pipe', 'inherit'],
    },
  )
  const env = createEnvironment({
    name: 'client',
    directory: join(directory, 'client'),
    store: memoryStore(),
    logLevel: 'error',
  })
  const gone = new Promise<void>(resolve => child.on('exit', () => resolve()))
  try {
    const id = await started(child)
    const stream = await env.network.dialStream({ network: 'local', host: join(directory, 'nbd.sock'), port: 0 })
    const client: NbdClient = await connectNbd(stream, { exportName: 'disk', timers: env.timers })
    // A chunk that is new, then one that is not, so that the map's own writes are seen too.
    const promising: (() => Promise<void>)[] = [
      () => client.write(0, [filled(4096, 1)], { fua: true }, IO),
      () => client.write(4096, [filled(512, 2), filled(512, 3)], { fua: true }, IO),
      () => client.zero(0, 512, { fua: true }, IO),
      () => client.write(65536 * 3, [filled(70_000, 4)], { fua: true }, IO),
      async () => {
        await client.write(8192, [filled(4096, 5)], {}, IO)
        await client.flush(IO)
      },
      () => client.trim(65536 * 3, 65536, { fua: true }, IO),
    ]
    for (let round = 0; round < 5; round++) for (const request of promising) await request()
    await client.close()
    child.stdin?.end()
    await gone
    const events = eventsOf(readFileSync(output, 'utf8'), `${id}.data`)
    // From the first write to the data on, each reply is one of ours.
    const traffic = events.slice(events.indexOf('write'))
    let promised = 0
    let unsyncedWrite = false
    let syncCovers = false
    let plainReplies = 0
    for (const event of traffic) {
      if (event === 'write') {
        unsyncedWrite = true
        syncCovers = false
      } else if (event === 'sync-begin') syncCovers = true
      else if (event === 'sync') {
        if (syncCovers) unsyncedWrite = false
      } else if (unsyncedWrite) plainReplies += 1
      else promised += 1
    }
    // Only the plain write before each flush may be answered without a sync of its own.
    expect(plainReplies).toBe(5)
    expect(promised).toBeGreaterThanOrEqual(5 * promising.length)
    expect(traffic.filter(event => event === 'sync').length).toBeGreaterThanOrEqual(5 * promising.length)
  } finally {
    child.stdin?.end()
    await gone
    await env.close()
    rmSync(directory, { recursive: true, force: true })
  }
})
