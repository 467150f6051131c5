// Programs of a simulated machine, as those of a real one (node/command.test.ts): what they print, how they end, that they end with
// who started them, and that their files are those of their working directory.

import { expect, test } from 'vitest'
import type { Command, CommandExit, Environment } from '../environment.ts'
import { Simulation } from './simulation.ts'

interface Started {
  readonly command: Command
  readonly exits: CommandExit[]
  readonly said: string[]
}

async function simulated() {
  const sim = new Simulation({ seed: 'command' })
  let env: Environment | null = null
  sim.program('keeper', own => {
    env = own
  })
  const keeper = sim.host('host-a').spawn('keeper', 'keeper')
  await sim.runUntil(() => env !== null, 100)
  const start = (args: readonly string[], directory?: string): Started => {
    const spec = { program: 'tool', name: 'tool', args, ...(directory === undefined ? {} : { directory }) }
    const command = env!.processes.command(spec)
    const started: Started = { command, exits: [], said: [] }
    command.onExit(exit => started.exits.push(exit))
    command.onOutput(text => started.said.push(text))
    return started
  }
  return { sim, keeper, env: env as unknown as Environment, start }
}

test('a program that is not installed is refused', async () => {
  const { start } = await simulated()
  expect(() => start([])).toThrow(expect.objectContaining({ code: 'no-program' }))
})

test('it prints, and ends with a status; that is told once, with all that it has printed', async () => {
  const { sim, start } = await simulated()
  sim.command('tool', (env, { args }, output) => {
    output.print(`${args.join(' ')}\n`)
    output.printError('oh\n')
    env.processes.exit(3)
  })
  const { exits, said } = start(['one', 'two'])
  await sim.runFor(10)
  expect(exits).toEqual([{ code: 3, signal: null, output: 'one two\n', errors: 'oh\n' }])
  expect(said).toEqual(['one two\n'])
})

test('it is killed, also while it stands still; and by the end of who started it', async () => {
  const { sim, keeper, start } = await simulated()
  sim.command('tool', () => undefined)
  const one = start([])
  const other = start([])
  await sim.runFor(10)
  sim.process('tool')?.pause()
  one.command.kill()
  await sim.runFor(10)
  expect(one.exits).toEqual([{ code: null, signal: 'SIGKILL', output: '', errors: '' }])
  expect(sim.process('tool')).toMatchObject({ alive: true, paused: true, pid: other.command.pid })
  keeper.kill()
  await sim.runFor(10)
  expect(sim.process('tool')?.alive).toBe(false)
})

test('its files are those of its working directory, which is another’s', async () => {
  const { sim, env, start } = await simulated()
  const read: (string | null)[] = []
  sim.command('tool', async own => {
    const bytes = await own.files.read('order')
    read.push(bytes === null ? null : Buffer.from(bytes).toString())
    await own.files.writeAtomic('answer', Buffer.from(own.files.locate('answer')))
  })
  let answer: Uint8Array | null = null
  const work = async (): Promise<void> => {
    await env.files.makeDirectory('jobs/1')
    await env.files.writeAtomic('jobs/1/order', Buffer.from('go'))
    start([], env.files.locate('jobs/1'))
  }
  void work()
  await sim.runFor(50)
  void env.files.read('jobs/1/answer').then(bytes => {
    answer = bytes
  })
  await sim.runFor(50)
  expect(read).toEqual(['go'])
  expect(Buffer.from(answer ?? []).toString()).toBe('/keeper/jobs/1/answer')
})
