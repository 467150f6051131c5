import { expect, test } from 'vitest'
import { createVirtualEnvironment } from '../testing/virtual-environment.ts'
import { SilenceWatch } from './silence-watch.ts'

function watched() {
  const virtual = createVirtualEnvironment(1)
  const asked: PromiseWithResolvers<unknown>[] = []
  const told: string[] = []
  let expected = false
  let mayEnd = true
  const watch = new SilenceWatch(virtual.env.timers, {
    isExpected: () => expected,
    ask: () => {
      const answer = Promise.withResolvers<unknown>()
      asked.push(answer)
      return answer.promise
    },
    waits: () => told.push('waits'),
    answers: () => told.push('answers'),
    ends: why => {
      told.push(why)
      return mayEnd
    },
  })
  const pass = (ms: number) => virtual.until(() => false, ms)
  const expect_ = (is: boolean): void => {
    expected = is
  }
  const keep = (): void => {
    mayEnd = false
  }
  return { watch, asked, told, pass, keep, expectSilence: expect_ }
}

test('one that never answers is ended, once, after it was given a way out of its wait', async () => {
  const { told, pass } = watched()
  await pass(60_000)
  expect(told).toEqual(['waits', 'waits', 'it has not answered for 10 s'])
})

test('one that is not to be ended yet is asked anew', async () => {
  const { told, pass, keep } = watched()
  keep()
  await pass(30_000)
  expect(told.filter(what => what !== 'waits')).toEqual(Array(2).fill('it has not answered for 10 s'))
})

test('one that answers, or refuses, is asked again and again', async () => {
  const { asked, told, pass } = watched()
  for (let n = 0; n < 10; n += 1) {
    await pass(5_000)
    if (n % 2 === 0) asked.at(-1)?.resolve(null)
    else asked.at(-1)?.reject(new Error('no'))
  }
  expect(asked.length).toBeGreaterThan(5)
  expect(told).toEqual([])
})

test('one that has waited for its guest and answers goes on', async () => {
  const { asked, told, pass } = watched()
  await pass(9_000)
  expect(told).toEqual(['waits'])
  asked[0]!.resolve(null)
  await pass(60_000)
  // And then never again.
  expect(told).toEqual(['waits', 'answers', 'waits', 'waits', 'it has not answered for 10 s'])
})

test('with a reason to be silent it is left alone, and asked anew afterwards', async () => {
  const { told, pass, expectSilence } = watched()
  await pass(6_000)
  expectSilence(true)
  await pass(60_000)
  expect(told).toEqual([])
  expectSilence(false)
  await pass(11_000)
  expect(told).toEqual(['waits', 'waits'])
  await pass(3_000)
  expect(told.at(-1)).toBe('it has not answered for 10 s')
})

test('what is insisted on ends it when it does not come, and is not watched any more when it has', async () => {
  const { watch, told, pass, expectSilence } = watched()
  expectSilence(true)
  const done = Promise.withResolvers<number>()
  const first = watch.insist('stand still', done.promise)
  await pass(8_000)
  done.resolve(7)
  expect(await first).toBe(7)
  await pass(20_000)
  expect(told).toEqual([])
  const never = Promise.withResolvers<number>()
  const second = watch.insist('go on', never.promise).catch((error: Error) => error.message)
  await pass(13_000)
  expect(told).toEqual(['it did not go on within 10 s'])
  never.reject(new Error('it is gone'))
  expect(await second).toBe('it is gone')
})
