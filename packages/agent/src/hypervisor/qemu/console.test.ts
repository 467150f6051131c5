// The serial port byte for byte and as lines, a question while it waits for its answer, and what goes with a machine that moves.

import { CONSOLE_RECENT_BYTES } from '@stellwerk/protocol/messages/cluster.ts'
import { expect, it } from 'vitest'
import type { PortState } from '../hypervisor.ts'
import { createPipe } from '../precopy/pipe.ts'
import { createVirtualEnvironment } from '../testing/virtual-environment.ts'
import { type ConsoleListener, SerialConsole } from './console.ts'

class Heard implements ConsoleListener {
  /** Questions end in an ellipsis. */
  readonly lines: string[] = []
  sent = ''
  stood = ''
  readonly places = new Map<string, number[]>()

  line(line: string): void {
    this.lines.push(line)
  }

  prompt(text: string): void {
    this.lines.push(`${text}…`)
  }

  output(bytes: Uint8Array, { life, at, recent }: PortState): void {
    if (bytes.length === 0) {
      this.stood = `${life} ${at} ${Buffer.from(recent).toString()}`
      return
    }
    this.places.set(life, [...(this.places.get(life) ?? []), at - bytes.length])
    this.sent += Buffer.from(bytes).toString()
  }
}

function opened() {
  const { env, until } = createVirtualEnvironment(1)
  const pass = (ms: number) => until(() => false, ms)
  let lives = 0
  const port = () => {
    const { reader, writer } = createPipe('console')
    const heard = new Heard()
    const says = (text: string) => {
      writer.write([Buffer.from(text)])
      return pass(1)
    }
    return { heard, writer, says, port: new SerialConsole(reader, env.timers, `life-${++lives}`, heard) }
  }
  return { port, pass }
}

it('tells lines whole, and the beginning of one once it has stood there for a while', async () => {
  const { port: open, pass } = opened()
  const { port, heard, writer, says } = open()
  await says('booted\r\ntux lo')
  await pass(50)
  await says('gin: ')
  await pass(300)
  await says('root\r\nack')
  await pass(50)
  await says(' 1\r\n')
  await pass(1_000)
  expect(heard.lines).toEqual(['booted', 'tux login: …', 'tux login: root', 'ack 1'])
  // What was begun when the port closed is no question any more.
  await says('half')
  writer.end()
  await port.ended
  await pass(1_000)
  expect(heard.lines).toHaveLength(4)
  expect(heard.sent).toBe('booted\r\ntux login: root\r\nack 1\r\nhalf')
})

it('held, it tells nothing; where the machine goes on each byte and each line is told once', async () => {
  const { port: open } = opened()
  const source = open()
  await source.says('one\ntw')
  source.port.hold()
  await source.says('o\nth')
  source.port.hold()
  expect([source.heard.sent, source.heard.lines]).toEqual(['one\ntw', ['one']])
  const handover = source.port.handover
  const texts = [Buffer.from(handover.recent).toString(), Buffer.from(handover.unheard).toString()]
  expect([handover.life, handover.at, ...texts, handover.shown]).toEqual(['life-1', 6, 'one\ntw', 'two\nth', 2])
  const arrived = open()
  arrived.port.precede(handover)
  expect(arrived.heard.stood).toBe('life-1 6 one\ntw')
  await arrived.says('ree\nfo')
  expect([arrived.heard.sent, arrived.heard.lines]).toEqual(['o\nthree\nfo', ['two', 'three']])
  expect(arrived.heard.places).toEqual(new Map([['life-1', [6, 10]]]))
  expect(arrived.port.handover).toMatchObject({ life: 'life-1', at: 16, unheard: Buffer.from('fo'), shown: 2 })
})

it('held in vain, it tells what it kept', async () => {
  const { port: open, pass } = opened()
  const { port, heard, says } = open()
  await says('one\ntw')
  port.hold()
  await says('o\nlogin: ')
  await pass(1_000)
  port.unhold()
  port.unhold()
  expect([heard.sent, heard.lines]).toEqual(['one\ntwo\nlogin: ', ['one', 'two']])
  await pass(300)
  expect(heard.lines.at(-1)).toBe('login: …')
})

it('keeps the end of what it has sent, and no more', async () => {
  const { port: open } = opened()
  const { port, says } = open()
  await says('x'.repeat(CONSOLE_RECENT_BYTES))
  await says('\nlogin: ')
  const { at, recent } = port.handover
  expect([at, Buffer.from(recent).toString()]).toEqual([
    CONSOLE_RECENT_BYTES + 8,
    `${'x'.repeat(CONSOLE_RECENT_BYTES - 8)}\nlogin: `,
  ])
})
