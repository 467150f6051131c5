// The handle on a guest's thread, against a thread that answers as the test says.

import type { Worker } from '@stellwerk/runtime/environment.ts'
import { expect, test } from 'vitest'
import { createVirtualEnvironment } from '../testing/virtual-environment.ts'
import type { GuestImage } from './guest-image.ts'
import { GuestThread } from './guest-thread.ts'
import type { WorkerMessage } from './layout.ts'

function setUp() {
  const { env, until } = createVirtualEnvironment(1)
  let hear: (message: unknown) => void = () => undefined
  const worker: Worker = {
    post: () => undefined,
    onMessage: f => {
      hear = f
    },
    onExit: () => undefined,
    terminate: async () => undefined,
  }
  const crashes: string[] = []
  const image = { facts: { globals: [{ name: 'a', type: 'i32' }] } } as unknown as GuestImage
  const thread = new GuestThread({ ...env, compute: { ...env.compute, startWorker: () => worker } }, image, {
    bell: () => undefined,
    halted: () => undefined,
    crashed: reason => crashes.push(reason),
  })
  const say = (message: WorkerMessage) => hear(message)
  return { thread, say, crashes, until }
}

/** Whether the promise has settled by now. */
async function settled(promise: Promise<void>): Promise<boolean> {
  return Promise.race([promise.then(() => true), new Promise<false>(resolve => setImmediate(() => resolve(false)))])
}

test('rest is reached only by the answer to the newest command', async () => {
  const { thread, say } = setUp()
  say({ kind: 'rest', command: 1 })
  expect(await settled(thread.rest())).toBe(true)
  thread.run()
  const rest = thread.rest()
  say({ kind: 'rest', command: 1 })
  expect(await settled(rest)).toBe(false)
  say({ kind: 'rest', command: 3 })
  expect(await settled(rest)).toBe(true)
  expect(await settled(thread.rest())).toBe(true)
})

test('a guest that does not come to rest in time is given up', async () => {
  const { thread, crashes, until } = setUp()
  const rest = thread.rest()
  await until(() => false, 4999)
  expect(crashes).toEqual([])
  await until(() => crashes.length > 0, 10)
  expect(crashes).toEqual(['it did not come to rest within 5000 ms'])
  expect(await settled(rest)).toBe(true)
})

test('registers come back as they were saved, and others are refused', () => {
  const { thread } = setUp()
  const registers = JSON.stringify({ clockMs: 12.5, globals: '0100000000000000' })
  thread.restore(Buffer.from(registers))
  expect(thread.registers().toString()).toBe(registers)
  for (const wrong of ['', '{}', '{"clockMs":-1,"globals":""}', '{"clockMs":1,"globals":"00"}', '[1]', 'null']) {
    expect(() => thread.restore(Buffer.from(wrong))).toThrow(expect.objectContaining({ code: 'corrupt-data' }))
  }
})
