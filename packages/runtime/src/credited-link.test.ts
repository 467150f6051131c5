// The credit of a link, over a pair of sockets in memory that deliver when told to.

import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { CreditedLink, FRAME_COST_BYTES, type FrameSocket, frameCost } from './credited-link.ts'
import { errorCode } from './errors.ts'

const WINDOW = 4096

class MemorySocket implements FrameSocket {
  peer: MemorySocket | null = null
  queue: (() => void)[] = []
  closedWith: string | null = null
  frame: (frame: Uint8Array) => void = () => undefined
  control: (text: string) => void = () => undefined
  gone: (code: string, reason: string) => void = () => undefined

  send(frames: readonly Uint8Array[]): void {
    for (const frame of frames) this.queue.push(() => this.peer?.frame(frame))
  }
  sendControl(text: string): void {
    this.queue.push(() => this.peer?.control(text))
  }
  onFrame(f: (frame: Uint8Array) => void): void {
    this.frame = f
  }
  onControl(f: (text: string) => void): void {
    this.control = f
  }
  onClose(f: (code: string, reason: string) => void): void {
    this.gone = f
  }
  close(code: string, reason: string): void {
    if (this.closedWith !== null) return
    this.closedWith = code
    this.queue.push(() => this.peer?.gone(code, reason))
  }
  /** Delivers what this side has sent. */
  flush(): void {
    for (const deliver of this.queue.splice(0)) deliver()
  }
}

function pair() {
  const a = new MemorySocket()
  const b = new MemorySocket()
  a.peer = b
  b.peer = a
  const options = { class: 'io', windowBytes: WINDOW, frameMaxBytes: 1000 } as const
  return {
    a,
    b,
    left: new CreditedLink(a, { ...options, peer: 'b' }),
    right: new CreditedLink(b, { ...options, peer: 'a' }),
  }
}

/** A promise that resolves when told to. */
const gate = () => Promise.withResolvers<void>()
const microtasks = () => new Promise(resolve => setImmediate(resolve))

test('a frame arrives as the very same bytes, uncopied', () => {
  const { a, left, right } = pair()
  const got: Uint8Array[] = []
  right.onFrame(frame => void got.push(frame))
  const sent = new Uint8Array([1, 2, 3])
  expect(left.trySend([sent])).toBe(true)
  a.flush()
  expect(got[0]).toBe(sent)
})

test('a sender never has more than the window unconsumed, and goes on when credit came', async () => {
  const { a, b, left, right } = pair()
  const gates: ReturnType<typeof gate>[] = []
  right.onFrame(() => {
    const g = gate()
    gates.push(g)
    return g.promise
  })
  let credits = 0
  left.onCredit(() => credits++)
  const frame = new Uint8Array(1000)
  let sent = 0
  while (left.trySend([frame])) sent++
  expect(sent).toBe(Math.floor(WINDOW / frameCost(frame)))
  a.flush()
  b.flush()
  expect(left.trySend([frame])).toBe(false)
  for (const g of gates) g.resolve()
  await microtasks()
  expect(credits).toBe(0)
  b.flush()
  expect(credits).toBe(1)
  expect(left.trySend([frame])).toBe(true)
})

test('all frames of a batch are sent or none', () => {
  const { a, left } = pair()
  const frame = new Uint8Array(900)
  while (left.trySend([frame]));
  const before = a.queue.length
  expect(left.trySend([new Uint8Array(0), frame])).toBe(false)
  expect(a.queue.length).toBe(before)
})

test('credit is returned in batches of half a window', () => {
  const { a, b, left, right } = pair()
  right.onFrame(() => undefined)
  const frame = new Uint8Array(1000 - FRAME_COST_BYTES)
  left.trySend([frame])
  left.trySend([frame])
  a.flush()
  expect(b.queue.length).toBe(0)
  left.trySend([frame])
  a.flush()
  expect(b.queue.length).toBe(1)
  b.flush()
  expect(left.creditBytes).toBe(WINDOW)
})

test('frames that came before onFrame are kept, in order with later ones, and told before the close', async () => {
  const { a, left, right } = pair()
  const log: string[] = []
  left.trySend([new Uint8Array([1]), new Uint8Array([2])])
  a.flush()
  right.onClose(code => log.push(code))
  right.onFrame(frame => void log.push(String(frame[0])))
  left.trySend([new Uint8Array([3])])
  left.close('closed', 'done')
  a.flush()
  expect(log).toEqual([])
  await microtasks()
  expect(log).toEqual(['1', '2', '3', 'closed'])
})

