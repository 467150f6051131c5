// Programs of the machine: what they say, how they end, and that they end with whoever started them.

import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { COMMAND_OUTPUT_MAX, type CommandExit, type Logger } from '../environment.ts'
import { findProgram, startCommand } from './command.ts'
import { identifyProcess } from './pid-record.ts'

const unheard = (): void => undefined
const log = { debug: unheard, info: unheard, warn: unheard, error: unheard } as unknown as Logger

function run(program: string, ...args: string[]): Promise<CommandExit> {
  return new Promise(resolve => startCommand({ program, name: 'test', args }, log).onExit(resolve))
}

test('its exit is told with what it said, of much the last', async () => {
  expect(await run('sh', '-c', 'echo out; echo err >&2; exit 3')).toEqual({
    code: 3,
    signal: null,
    output: 'out\n',
    errors: 'err\n',
  })
  const { output } = await run('sh', '-c', 'head -c 1000000 /dev/zero | tr "\\0" x; echo end')
  expect(output).toHaveLength(COMMAND_OUTPUT_MAX)
  expect(output.endsWith('xend\n')).toBe(true)
})

test('it is killed by SIGKILL, and its exit is told to who asks late', async () => {
  const command = startCommand({ program: 'sleep', name: 'test', args: ['600'] }, log)
  command.kill()
  while (identifyProcess(command.pid) !== null) await sleep(5)
  await sleep(20)
  expect(await new Promise(resolve => command.onExit(resolve))).toMatchObject({ code: null, signal: 'SIGKILL' })
})

test('a program that is not there is named', () => {
  expect(() => findProgram('no-such-program', 'vm a')).toThrow(
    expect.objectContaining({ code: 'no-program', message: expect.stringContaining("'no-such-program'") }),
  )
  expect(() => findProgram('/etc/passwd', 'vm a')).toThrow(expect.objectContaining({ code: 'no-program' }))
})

test('it dies with a parent that is killed', async () => {
  const child = new URL('./command.ts', import.meta.url).href
  const script = `
    const { startCommand } = await import(${JSON.stringify(child)})
    console.log(startCommand({ program: 'sleep', name: 'test', args: ['600'] }, console).pid)
    setInterval(() => undefined, 1000)`
  const node = fileURLToPath(new URL('../../../../node_modules/.bin/node', import.meta.url))
  const parent = spawn(node, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  const pid = await new Promise<number>(resolve => parent.stdout.once('data', (line: Buffer) => resolve(Number(line))))
  // Before setpriv has become the program it is not tied yet.
  while (readFileSync(`/proc/${pid}/comm`, 'latin1').trim() !== 'sleep') await sleep(5)
  expect(identifyProcess(pid)).not.toBe(null)
  parent.kill('SIGKILL')
  for (let waited = 0; identifyProcess(pid) !== null; waited += 10) {
    expect(waited).toBeLessThan(10_000)
    await sleep(10)
  }
})
