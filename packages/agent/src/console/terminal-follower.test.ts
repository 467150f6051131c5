// A terminal that shows what a port sends: in order and whole, or with a gap that it can see.

import { CONSOLE_OUTPUT_BYTES } from '@stellwerk/protocol/messages/cluster.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { expect, it } from 'vitest'
import { type OutputBody, TerminalFollower } from './terminal-follower.ts'

function opened() {
  const asked: OutputBody[] = []
  let answer: PromiseWithResolvers<void> = Promise.withResolvers()
  const follower = new TerminalFollower({ vm: 'web', host: 'host-a' }, body => {
    asked.push(body)
    answer = Promise.withResolvers()
    return answer.promise
  })
  let at = 0
  const says = (bytes: string, life = 'first') => {
    follower.output('web', Buffer.from(bytes), { life, at })
    at += bytes.length
  }
  const settle = () => new Promise<void>(resolve => setImmediate(resolve))
  /** What stands there; where bytes are missing, how many. */
  const shown = () => {
    let next = 0
    return asked.map(body => {
      const gap = body.at - next
      next = body.at + body.bytes.length
      return `${gap > 0 ? `(${gap} missing)` : ''}${Buffer.from(body.bytes).toString()}`
    })
  }
  const done = () => {
    answer.resolve()
    return settle()
  }
  const failed = (code: string) => {
    answer.reject(new StellwerkError(code, code))
    return settle()
  }
  return { follower, asked, says, shown, done, failed }
}

it('is told what has come meanwhile together, once it has shown what came before', async () => {
  const { says, shown, done, follower } = opened()
  says('one ')
  says('two ')
  says('three ')
  follower.output('db', Buffer.from('of another'), { life: 'x', at: 0 })
  expect(shown()).toEqual(['one '])
  await done()
  expect(shown()).toEqual(['one ', 'two three '])
})

it('is told much in parts that a message holds, and of two lives apart', async () => {
  const { asked, says, done } = opened()
  says('.')
  says('x'.repeat(CONSOLE_OUTPUT_BYTES + 5))
  says('y', 'second')
  for (let n = 0; n < 4; n += 1) await done()
  expect(asked.map(({ life, bytes }) => [life, bytes.length])).toEqual([
    ['first', 1],
    ['first', CONSOLE_OUTPUT_BYTES],
    ['first', 5],
    ['second', 1],
  ])
  expect(asked[2]?.at).toBe(1 + CONSOLE_OUTPUT_BYTES)
})

it('that shows nothing for long is told the newest, and sees that some is missing', async () => {
  const { says, shown, done } = opened()
  says('one ')
  for (let n = 0; n < 300; n += 1) says(`${String(n).padStart(1023, '.')} `)
  says('the end')
  for (let n = 0; n < 3; n += 1) await done()
  const [first, second, ...rest] = shown()
  const kept = [second, ...rest].join('')
  expect(first).toBe('one ')
  expect(kept).toMatch(/^\(\d+ missing\)/)
  expect(kept).toMatch(/299 the end$/)
  const missing = Number(/^\((\d+)/.exec(kept)?.[1])
  expect(missing + kept.replace(/^\(.*?\)/, '').length).toBe(300 * 1024 + 'the end'.length)
})

it('that is only slow goes on; one that is gone is told nothing more', async () => {
  const { says, shown, failed } = opened()
  says('one ')
  says('two ')
  await failed('deadline')
  says('three ')
  await failed('link-lost')
  says('four ')
  await failed('link-lost')
  expect(shown()).toEqual(['one ', 'two '])
})
