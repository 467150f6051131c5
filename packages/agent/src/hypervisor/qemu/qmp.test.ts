// QEMU's monitor protocol, against a scripted QEMU at the other end of a stream.

import type { ByteStream } from '@stellwerk/runtime/environment.ts'
import { expect, test } from 'vitest'
import { Qmp, type QmpEvent } from './qmp.ts'

/** The other end: what was written there, and a way to say something. */
function scripted() {
  const written: { execute: string; arguments: object; id: number }[] = []
  let onData: (chunk: Uint8Array) => void = () => undefined
  let onEnd: () => void = () => undefined
  let answer: (command: string, id: number) => void = (_, id) => say({ return: {}, id })
  const say = (message: object): void => onData(Buffer.from(`${JSON.stringify(message)}\r\n`))
  const stream: ByteStream = {
    peer: 'qemu',
    bufferedBytes: 0,
    write(parts) {
      const command = JSON.parse(Buffer.concat(parts).toString()) as (typeof written)[number]
      written.push(command)
      queueMicrotask(() => answer(command.execute, command.id))
      return true
    },
    onDrain: () => undefined,
    onData: f => {
      onData = f
    },
    pause: () => undefined,
    resume: () => undefined,
    onEnd: f => {
      onEnd = f
    },
    onClose: () => undefined,
    end: () => undefined,
    destroy: () => undefined,
  }
  return {
    stream,
    written,
    say,
    raw: (text: string) => onData(Buffer.from(text)),
    end: () => onEnd(),
    answerBy: (f: typeof answer) => {
      answer = f
    },
  }
}

async function opened() {
  const qemu = scripted()
  const opening = Qmp.open(qemu.stream, 'vm a')
  qemu.say({ QMP: { version: {} } })
  return { qemu, qmp: await opening }
}

test('negotiates, and answers are matched by their ids whatever their order', async () => {
  const { qemu, qmp } = await opened()
  expect(qemu.written[0]?.execute).toBe('qmp_capabilities')
  const held: number[] = []
  qemu.answerBy((_, id) => held.push(id))
  const [one, two] = [qmp.execute('a'), qmp.execute('b', { x: 1 })]
  await Promise.resolve()
  await Promise.resolve()
  qemu.say({ return: 'second', id: held[1] })
  qemu.say({ return: 'first', id: held[0] })
  expect(await Promise.all([one, two])).toEqual(['first', 'second'])
})

test('a refusal names the command and QEMU’s reason', async () => {
  const { qemu, qmp } = await opened()
  qemu.answerBy((_, id) => qemu.say({ error: { class: 'GenericError', desc: 'no such device' }, id }))
  await expect(qmp.execute('device_del')).rejects.toMatchObject({
    code: 'qmp-refused',
    message: 'device_del: no such device',
  })
})

test('events come in order, also in pieces of a line', async () => {
  const { qemu, qmp } = await opened()
  const events: QmpEvent[] = []
  qmp.onEvent(event => events.push(event))
  qemu.raw('{"event":"ST')
  qemu.raw('OP","timestamp":{}}\n{"event":"MIGRATION","data":{"status":"active"}}\n')
  expect(events).toEqual([
    { event: 'STOP', data: {} },
    { event: 'MIGRATION', data: { status: 'active' } },
  ])
})

test('when QEMU goes away, or talks nonsense, everything that waits fails, and everything asked later', async () => {
  for (const end of [
    (qemu: ReturnType<typeof scripted>) => qemu.end(),
    (qemu: ReturnType<typeof scripted>) => qemu.raw('?\n'),
  ]) {
    const { qemu, qmp } = await opened()
    qemu.answerBy(() => undefined)
    const waiting = qmp.execute('stop')
    end(qemu)
    await expect(waiting).rejects.toMatchObject({ code: 'qmp-closed' })
    await expect(qmp.execute('cont')).rejects.toMatchObject({ code: 'qmp-closed' })
  }
})

test('a line without an end is not kept for ever', async () => {
  const { qemu, qmp } = await opened()
  qemu.answerBy(() => undefined)
  const waiting = qmp.execute('stop')
  for (let i = 0; i < 20; i++) qemu.raw('x'.repeat(100_000))
  await expect(waiting).rejects.toMatchObject({ code: 'qmp-closed' })
})

test('events that came before anybody listened are told to the first who does', async () => {
  const { qemu, qmp } = await opened()
  qemu.say({ event: 'NETDEV_STREAM_CONNECTED', data: { 'netdev-id': 'nic0' } })
  const events: QmpEvent[] = []
  qmp.onEvent(event => events.push(event))
  qemu.say({ event: 'RESUME' })
  expect(events.map(({ event }) => event)).toEqual(['NETDEV_STREAM_CONNECTED', 'RESUME'])
})
