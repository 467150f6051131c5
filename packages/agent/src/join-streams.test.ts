import { ManualTimers, type PairedStream, settle, streamPair } from '@stellwerk/block/nbd/testing/stream-pair.ts'
import { expect, it } from 'vitest'
import { joinStreams } from './join-streams.ts'

/** `asker` and `server` are the outer ends. */
function joined() {
  const timers = new ManualTimers()
  const [asker, link] = streamPair()
  const [portal, server] = streamPair()
  const over: string[] = []
  const join = joinStreams(link, portal, timers, () => over.push('over'))
  return { timers, asker, server, link, portal, over, join }
}

const heard = (stream: PairedStream): string[] => {
  const chunks: string[] = []
  stream.onData(chunk => chunks.push(Buffer.from(chunk).toString()))
  stream.onEnd(() => chunks.push('end'))
  stream.onClose(error => chunks.push(error === null ? 'closed' : 'broken'))
  return chunks
}

it('passes on what comes, both ways, and counts it', async () => {
  const { asker, server, join } = joined()
  const [a, b] = [heard(asker), heard(server)]
  asker.write([Buffer.from('question')])
  server.write([Buffer.from('ans'), Buffer.from('wer')])
  await settle()
  expect([a.join(''), b.join('')]).toEqual(['answer', 'question'])
  expect(join.bytes).toEqual({ out: 8, in: 6 })
})

it('drops one side at once when the other breaks', async () => {
  for (const breaks of ['asker', 'server'] as const) {
    const bench = joined()
    const other = breaks === 'asker' ? 'server' : 'asker'
    const chunks = heard(bench[other])
    bench[breaks].reset()
    await settle()
    expect([breaks, chunks.at(-1) === undefined ? 'nothing' : chunks.at(-1) !== 'end', bench.over]).toEqual([
      breaks,
      true,
      ['over'],
    ])
  }
})

it('ends in order when both sides do, with nothing lost, and does not wait for ever for one that does not', async () => {
  const { timers, asker, server, over } = joined()
  const [a, b] = [heard(asker), heard(server)]
  asker.write([Buffer.from('bye')])
  asker.end()
  await settle()
  expect(b.slice(0, 2)).toEqual(['bye', 'end'])
  server.write([Buffer.from('well')])
  server.end()
  await settle()
  expect(a.slice(0, 2)).toEqual(['well', 'end'])
  await timers.advance(2_000)
  expect(over).toEqual(['over'])
})

it('holds the sender while the receiver does not take it', async () => {
  const { asker, server, portal } = joined()
  heard(server)
  server.pause()
  const block = new Uint8Array(256 * 1024)
  let taken = 0
  while (asker.write([block]) && taken < 100) {
    taken += 1
    await settle()
  }
  expect(taken).toBeLessThan(20)
  expect(portal.bufferedBytes).toBeLessThan(3 * 1024 * 1024)
  server.resume()
  await settle()
  expect(asker.bufferedBytes).toBe(0)
})
