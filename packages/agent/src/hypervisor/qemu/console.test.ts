// The serial port as lines, and a question while it waits for its answer.

import { expect, it } from 'vitest'
import { createPipe } from '../precopy/pipe.ts'
import { createVirtualEnvironment } from '../testing/virtual-environment.ts'
import { SerialConsole } from './console.ts'

it('tells lines whole, and the beginning of one once it has stood there for a while', async () => {
  const { env, until } = createVirtualEnvironment(1)
  const { reader, writer } = createPipe('console')
  const heard: string[] = []
  const port = new SerialConsole(
    reader,
    env.timers,
    line => heard.push(line),
    text => heard.push(`${text}…`),
  )
  const says = async (text: string, passMs = 0) => {
    writer.write([Buffer.from(text)])
    await until(() => false, passMs)
  }
  await says('booted\r\ntux lo', 50)
  await says('gin: ', 300)
  await says('root\r\nack', 50)
  await says(' 1\r\n', 1_000)
  expect(heard).toEqual(['booted', 'tux login: …', 'tux login: root', 'ack 1'])
  // What was begun when the port closed is no question any more.
  await says('half')
  writer.end()
  await port.ended
  await until(() => false, 1_000)
  expect(heard).toHaveLength(4)
})
