// A chaos target made of containers: killed, paused, unplugged, stopped, started; guests' ledgers read back; and single acts on the
// project of somebody else.

import { peer, peers } from '@stellwerk/runtime/testing/peers.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ComposeTarget } from '../../packages/cli/src/chaos/compose/compose-target.ts'
import type { Fault } from '../../packages/cli/src/chaos/fault.ts'
import { monitorsOn, rulesOn } from '../../packages/cli/src/chaos/judge/rules.ts'
import { Engine } from '../compose/engine.ts'
import { Stellwerk } from '../processes/stellwerk.ts'

const LONG = 1_200_000
const LIVELY_MS = 15_000
const { missing, note } = peers(
  ...[peer('dockerd', 'docker.io'), peer('docker-compose', 'docker-compose'), peer('debootstrap', 'debootstrap')],
)

const FAULTS: readonly (Omit<Fault, 'id' | 'atMs'> & { readonly restMs?: number })[] = [
  { kind: 'agent-kill', host: 'agent-1', lastsMs: 3_000 },
  { kind: 'host-kill', host: 'agent-2', lastsMs: 6_000 },
  { kind: 'host-pause', host: 'agent-3', lastsMs: 6_000 },
  { kind: 'cable-pull', host: 'agent-1', fabric: 0, lastsMs: 3_000 },
  { kind: 'host-isolate', host: 'agent-2', lastsMs: 6_000, restMs: 6_000 },
  { kind: 'storage-kill', storage: 'san-a', lastsMs: 4_000, restMs: 6_000 },
  { kind: 'coordinator-kill', lastsMs: 2_000 },
  { kind: 'fabric-down', fabric: 1, lastsMs: 3_000, restMs: 5_000 },
]

describe.skipIf(missing || process.getuid?.() !== 0)(`chaos on containers (${note})`, () => {
  const engine = new Engine('unused')
  const before = { ...process.env }
  beforeAll(async () => {
    await engine.start()
    Object.assign(process.env, { DOCKER_HOST: engine.environment['DOCKER_HOST'] })
  }, LONG)
  afterAll(async () => {
    process.env = before
    await engine.stop()
  }, LONG)

  test('nothing is lost, no rule is broken, and single acts from outside are healed too', {
    timeout: LONG,
  }, async () => {
    // What a failure has left is worth a look.
    let held = false
    const target = await ComposeTarget.open({ keep: () => !held })
    const stellwerk = new Stellwerk('chaos-compose')
    stellwerk.environment['DOCKER_HOST'] = engine.environment['DOCKER_HOST'] ?? ''
    const act = async (...words: string[]) => {
      const { code, lines } = await stellwerk.run('chaos', ...words, '--compose', target.project)
      return [code, lines.join('\n')]
    }
    try {
      const { hosts } = await target.setUp({
        seed: '1',
        cluster: { hosts: ['a', 'b', 'c'], storages: ['san-a', 'san-b'] },
        workload: { vms: 3, memoryBytes: 16 * MIB, dirtyBytesPerSecond: MIB / 2, writesPerSecond: 10 },
      })
      expect(hosts).toEqual(['agent-1', 'agent-2', 'agent-3'])
      for (const [i, { restMs = 3_000, ...drawn }] of FAULTS.entries()) {
        const fault = { ...drawn, id: i + 1, atMs: target.now() }
        expect(target.refuses(fault)).toBeNull()
        await target.inject(fault)
        await target.until(target.now() + fault.lastsMs, () => false)
        await target.heal(fault)
        await target.until(target.now() + restMs, () => false)
      }
      expect(await act('cut', 'cable', 'agent-3', '1')).toEqual([0, expect.stringMatching(/cable-pull of agent-3/)])
      expect(await act('pause', 'storage', 'san-b')).toEqual([0, expect.stringMatching(/storage-pause/)])
      expect(await act('cut', 'link', 'agent-1', 'san-a')).toEqual([
        1,
        expect.stringMatching(/can't be done to containers/),
      ])
      expect((await act('heal'))[1]).toMatch(/healed: cable-pull of agent-3.*\n.*healed: storage-pause/)
      expect((await act('status'))[1]).toBe('nothing is broken')
      await target.until(target.now() + 5_000, () => false)
      await target.healAll(LIVELY_MS)
      await target.until(target.now() + 1.1 * LIVELY_MS, () => false)
      expect(await target.finish()).toEqual([])
      const monitors = monitorsOn('compose', rulesOn('compose'), undefined)
      let begun = 0
      for await (const { record } of target.records()) {
        monitors.observe(record)
        if (record.kind === 'fault.begun') begun++
      }
      expect(monitors.finish()).toEqual([])
      expect(begun).toBe(FAULTS.length)
      expect(monitors.judged.get('VM2')).toBeGreaterThan(100)
      held = true
    } finally {
      await target.close()
      await stellwerk.remove()
    }
  })
})