test('a close before onClose was set is told when it is, once', async () => {
  const { a, left, right } = pair()
  left.close('closed', 'done')
  a.flush()
  const log: string[] = []
  right.onClose((code, reason) => log.push(`${code}: ${reason}`))
  await microtasks()
  a.gone('lost', 'again')
  stillClosed(right, log)
})

function stillClosed(right: CreditedLink, log: string[]) {
  expect(log).toEqual(['closed: done'])
  expect(right.trySend([new Uint8Array(1)])).toBe(false)
}

test('after close() nothing is told any more', () => {
  const { a, b, left, right } = pair()
  const log: string[] = []
  right.onFrame(() => void log.push('frame'))
  right.onClose(() => log.push('close'))
  left.trySend([new Uint8Array(1)])
  right.close('closed')
  left.close('closed')
  a.flush()
  b.flush()
  expect(log).toEqual([])
})

test('a frame or batch that can never be sent is refused to the sender', () => {
  const { left } = pair()
  const code = (f: () => void) => {
    try {
      f()
    } catch (error) {
      return errorCode(error)
    }
    return 'none'
  }
  expect(code(() => left.trySend([new Uint8Array(1001)]))).toBe('frame-too-large')
  expect(code(() => left.trySend([new Uint8Array(1000), new Uint8Array(1000)]))).toBe('frame-too-large')
  expect(left.creditBytes).toBe(WINDOW)
})

test('an oversized frame closes the link with frame-too-large, and is not delivered', () => {
  const { a, b, right } = pair()
  const log: string[] = []
  right.onFrame(() => void log.push('frame'))
  right.onClose(code => log.push(code))
  a.send([new Uint8Array(1001)])
  a.flush()
  expect(log).toEqual(['frame-too-large'])
  expect(b.closedWith).toBe('frame-too-large')
})

test('a peer that overruns its credit is cut with credit-overrun', () => {
  const { a, b, right } = pair()
  const log: string[] = []
  right.onFrame(() => new Promise(() => undefined))
  right.onClose(code => log.push(code))
  a.send(Array.from({ length: 100 }, () => new Uint8Array(0)))
  a.flush()
  expect(log).toEqual(['credit-overrun'])
  expect(b.closedWith).toBe('credit-overrun')
})

test('any control text that is not credit taken closes the link with protocol-error', () => {
  for (const text of ['', '0', '-1', '1.5', '1e3', 'NaN', ' 7', '4097', '99999999999', '5']) {
    const { a, b, left } = pair()
    const log: string[] = []
    left.onClose(code => log.push(code))
    b.sendControl(text)
    b.flush()
    expect(log, JSON.stringify(text)).toEqual(['protocol-error'])
    expect(a.closedWith).toBe('protocol-error')
  }
})

test('any traffic keeps to the window, arrives in order and never stalls', () => {
  const step = fc.oneof(
    fc.record({
      do: fc.constant('send' as const),
      sizes: fc.array(fc.integer({ min: 0, max: 400 }), { maxLength: 4 }),
    }),
    fc.constant({ do: 'deliver' as const }),
    fc.constant({ do: 'credit' as const }),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), steps => {
      const { a, b, left, right } = pair()
      const sent: number[] = []
      const got: number[] = []
      let inFlight = 0
      right.onFrame(frame => {
        inFlight -= frameCost(frame)
        got.push(frame.byteLength)
      })
      left.onClose(code => expect.unreachable(code))
      for (const s of steps) {
        if (s.do === 'send') {
          const frames = s.sizes.map(size => new Uint8Array(size))
          if (left.trySend(frames)) {
            for (const frame of frames) {
              inFlight += frameCost(frame)
              sent.push(frame.byteLength)
            }
          }
          expect(inFlight).toBeLessThanOrEqual(WINDOW)
        } else if (s.do === 'deliver') a.flush()
        else b.flush()
      }
      a.flush()
      b.flush()
      expect(got).toEqual(sent)
      expect(left.trySend([new Uint8Array(900), new Uint8Array(900)])).toBe(true)
    }),
  )
})
