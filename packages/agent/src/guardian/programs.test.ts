// The guardian's keeping of programs: what it answers, whom it kills, and when nothing is left.

import type { Command, CommandExit, Environment } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { expect, test } from 'vitest'
import { createVirtualEnvironment } from '../hypervisor/testing/virtual-environment.ts'
import type { Kept, ToAgent } from './pipe.ts'
import { GuardedPrograms } from './programs.ts'

const EXIT: CommandExit = { code: null, signal: 'SIGKILL', output: '', errors: '' }

/** Programs whose end comes when the test says so. */
function bench() {
  const started: { name: string; killed: boolean; end: () => void }[] = []
  const { env } = createVirtualEnvironment(1)
  const command = ({ name, program }: { name: string; program: string }): Command => {
    if (program === 'none') throw new StellwerkError('no-program', 'there is none', { hint: 'install it' })
    let tell: (exit: CommandExit) => void = () => undefined
    const entry = { name, killed: false, end: () => tell(EXIT) }
    started.push(entry)
    return {
      pid: started.length,
      onExit: f => {
        tell = f
      },
      onOutput: () => undefined,
      kill: () => {
        entry.killed = true
      },
    }
  }
  const world = { ...env, processes: { ...env.processes, command } } as Environment
  const said: ToAgent[] = []
  const reaped: string[] = []
  const programs = new GuardedPrograms(world, {
    tell: answer => said.push(answer),
    ended: (vm, { instance }) => reaped.push(`${vm} ${instance}`),
  })
  const start = (id: number, vm: string | null, program = 'qemu', keep: Kept | null = null) =>
    programs.obey({ kind: 'program.start', id, vm, spec: { program, name: `${vm}`, args: [] }, keep })
  return { programs, reaped, said, start, started }
}

test('a start is answered, and its end told; a refusal says why', () => {
  const { said, start, started } = bench()
  start(1, 'a')
  start(2, 'b', 'none')
  started[0]?.end()
  expect(said).toEqual([
    { kind: 'program.started', id: 1 },
    {
      kind: 'program.refused',
      id: 2,
      error: { code: 'no-program', message: 'there is none', where: '', hint: 'install it' },
    },
    { kind: 'program.exited', id: 1, exit: EXIT },
  ])
})

test('FEN1: the agent is not called gone before everything it had started was reaped', () => {
  const { programs, start, started } = bench()
  start(1, 'a')
  start(2, 'b')
  let gone = 0
  programs.killAllBut(new Set(), () => gone++)
  expect(started.map(({ killed }) => killed)).toEqual([true, true])
  started[0]?.end()
  expect(gone).toBe(0)
  started[1]?.end()
  expect(gone).toBe(1)
  programs.killAllBut(new Set(), () => gone++)
  expect(gone).toBe(2)
})

test('a machine that is to be taken over stays when its agent is gone, and all else of that agent ends', () => {
  const { programs, reaped, start, started } = bench()
  start(1, 'a', 'qemu', { instance: 'i-a' })
  start(2, 'b', 'qemu', { instance: 'i-b' })
  start(3, null)
  start(4, 'c')
  let gone = 0
  // Nothing is known of c that another agent could take it over by.
  programs.killAllBut(new Set(['a', 'c']), () => gone++)
  expect(started.map(({ killed }) => killed)).toEqual([false, true, true, true])
  for (const each of started.slice(1)) each.end()
  expect([gone, reaped]).toEqual([1, ['b i-b']])
  expect(programs.kept('a')).toEqual({ program: 1, keep: { instance: 'i-a' } })
  expect([programs.kept('b'), programs.hasEnded('a'), programs.last]).toEqual([null, false, 4])
  started[0]?.end()
  expect([programs.hasEnded('a'), gone, reaped]).toEqual([true, 1, ['b i-b', 'a i-a']])
})

test('one VM is killed alone, and is known to have ended until its agent has noticed', () => {
  const { programs, start, started } = bench()
  start(1, 'a')
  start(2, 'b')
  expect([programs.runs('a'), programs.hasEnded('a'), programs.hasEnded('embedded')]).toEqual([true, false, false])
  programs.killOf('a')
  expect(started.map(({ killed }) => killed)).toEqual([true, false])
  started[0]?.end()
  programs.keepOnly(new Set(['a', 'b']))
  expect([programs.runs('a'), programs.hasEnded('a')]).toEqual([false, true])
  programs.keepOnly(new Set(['b']))
  expect(programs.hasEnded('a')).toBe(false)
})
