// What every Link must do, and dialing and listening for links.

import { describe, expect, test } from 'vitest'
import { LINK_FRAME_MAX_BYTES, LINK_WINDOW_BYTES } from '../credited-link.ts'
import type { Link, LinkClass, NetworkName } from '../environment.ts'
import { codeOf, linkPair, type RunInWorld, sleep, until } from './world.ts'

const NETWORKS: readonly NetworkName[] = ['cluster', 'local']

export function linkContract(name: string, run: RunInWorld): void {
  describe(`links of ${name}`, () => {
    for (const network of NETWORKS) {
      test(`frames of any size arrive whole, in order, both ways (${network})`, () =>
        run(async world => {
          const { left, right, listener } = await linkPair(world, network)
          const sizes = [0, 1, 125, 126, 65_535, 65_536, 300_000, 2, LINK_FRAME_MAX_BYTES.io]
          const frames = sizes.map((size, i) => new Uint8Array(size).fill(i + 1))
          for (const [from, to] of [
            [left, right],
            [right, left],
          ] as const) {
            const got: Uint8Array[] = []
            to.onFrame(frame => {
              got.push(frame)
            })
            for (const frame of frames) expect(from.trySend([frame])).toBe(true)
            await until(world.left, 'all frames', () => got.length === frames.length)
            got.forEach((frame, i) => {
              expect(Buffer.from(frame).equals(frames[i]!)).toBe(true)
            })
          }
          await listener.close()
        }))
    }

    test('the accepted link has the class that was dialed', () =>
      run(async world => {
        const accepted: LinkClass[] = []
        const listener = await world.left.network.listen(world.address('cluster'), link => {
          accepted.push(link.class)
        })
        for (const linkClass of ['control', 'io', 'bulk'] as const) {
          const link = await world.right.network.dial(listener.address, linkClass)
          expect(link.class).toBe(linkClass)
          await until(world.left, 'accepted', () => accepted.at(-1) === linkClass)
        }
        expect(accepted).toEqual(['control', 'io', 'bulk'])
        await listener.close()
      }))

    test('a frame sent by the acceptor at once reaches a dialer that subscribes after its await', () =>
      run(async world => {
        const listener = await world.left.network.listen(world.address('cluster'), link => {
          link.trySend([new Uint8Array([42])])
        })
        const link = await world.right.network.dial(listener.address, 'control')
        await sleep(world.right, 20)
        let got: Uint8Array | null = null
        link.onFrame(frame => {
          got = frame
        })
        await until(world.right, 'the frame', () => got !== null)
        await listener.close()
      }))

    test('a receiver that does not consume stops the sender at the window, and consuming lets it go on', () =>
      run(async world => {
        const { left, right, listener } = await linkPair(world)
        const release: (() => void)[] = []
        let received = 0
        right.onFrame(frame => {
          received += frame.byteLength
          return new Promise<void>(resolve => release.push(resolve))
        })
        let credits = 0
        left.onCredit(() => credits++)
        const frame = new Uint8Array(1_000_000)
        let sent = 0
        while (left.trySend([frame])) sent += frame.byteLength
        expect(sent).toBeLessThanOrEqual(LINK_WINDOW_BYTES.io)
        expect(sent).toBeGreaterThan(LINK_WINDOW_BYTES.io * 0.9)
        await until(world.right, 'all sent is received', () => received === sent)
        await sleep(world.left, 20)
        expect(credits).toBe(0)
        for (const f of release) f()
        await until(world.left, 'credit', () => credits > 0)
        expect(left.trySend([frame])).toBe(true)
        await listener.close()
      }))

    test('much more than a window passes', () =>
      run(async world => {
        const { left, right, listener } = await linkPair(world)
        const total = 3 * LINK_WINDOW_BYTES.io
        const frame = new Uint8Array(256 * 1024)
        let received = 0
        left.onFrame(f => {
          received += f.byteLength
        })
        let sent = 0
        const pump = () => {
          while (sent < total && right.trySend([frame])) sent += frame.byteLength
        }
        right.onCredit(pump)
        pump()
        await until(world.left, 'all of it', () => received === total)
        await listener.close()
      }))

    test('a close is told to the other side once, with its code and reason, after the frames before it', () =>
      run(async world => {
        const { left, right, listener } = await linkPair(world)
        const log: string[] = []
        right.onFrame(frame => {
          log.push(`frame ${frame[0]}`)
        })
        right.onClose((code, reason) => log.push(`${code}: ${reason}`))
        left.onClose(() => log.push('never'))
        left.trySend([new Uint8Array([1]), new Uint8Array([2])])
        left.close('fenced', 'the host was fenced')
        left.close('again')
        await until(world.right, 'the close', () => log.length === 3)
        await sleep(world.right, 20)
        expect(log).toEqual(['frame 1', 'frame 2', 'fenced: the host was fenced'])
        expect(right.trySend([new Uint8Array(1)])).toBe(false)
        expect(left.trySend([new Uint8Array(1)])).toBe(false)
        await listener.close()
      }))

    test('closing a listener closes what it accepted, and frees the address', () =>
      run(async world => {
        const { left, right, listener } = await linkPair(world)
        const told: string[] = []
        left.onClose(code => told.push(`left ${code}`))
        right.onClose(code => told.push(`right ${code}`))
        await listener.close()
        await until(world.right, 'both are told', () => told.length === 2)
        expect(told.sort()).toEqual(['left closed', 'right closed'])
        expect(await codeOf(world.right.network.dial(listener.address, 'io'))).toBe('refused')
        await (await world.left.network.listen(listener.address, () => undefined)).close()
      }))

    for (const network of NETWORKS) {
      test(`an address in use is address-in-use, and stays in use (${network})`, () =>
        run(async world => {
          const links: Link[] = []
          const listener = await world.left.network.listen(world.address(network), link => {
            links.push(link)
          })
          expect(await codeOf(world.left.network.listen(listener.address, () => undefined))).toBe('address-in-use')
          await world.right.network.dial(listener.address, 'io')
          await until(world.left, 'the first listener accepts', () => links.length === 1)
          await listener.close()
        }))

      test(`a dial where nobody listens is refused (${network})`, () =>
        run(async world => {
          const listener = await world.left.network.listen(world.address(network), () => undefined)
          await listener.close()
          expect(await codeOf(world.right.network.dial(listener.address, 'io'))).toBe('refused')
        }))
    }
  })
}
