// Who hears what: the lines of all guests, or one guest's serial port.

import type { ActorContext } from '@stellwerk/runtime/actors/message.ts'
import { expect, it } from 'vitest'
import type { PortState } from '../hypervisor/hypervisor.ts'
import { HostConsoles } from './host-consoles.ts'

const SAID = { wallMs: 1, counter: 0 }

function bench() {
  const heard: string[] = []
  const consoles = new HostConsoles('host-a', async (name, { vm, at, bytes }) => {
    heard.push(`${name}: ${vm} ${at} ${Buffer.from(bytes).toString().trim()}`)
  })
  const context = { send: (to: string, kind: string, body: { vm: string }) => heard.push(`${to}: ${kind} ${body.vm}`) }
  const follow = (name: string, vm: string | null) => consoles.follow(name, vm, context as unknown as ActorContext)
  const ports = new Map<string, PortState>()
  const says = (vm: string, text: string, life = `${vm}-1`) => {
    const bytes = Buffer.from(`${text}\n`)
    const before = ports.get(life) ?? { life, at: 0, recent: Buffer.alloc(0) }
    const port = { life, at: before.at + bytes.length, recent: Buffer.concat([before.recent, bytes]) }
    ports.set(life, port)
    consoles.output(vm, bytes, port)
    consoles.line(vm, 1, text, SAID)
  }
  const told = (name: string) =>
    heard.filter(each => each.startsWith(`${name}: `)).map(each => each.slice(name.length + 2))
  return { consoles, follow, says, told }
}

const text = (bytes: Uint8Array | undefined) => Buffer.from(bytes ?? []).toString()

it('tells a reader the lines of all, and a terminal the bytes of its own', async () => {
  const { consoles, follow, says, told } = bench()
  follow('reader', null)
  follow('terminal', 'web')
  says('web', 'boot')
  says('db', 'boot')
  consoles.prompt('web', 'login: ')
  expect(told('reader')).toEqual(['console.line web', 'console.line db', 'console.prompt web'])
  expect(told('terminal')).toEqual(['web 0 boot'])
})

it('has what a port sent before for the terminal that comes, of this life and of what is here', () => {
  const { consoles, follow, says, told } = bench()
  says('web', 'login: ')
  says('db', 'other')
  const first = follow('one', 'web')
  expect([first?.life, first?.at, text(first?.recent)]).toEqual(['web-1', 8, 'login: \n'])
  says('web', 'boot', 'web-2')
  expect(text(follow('two', 'web')?.recent)).toBe('boot\n')
  follow('three', 'db')
  consoles.output('db', new Uint8Array(0), { life: 'db-1', at: 100, recent: Buffer.from('stood elsewhere') })
  expect(told('three')).toEqual([])
  expect(follow('three', 'db')).toMatchObject({ life: 'db-1', at: 100 })
  consoles.left('web')
  expect([follow('four', 'web'), follow('five', null)]).toEqual([null, null])
})

it('goes on with a follower whose older session ends late', () => {
  const { consoles, follow, says, told } = bench()
  const first = consoles.joined('reader')
  follow('reader', null)
  const second = consoles.joined('reader')
  follow('reader', null)
  first()
  says('web', 'one')
  expect(told('reader')).toHaveLength(1)
  second()
  says('web', 'two')
  expect(told('reader')).toHaveLength(1)
})
