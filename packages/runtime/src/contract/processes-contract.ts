// What every Processes must do. The implementation must know the program `contract-child` (child-program.ts).

import { describe, expect, test } from 'vitest'
import type { Child, Json } from '../environment.ts'
import type { Order } from './child-program.ts'
import { CONTRACT_TIMEOUT_MS, codeOf, type RunInWorld, sleep, until, type World } from './world.ts'

async function spawned({ left }: World, name = 'child') {
  const child = left.processes.spawn({ program: 'contract-child', name, config: { greeting: `I am ${name}` } })
  const heard: Json[] = []
  const exits: unknown[] = []
  child.onMessage(message => heard.push(message))
  child.onExit(exit => exits.push(exit))
  await until(left, 'the greeting', () => heard.length === 1)
  expect(heard.shift()).toEqual({ greeting: `I am ${name}`, name })
  return { child, heard, exits }
}

const tell = (child: Child, order: Order) => child.send(order as unknown as Json)

export function processesContract(name: string, run: RunInWorld): void {
  describe(`processes of ${name}`, () => {
    test('a child knows its name and config, and messages pass in order, both ways', () =>
      run(async world => {
        const { child, heard } = await spawned(world)
        const values: Json[] = [1, 'zwei', null, { drei: [3, 'ü'] }, 'x'.repeat(100_000)]
        for (const value of values) tell(child, { do: 'echo', value })
        await until(world.left, 'all echoes', () => heard.length === values.length)
        expect(heard).toEqual(values)
        child.kill()
      }))

    test('an exit is told once, with its code, after everything the child had said', () =>
      run(async world => {
        const { child, heard, exits } = await spawned(world)
        tell(child, { do: 'exit', code: 7, words: ['so', 'long'] })
        await until(world.left, 'the exit', () => {
          if (exits.length > 0) expect(heard).toEqual(['so', 'long'])
          return exits.length > 0
        })
        await sleep(world.left, 20)
        expect(exits).toEqual([{ code: 7, signal: null }])
      }))

    test('a killed child exits by SIGKILL; sending to it and killing it again are of no effect', () =>
      run(async world => {
        const { child, exits } = await spawned(world)
        child.kill()
        await until(world.left, 'the exit', () => exits.length > 0)
        child.kill()
        tell(child, { do: 'echo', value: 1 })
        expect(exits).toEqual([{ code: null, signal: 'SIGKILL' }])
      }))

    test('children live side by side, each with a pid of its own', () =>
      run(async world => {
        const [one, two] = [await spawned(world, 'one'), await spawned(world, 'two')]
        expect(one.child.pid).not.toBe(two.child.pid)
        one.child.kill()
        await until(world.left, 'the exit', () => one.exits.length > 0)
        tell(two.child, { do: 'echo', value: 'still here' })
        await until(world.left, 'the echo', () => two.heard.length > 0)
        two.child.kill()
      }))

    test('when a process is killed its children end too', () =>
      run(async world => {
        const { child, heard } = await spawned(world)
        const free = await world.left.network.listen(world.address('local'), () => undefined)
        await free.close()
        tell(child, { do: 'spawn', address: free.address })
        await until(world.left, 'the grandchild', () => heard.length > 0)
        const dial = () => world.left.network.dial(free.address, 'control').then(link => link.close('closed'))
        expect(await codeOf(dial())).toBe('none')
        child.kill()
        // Caught in the middle of its end it may still answer, or break off; at last nobody listens.
        const end = world.left.clock.now() + CONTRACT_TIMEOUT_MS
        while ((await codeOf(dial())) !== 'refused') {
          expect(world.left.clock.now()).toBeLessThan(end)
          await sleep(world.left, 10)
        }
      }))

    test('a process without a dead predecessor finds no leftovers, and not its own children', () =>
      run(async world => {
        const { child, heard } = await spawned(world)
        expect(await world.left.processes.killLeftovers()).toEqual([])
        tell(child, { do: 'echo', value: 1 })
        await until(world.left, 'the echo', () => heard.length > 0)
        child.kill()
      }))
  })
}
