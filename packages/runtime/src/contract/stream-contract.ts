// What every ByteStream must do, and dialing and listening for streams.

import { describe, expect, test } from 'vitest'
import { codeOf, type RunInWorld, sleep, streamPair, until } from './world.ts'

export function streamContract(name: string, run: RunInWorld): void {
  describe(`streams of ${name}`, () => {
    for (const network of ['fabric-0', 'local'] as const) {
      test(`bytes arrive in order, both ways, scattered or not (${network})`, () =>
        run(async world => {
          const { left, right, listener } = await streamPair(world, network)
          for (const [from, to] of [
            [left, right],
            [right, left],
          ] as const) {
            const got: Uint8Array[] = []
            let received = 0
            to.onData(chunk => {
              got.push(chunk)
              received += chunk.byteLength
            })
            const parts = Array.from({ length: 1200 }, (_, i) => new Uint8Array(i % 50).fill(i % 256))
            from.write(parts.slice(0, 1))
            from.write(parts.slice(1))
            from.write([])
            const expected = Buffer.concat(parts)
            await until(world.left, 'all bytes', () => received === expected.length)
            expect(Buffer.concat(got).equals(expected)).toBe(true)
          }
          await listener.close()
        }))
    }

    test('a paused reader stops the writer at high water; resuming drains it', () =>
      run(async world => {
        const { left, right, listener } = await streamPair(world)
        let received = 0
        right.onData(chunk => {
          received += chunk.byteLength
        })
        right.pause()
        let drained = 0
        left.onDrain(() => drained++)
        const chunk = new Uint8Array(256 * 1024)
        let sent = 0
        // The system between the two holds some; but not all that we would give.
        for (let taken = true; taken; sent += chunk.byteLength) {
          taken = left.write([chunk])
          if (taken) await sleep(world.left, 1)
          expect(sent).toBeLessThan(256 * 1024 * 1024)
        }
        expect(left.bufferedBytes).toBeGreaterThan(0)
        await sleep(world.left, 20)
        expect(drained).toBe(0)
        const before = received
        await sleep(world.left, 20)
        expect(received).toBe(before)
        right.resume()
        await until(world.left, 'all is there and drained', () => received === sent && drained > 0)
        expect(left.bufferedBytes).toBe(0)
        await listener.close()
      }))

    test('the end of one half is told after its bytes, and leaves the other half open', () =>
      run(async world => {
        const { left, right, listener } = await streamPair(world)
        const log: string[] = []
        left.onData(chunk => log.push(`left ${chunk[0]}`))
        left.onEnd(() => log.push('left end'))
        left.onClose(error => log.push(`left closed ${error}`))
        right.onData(chunk => log.push(`right ${chunk[0]}`))
        right.onEnd(() => log.push('right end'))
        right.onClose(error => log.push(`right closed ${error}`))
        right.write([new Uint8Array([1])])
        right.end()
        await until(world.left, 'the end', () => log.includes('left end'))
        expect(log).toEqual(['left 1', 'left end'])
        left.write([new Uint8Array([2])])
        left.end()
        await until(world.left, 'both are closed', () => log.length === 6)
        const ofRight = log.filter(line => line.startsWith('right'))
        expect(ofRight).toEqual(['right 2', 'right end', 'right closed null'])
        expect(log).toContain('left closed null')
        await listener.close()
      }))

    test('after destroy() nothing is told; the other side is', () =>
      run(async world => {
        const { left, right, listener } = await streamPair(world)
        const log: string[] = []
        left.onData(() => log.push('left data'))
        left.onClose(() => log.push('left close'))
        right.onData(() => undefined)
        right.onClose(() => log.push('right close'))
        left.destroy()
        left.destroy()
        right.write([new Uint8Array(10)])
        await until(world.right, 'the close', () => log.length === 1)
        await sleep(world.right, 20)
        expect(log).toEqual(['right close'])
        expect(left.write([new Uint8Array(1)])).toBe(false)
        await listener.close()
      }))

    test('a dial where nobody listens is refused, a taken address is in use', () =>
      run(async world => {
        const { listener } = await streamPair(world)
        expect(await codeOf(world.left.network.listenStream(listener.address, () => undefined))).toBe('address-in-use')
        await listener.close()
        expect(await codeOf(world.right.network.dialStream(listener.address))).toBe('refused')
      }))
  })
}
