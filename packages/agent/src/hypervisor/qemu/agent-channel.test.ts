// A connection to a guest's agent, against a scripted one: what is taken for an answer, and what is not.

import type { ByteStream } from '@stellwerk/runtime/environment.ts'
import { errorCode } from '@stellwerk/runtime/errors.ts'
import { expect, test } from 'vitest'
import { createVirtualEnvironment } from '../testing/virtual-environment.ts'
import { AgentChannel } from './agent-channel.ts'

const DEADLINE_MS = 1_000

function bench() {
  const { env, until } = createVirtualEnvironment(7)
  const asked: string[] = []
  let onData: (chunk: Uint8Array) => void = () => undefined
  let isPaused = false
  let mayPass = true
  let isDestroyed = false
  const stream = {
    ...{ peer: 'agent', bufferedBytes: 0, onDrain: () => undefined, onEnd: () => undefined, onClose: () => undefined },
    write: (parts: readonly Uint8Array[]) => {
      asked.push(Buffer.concat(parts).toString('latin1'))
      return true
    },
    onData: (f: typeof onData) => {
      onData = f
    },
    pause: () => {
      isPaused = true
    },
    resume: () => {
      isPaused = false
    },
    destroy: () => {
      isDestroyed = true
    },
  } as unknown as ByteStream
  const channel = new AgentChannel(stream, env.timers, env.random, () => mayPass)
  const say = (text: string): void => onData(Buffer.from(text, 'latin1'))
  const idAsked = (): number => Number(/"id":(\d+)/.exec(asked.at(-1) ?? '')?.[1])
  const outcome = async (promise: Promise<unknown>): Promise<unknown> => {
    let answer: unknown = 'none'
    promise.then(
      value => {
        answer = value
      },
      (error: unknown) => {
        answer = errorCode(error)
      },
    )
    await until(() => answer !== 'none', DEADLINE_MS * 2)
    return answer
  }
  const synced = async (): Promise<void> => {
    const syncing = channel.sync(DEADLINE_MS)
    say(`\xff{"return": ${idAsked()}}\n`)
    await syncing
  }
  return {
    ...{ channel, asked, say, idAsked, outcome, synced },
    paused: () => isPaused,
    destroyed: () => isDestroyed,
    mute: () => {
      mayPass = false
    },
  }
}

test('begins behind what an earlier connection had asked for, whatever stands there', async () => {
  const { channel, asked, say, idAsked, outcome, paused } = bench()
  expect([channel.synced, paused()]).toEqual([false, true])
  const syncing = channel.sync(DEADLINE_MS)
  expect(asked[0]).toMatch(/^\xff\{"execute":"guest-sync-delimited","arguments":\{"id":\d+\}\}\n$/)
  expect(paused()).toBe(false)
  const id = idAsked()
  say('{"return": {"host-name": "late"}}\n{"ret')
  say(`urn": ${id}}\n{"return": `)
  say(`\xff{"return": ${id + 1}}\n`)
  // In parts, and with another's answer before.
  for (const character of `junk\xff{"return": ${id}}\n`) say(character)
  expect(await outcome(syncing)).toBe(undefined)
  expect([channel.synced, paused()]).toEqual([true, true])
})

test('an answer, a refusal, and none', async () => {
  const { channel, asked, say, outcome, synced } = bench()
  await synced()
  const info = channel.execute('guest-info', {}, DEADLINE_MS)
  expect(asked.at(-1)).toBe('{"execute":"guest-info","arguments":{}}\n')
  say('no JSON\n[]\n7\n{"event": "x"}\n{"return": {"version": "7"}}\n{"return": "more"}\n')
  expect(await outcome(info)).toEqual({ version: '7' })
  const refused = channel.execute('guest-exec', {}, DEADLINE_MS)
  say('{"error": {"class": "GenericError", "desc": "disabled"}}\n')
  expect(await outcome(refused)).toBe('guest-agent-refused')
  expect(channel.synced).toBe(true)
  expect(await outcome(channel.execute('guest-ping', {}, DEADLINE_MS))).toBe('guest-agent-silent')
  expect(channel.synced).toBe(false)
})

test('what comes unasked is no answer to what is asked next', async () => {
  const { channel, say, synced } = bench()
  await synced()
  say('{"return": "made up"}\n')
  expect(channel.synced).toBe(false)
})

test('a line without an end, and many lines without an answer, are kept in bounds', async () => {
  const { channel, say, outcome, synced } = bench()
  await synced()
  const one = channel.execute('guest-ping', {}, DEADLINE_MS)
  for (let n = 0; n < 40; n += 1) say('x'.repeat(10_000))
  say('\n{"return": {}}\n')
  expect(await outcome(one)).toBe('guest-agent-silent')
  await synced()
  const many = channel.execute('guest-ping', {}, DEADLINE_MS)
  for (let n = 0; n < 200; n += 1) say(`${'x'.repeat(9_999)}\n`)
  expect(await outcome(many)).toBe('guest-agent-silent')
})

test('a word that may not leave the guest is not heard', async () => {
  const { channel, say, outcome, synced, mute } = bench()
  await synced()
  const asked = channel.execute('guest-get-host-name', {}, DEADLINE_MS)
  mute()
  say('{"return": {"host-name": "web"}}\n')
  expect(await outcome(asked)).toBe('guest-agent-silent')
})

test('closed, it answers nothing more', async () => {
  const { channel, outcome, synced, destroyed } = bench()
  await synced()
  const asked = channel.execute('guest-ping', {}, DEADLINE_MS)
  channel.close()
  expect(await outcome(asked)).toBe('guest-agent-silent')
  expect(await outcome(channel.sync(DEADLINE_MS))).toBe('guest-agent-silent')
  expect([channel.closed, channel.synced, destroyed()]).toEqual([true, false, true])
})
