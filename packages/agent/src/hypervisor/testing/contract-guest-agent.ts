// The contract of a machine in whose guest an agent answers, or something that does not: what it tells is told on, it is asked to shut
// down and to hold its file systems still, and nothing that it does or leaves undone harms the machine.

import type { GuestFacts } from '@stellwerk/protocol/messages/guest-agent.ts'
import { expect, test } from 'vitest'
import type { MachineSpec } from '../hypervisor.ts'
import { type ContractBench, consecutive, type Watched } from './contract-bench.ts'

/** `on`: the bench of the test that runs; `spec`: of a guest with an agent of that kind. */
export function guestAgentContract(on: () => ContractBench, spec: (vm: string, agent: string) => MachineSpec): void {
  const halted = ({ events }: Watched) => events.some(event => event.kind === 'halted')
  const told = ({ events }: Watched) => events.flatMap(event => (event.kind === 'guest' ? [event.facts] : []))
  const facts = (watched: Watched): GuestFacts | null => told(watched).at(-1) ?? null

  async function running(agent: string): Promise<Watched> {
    const { hypervisor, disk } = on()
    const watched = on().watch(await on().settle(hypervisor.create(spec('vm-1', agent), [disk], [])))
    watched.machine.start()
    await on().until('five entries are acknowledged', () => watched.acks.length >= 5)
    return watched
  }

  async function answering(agent = 'there'): Promise<Watched> {
    const watched = await running(agent)
    await on().until('its agent answers', () => facts(watched) !== null)
    return watched
  }

  async function frozen(watched: Watched, holdMs: number): Promise<void> {
    const state = () => watched.machine.files?.freeze({ freeze: 'f-1', holdMs }).state
    await on().until('its files are frozen', () => state() !== 'freezing')
    expect(state()).toBe('frozen')
  }

  const thaw = ({ machine }: Watched) => on().settle(Promise.resolve(machine.files?.thaw('f-1')))

  const goesOn = async ({ acks }: Watched): Promise<void> => {
    const said = acks.length
    await on().until('it goes on', () => acks.length >= said + 5)
    expect(consecutive(acks)).toBe(true)
  }

  test('what the agent says of its guest is told, without what a terminal would obey', async () => {
    const watched = await answering()
    expect(facts(watched)).toEqual({ version: '7.2.0', hostName: 'vm-1', os: 'Model [31mguest 1', interfaces: [] })
    await on().pass(70_000)
    // Nothing new, nothing told.
    expect(told(watched)).toHaveLength(1)
  })

  test('a guest that hears no power button shuts down by its agent', async () => {
    const watched = await answering('only')
    expect(watched.machine.shutdown()).toBe(true)
    await on().until('it halted', () => halted(watched))
    expect(watched.lines.at(-1)).toBe(`down after ${watched.acks.at(-1)}`)
  })

  test('asked before its agent is there, it shuts down once that is', async () => {
    const { hypervisor, disk } = on()
    const watched = on().watch(await on().settle(hypervisor.create(spec('vm-1', 'only'), [disk], [])))
    watched.machine.shutdown()
    watched.machine.start()
    await on().until('it halted', () => halted(watched))
  })

  test('while its files are frozen nothing is written, and all that was acknowledged is on the disk', async () => {
    const watched = await answering()
    await frozen(watched, 5_000)
    const writes = on().disk.taken.write
    const acknowledged = watched.acks.at(-1) ?? 0
    await on().pass(1_000)
    expect(on().disk.taken.write).toBe(writes)
    expect(on().entriesOnDisk()).toBeGreaterThanOrEqual(acknowledged)
    expect(await thaw(watched)).toBe(true)
    await goesOn(watched)
  })

  test('files that are held too long are let go, and whoever held them hears of it', async () => {
    const watched = await answering()
    await frozen(watched, 500)
    await goesOn(watched)
    expect(await thaw(watched)).toBe(false)
    expect(watched.machine.files?.freeze({ freeze: 'f-1', holdMs: 500 })).toMatchObject({ state: 'failed' })
    expect(watched.machine.files?.freeze({ freeze: 'f-2', holdMs: 500 }).state).toBe('freezing')
    await on().pass(2_000)
    await goesOn(watched)
  })

  test('a freeze that nobody waits for any more is let go as soon as it stands', async () => {
    const watched = await answering()
    on().disk.hold()
    await on().until('a request is in flight', () => on().disk.inFlight > 0)
    expect(watched.machine.files?.freeze({ freeze: 'f-1', holdMs: 5_000 }).state).toBe('freezing')
    await on().pass(500)
    expect(await thaw(watched)).toBe(false)
    on().disk.go()
    await goesOn(watched)
  })

  test('without an agent, or without a file system, nothing is frozen', async () => {
    const bare = await answering('unfrozen')
    expect(bare.machine.files?.freeze({ freeze: 'f-1', holdMs: 500 }).state).toBe('freezing')
    await on().pass(500)
    expect(bare.machine.files?.freeze({ freeze: 'f-1', holdMs: 500 })).toMatchObject({ state: 'failed' })
    await goesOn(bare)
    await on().settle(bare.machine.kill())
    const none = await running('none')
    expect(none.machine.files?.freeze({ freeze: 'f-1', holdMs: 500 })).toMatchObject({ state: 'failed' })
    expect(await thaw(none)).toBe(false)
    expect(told(none)).toEqual([])
    none.machine.shutdown()
    await on().until('it halted', () => halted(none))
  })

  test('FEN2: of a guest that stands still nothing is asked, and its agent is there again when it goes on', async () => {
    const watched = await answering()
    await on().settle(watched.machine.freeze('test'))
    expect(watched.machine.files?.freeze({ freeze: 'f-1', holdMs: 500 })).toMatchObject({ state: 'failed' })
    await on().pass(60_000)
    watched.machine.thaw()
    await on().pass(60_000)
    expect(told(watched)).toHaveLength(1)
    await goesOn(watched)
  })

  test.each(['silent', 'wrong-ids', 'endless', 'deep'])(
    'an agent that is %s harms nothing: its guest runs, and shuts down by its button',
    async kind => {
      const watched = await running(kind)
      await on().pass(90_000)
      expect(told(watched)).toEqual([])
      await goesOn(watched)
      expect(watched.machine.files?.freeze({ freeze: 'f-1', holdMs: 500 })).toMatchObject({ state: 'failed' })
      watched.machine.shutdown()
      await on().until('it halted', () => halted(watched))
    },
  )

  test('what an earlier connection had asked for, and what nobody can read, is skipped', async () => {
    expect(facts(await answering('rough'))).toMatchObject({ hostName: 'vm-1' })
  })

  test('moved with frozen files, the guest is let go where it arrives, and its agent found there', async () => {
    const { hypervisor, disk } = on()
    const source = await answering()
    await frozen(source, 10_000)
    const incoming = await on().settle(hypervisor.receive(spec('vm-1', 'there'), [disk], []))
    const target = await on().move(source, incoming)
    await on().until('its agent answers', () => facts(target) !== null)
    await goesOn(target)
    expect(await thaw(source)).toBe(false)
    expect(await thaw(target)).toBe(false)
  })
}
