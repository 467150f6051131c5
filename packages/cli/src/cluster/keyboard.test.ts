// Keys on their way to a guest that moves, waits, or is gone: each is typed once, in order, or said to be lost.

import { createVirtualEnvironment } from '@stellwerk/agent/hypervisor/testing/virtual-environment.ts'
import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { expect, it } from 'vitest'
import { Keyboard } from './keyboard.ts'

const refused = (code: string) => new StellwerkError(code, code)

function opened(hosts: readonly string[] = ['a', 'b', 'c']) {
  const { env, until } = createVirtualEnvironment(1)
  const world = {
    /** Who has the guest. */
    at: 'a',
    /** What it is refused with there. */
    refusal: null as StellwerkError | null,
    typed: '',
    asked: [] as string[],
    lost: [] as string[],
    life: 'first' as string | null,
  }
  const keyboard = new Keyboard({
    env,
    hosts: () => hosts,
    life: () => world.life,
    give: async (host, keys, life) => {
      world.asked.push(host)
      await new Promise<void>(resolve => void env.timers.after(1, resolve))
      if (host !== world.at) throw refused('unknown-vm')
      if (world.refusal !== null) throw world.refusal
      if (life !== null && life !== world.life) throw refused('other-life')
      world.typed += Buffer.from(keys).toString()
    },
    lost: error => world.lost.push(errorCode(error)),
  })
  const pass = (ms: number) => until(() => false, ms)
  const press = (text: string) => keyboard.press(Buffer.from(text))
  return { world, keyboard, press, pass }
}

it('types in order, what comes meanwhile together', async () => {
  const { world, press, pass } = opened()
  for (const key of 'echo hello\n') press(key)
  press('x'.repeat(10_000))
  await pass(100)
  expect(world.typed).toBe(`echo hello\n${'x'.repeat(10_000)}`)
  expect(world.asked.length).toBeLessThan(6)
})

it('finds the guest wherever it goes on, asks there first from then on, and where it was heard', async () => {
  const { world, keyboard, press, pass } = opened()
  world.at = 'c'
  press('1')
  await pass(10)
  press('2')
  await pass(10)
  expect(world.asked).toEqual(['a', 'b', 'c', 'c'])
  world.at = 'b'
  keyboard.at('b')
  press('3')
  await pass(10)
  expect([world.asked.at(-1), world.typed, world.lost]).toEqual(['b', '123', []])
})

it('waits out a switch and a guest that does not read yet', async () => {
  const { world, press, pass } = opened()
  for (const code of ['migrating', 'console-busy', 'not-running', 'standing-still']) {
    world.refusal = refused(code)
    press('x')
    await pass(1_000)
    world.refusal = null
    await pass(200)
  }
  expect([world.typed, world.lost]).toEqual(['xxxx', []])
})

it('says once that keys are lost, why, and drops those behind them', async () => {
  const { world, press, pass } = opened()
  world.refusal = refused('console-busy')
  press('a')
  press('b')
  await pass(6_000)
  expect(world.lost).toEqual(['console-busy'])
  world.refusal = null
  press('c')
  await pass(200)
  expect([world.typed, world.lost.length]).toEqual(['c', 1])
})

it('keeps nothing for a guest that nobody knows: the next one that begins might read it', async () => {
  const { world, press, pass } = opened()
  world.life = null
  world.refusal = refused('not-running')
  press('halt\n')
  await pass(10)
  world.refusal = null
  await pass(6_000)
  expect([world.typed, world.lost]).toEqual(['', ['not-running']])
})

it('types to no other life of the guest than that in which it was pressed', async () => {
  const { world, press, pass } = opened()
  world.refusal = refused('not-running')
  press('halt\n')
  await pass(300)
  // It begins anew, and is heard before the keys are sent again.
  world.life = 'second'
  press('status\n')
  world.refusal = null
  await pass(1_000)
  expect([world.typed, world.lost]).toEqual(['', ['other-life']])
  press('status\n')
  await pass(100)
  expect(world.typed).toBe('status\n')
})

it('drops all of a text that was pasted from where it was lost on, and types again after a pause', async () => {
  const { world, press, pass } = opened()
  world.refusal = refused('link-lost')
  for (const part of ['one ', 'two ', 'three ']) {
    press(part)
    await pass(100)
    world.refusal = null
  }
  await pass(300)
  press('four')
  await pass(10)
  expect([world.typed, world.lost]).toEqual(['four', ['link-lost']])
})

it('tells when all that was pressed was typed', async () => {
  const { world, keyboard, press, pass } = opened()
  const seen: string[] = []
  press('exit\n')
  void keyboard.settled.then(() => seen.push(world.typed))
  await pass(100)
  await keyboard.settled
  expect(seen).toEqual(['exit\n'])
})

it.each(['link-lost', 'deadline', 'other-life'])('sends nothing twice that may have been typed: %s', async code => {
  const { world, press, pass } = opened()
  world.refusal = refused(code)
  press('a')
  await pass(10)
  world.refusal = null
  await pass(6_000)
  expect([world.typed, world.lost]).toEqual(['', [code]])
})

it('has a bound, and without a host a reason', async () => {
  const { world, press, pass, keyboard } = opened([])
  press('x'.repeat(2 ** 20 + 1))
  expect(world.lost).toEqual(['console-busy'])
  await pass(300)
  press('a')
  await pass(6_000)
  expect(world.lost.at(-1)).toBe('not-linked')
  await pass(300)
  press('b')
  keyboard.stop()
  await pass(6_000)
  expect(world.lost).toHaveLength(2)
})
