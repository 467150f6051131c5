// The contract of a machine with a watchdog: idle until its guest arms it; a guest that arms it and hangs has crashed, wherever it is
// by then.

import { expect, test } from 'vitest'
import type { ContractBench, Watched } from './contract-bench.ts'

/** `on`: the bench of the test that runs. */
export function watchdogContract(on: () => ContractBench): void {
  const crash = ({ events }: Watched) => events.find(event => event.kind === 'crashed')
  const hang = async (watched: Watched): Promise<void> => {
    watched.machine.input('hang')
    await on().until('it hangs', () => watched.lines.includes('hangs'))
  }

  test('a guest that hangs with its watchdog armed crashes by it', async () => {
    const watched = await on().running()
    await hang(watched)
    await on().until('it crashed', () => crash(watched) !== undefined)
    expect(crash(watched)).toMatchObject({ reason: 'its watchdog was not fed' })
    expect(watched.machine.state).toBe('dead')
    const reported = watched.events.flatMap(each => (each.kind === 'notice' ? [each.event] : []))
    expect(reported).toContain('WATCHDOG')
    await on().settle(watched.machine.kill())
  })

  test('the watchdog stands still with its guest, and barks when that goes on hanging', async () => {
    const watched = await on().running()
    await hang(watched)
    await on().settle(watched.machine.freeze('test'))
    await on().pass(6_000)
    expect(crash(watched)).toBe(undefined)
    watched.machine.thaw()
    await on().until('it crashed', () => crash(watched) !== undefined)
  })

  test('an armed watchdog moves with its guest', async () => {
    const source = await on().running(5, 'heavy')
    const isPaused = () => source.events.some(each => each.kind === 'notice' && each.event === 'STOP')
    const target = await on().move(source, await on().receive('heavy'), async () => {
      if (isPaused()) return
      source.machine.input('hang')
      // A hypervisor that finds nothing left to copy switches by itself: the order is then read where the guest goes on.
      await on().until('it hangs, or is paused', () => source.lines.includes('hangs') || isPaused())
    })
    if (!source.lines.includes('hangs')) await hang(target)
    await on().until('it crashed', () => crash(target) !== undefined)
    expect(crash(target)).toMatchObject({ reason: 'its watchdog was not fed' })
    expect(crash(source)).toBe(undefined)
  })
}
