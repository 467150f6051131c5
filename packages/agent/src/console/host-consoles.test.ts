// Who hears what: the lines of all guests, or one guest's serial port.

import { CONSOLE_OUTPUT_BYTES, CONSOLE_RECENT_BYTES } from '@stellwerk/protocol/messages/cluster.ts'
import type { ActorContext } from '@stellwerk/runtime/actors/message.ts'
import { expect, it } from 'vitest'
import { HostConsoles } from './host-consoles.ts'

const SAID = { wallMs: 1, logical: 0 } as never

function bench() {
  const consoles = new HostConsoles('host-a')
  const told: { to: string; kind: string; body: { vm: string; bytes?: Uint8Array } }[] = []
  const context = { send: (to: string, kind: string, body: never) => told.push({ to, kind, body }) }
  const follow = (name: string, vm: string | null) =>
    Buffer.from(consoles.follow(name, vm, context as unknown as ActorContext)).toString()
  const says = (vm: string, text: string, epoch = 1) => {
    consoles.output(vm, epoch, Buffer.from(`${text}\n`))
    consoles.line(vm, epoch, text, SAID)
  }
  const heard = (name: string) => told.filter(({ to }) => to === name).map(({ kind, body }) => `${kind} ${body.vm}`)
  return { consoles, told, follow, says, heard }
}

it('tells a reader the lines of all, and a terminal the bytes of its own', () => {
  const { consoles, follow, says, heard } = bench()
  follow('reader', null)
  follow('terminal', 'web')
  says('web', 'boot')
  says('db', 'boot')
  consoles.prompt('web', 'login: ')
  expect(heard('reader')).toEqual(['console.line web', 'console.line db', 'console.prompt web'])
  expect(heard('terminal')).toEqual(['console.output web'])
})

it('has the end of what a port sent before for the terminal that comes, of this life and of what is here', () => {
  const { consoles, follow, says } = bench()
  says('web', 'x'.repeat(CONSOLE_RECENT_BYTES))
  says('web', 'login: ')
  says('db', 'other')
  expect(follow('one', 'web')).toBe(`${'x'.repeat(CONSOLE_RECENT_BYTES - 9)}\nlogin: \n`)
  says('web', 'boot', 2)
  expect(follow('two', 'web')).toBe('boot\n')
  consoles.left('web')
  expect(follow('three', 'web')).toBe('')
  expect(follow('four', null)).toBe('')
})

it('tells much in parts that a message holds', () => {
  const { consoles, told, follow } = bench()
  follow('terminal', 'web')
  consoles.output('web', 1, Buffer.alloc(2 * CONSOLE_OUTPUT_BYTES + 1, 'x'))
  expect(told.map(({ body }) => body.bytes?.length)).toEqual([CONSOLE_OUTPUT_BYTES, CONSOLE_OUTPUT_BYTES, 1])
})

it('goes on with a follower whose older session ends late', () => {
  const { consoles, follow, says, heard } = bench()
  const first = consoles.joined('reader')
  follow('reader', null)
  const second = consoles.joined('reader')
  follow('reader', null)
  first()
  says('web', 'one')
  expect(heard('reader')).toHaveLength(1)
  second()
  says('web', 'two')
  expect(heard('reader')).toHaveLength(1)
})
