// What only a scrub finds: a leg whose medium has changed bytes by itself, and one that cannot read a sector any more. Both
// under a cluster with guests at work; no guest may see any of it.

import type { ScrubReport } from '@stellwerk/protocol/messages/volume-scrub.ts'
import { canaries } from '@stellwerk/runtime/canary.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { afterEach, describe, expect, test } from 'vitest'
import { latentSectorError, silentCorruption } from '../../packages/cli/src/simulation/media-faults.ts'
import { TIMEOUT } from './support.ts'
import { Cluster, HOSTS, LAYOUT } from './volume-cluster.ts'

afterEach(() => canaries.clear())

describe('a scrub under guests at work', () => {
  test('finds nothing where nothing is wrong, and takes no guest’s place', TIMEOUT, async () => {
    const cluster = await new Cluster('scrub-clean').start()
    const before = cluster.placements()
    const report = await cluster.scrub()
    expect(report).toMatchObject({ findings: [], skipped: 0, doneBytes: report.totalBytes })
    expect(report.totalBytes).toBeGreaterThan(0)
    expect(cluster.placements()).toBe(before)
    expect(cluster.view).toMatchObject({ generation: 1, scrub: { state: 'done', unresolved: 0 }, warning: null })
  })

  test(
    'finds bytes that a leg has changed by itself, copies nothing, and says so wherever one looks',
    TIMEOUT,
    async () => {
      const cluster = await new Cluster('scrub-silent').start()
      const address = cluster.quiet('vm-1-0')
      silentCorruption(cluster.world, cluster.place('san-b', address))
      const report = await cluster.scrub()
      expect(report.findings).toMatchObject([
        {
          kind: 'differs',
          disk: 'vm-1-0',
          offset: 3 * MIB,
          address,
          length: 4096,
          legs: ['leg-0', 'leg-1'],
          repaired: null,
        },
      ])
      expect([cluster.byte('san-a', address), cluster.byte('san-b', address)]).toEqual([0, 0xff])
      expect(cluster.view).toMatchObject({ generation: 1, scrub: { unresolved: 1 } })
      expect(cluster.view.warning).toContain('one place undecided')
      const kinds = cluster.records.map(({ kind }) => kind).filter(kind => /scrub/.test(kind))
      expect(new Set(kinds)).toEqual(new Set(['scrub.began', 'scrub.found', 'scrub.ended', 'decision.scrub']))

      // The operator has looked, and says which leg is right.
      const again = await cluster.scrub('leg-0')
      expect(again.findings).toMatchObject([{ repaired: { leg: 'leg-1', from: 'leg-0', by: 'operator' } }])
      expect(cluster.byte('san-b', address)).toBe(0)
      expect(cluster.view).toMatchObject({ scrub: { unresolved: 0, repaired: 1 }, warning: null })
    },
  )

  test('is seen to spread bad bytes to the leg that guests read, where that bug is planted', TIMEOUT, async () => {
    canaries.add('scrub-from-bad-copy')
    const cluster = await new Cluster('scrub-silent').start()
    const address = cluster.quiet('vm-1-0')
    silentCorruption(cluster.world, cluster.place('san-b', address))
    await cluster.scrub()
    expect(cluster.byte('san-a', address)).toBe(0xff)
  })

  test('writes anew from the other leg a sector that a leg cannot read, and costs no leg', TIMEOUT, async () => {
    const cluster = await new Cluster('scrub-latent').start()
    const [data, metadata] = [cluster.quiet('vm-2-0'), LAYOUT.checkpointOffset]
    const faults = [
      latentSectorError(cluster.world, cluster.place('san-b', data)),
      latentSectorError(cluster.world, cluster.place('san-b', metadata)),
    ]
    const report = await cluster.scrub()
    expect(report.findings).toMatchObject([
      { kind: 'unreadable', where: 'checkpoint 0', repaired: { leg: 'leg-1', from: 'leg-0', by: 'unreadable' } },
      { kind: 'unreadable', disk: 'vm-2-0', offset: 3 * MIB, repaired: { leg: 'leg-1', from: 'leg-0' } },
    ])
    // What a monitor must know of a host's write that no guest of its asked for.
    const copies = cluster.records.filter(({ kind }) => kind === 'mirror.copy').map(({ body }) => body)
    expect(copies).toEqual([{ offset: data, length: 4096 }])
    for (const fault of faults) expect(fault.hits).toBeGreaterThan(0)
    expect(await cluster.scrub()).toMatchObject({ findings: [] })
    expect(cluster.view).toMatchObject({ generation: 1, legs: [{ role: 'in-sync' }, { role: 'in-sync' }] })
  })

  test('repairs metadata by its checksums, whichever leg is bad', TIMEOUT, async () => {
    const cluster = await new Cluster('scrub-metadata').start()
    silentCorruption(cluster.world, cluster.place('san-a', LAYOUT.journalOffset))
    silentCorruption(cluster.world, cluster.place('san-b', LAYOUT.checkpointOffset))
    const report = await cluster.scrub()
    expect(report.findings.map(({ where, repaired }) => [where, repaired?.leg, repaired?.by])).toEqual([
      ['checkpoint 0', 'leg-1', 'checksum'],
      ['journal', 'leg-0', 'checksum'],
    ])
    const check = (await cluster.ask('volume.check', {})).reply as { clean: boolean; findings: unknown[] }
    expect(check).toMatchObject({ clean: true, findings: [] })
  })

  test('is refused while one runs, ends early when a leg goes, and is refused until it is back', TIMEOUT, async () => {
    const cluster = await new Cluster('scrub-lost').start()
    expect((await cluster.ask('volume.scrub', { goodLeg: null })).ok).toBe(true)
    expect((await cluster.ask('volume.scrub', { goodLeg: null })).ok).toBe(false)
    cluster.world.sim.host('san-b').crash()
    await cluster.until(() => cluster.state.volumes.get('csv1')?.legs[1]?.role === 'stale')
    expect(await cluster.command()).toBe('leg-not-in-sync')
    await cluster.until(() => cluster.view.scrub?.state === 'failed' || cluster.view.scrub?.state === 'done')
    cluster.world.startStorage('san-b')
    await cluster.until(() => cluster.state.volumes.get('csv1')?.legs[1]?.role === 'in-sync', 120_000)
    await cluster.world.sim.runFor(5_000)
    expect(await cluster.scrub()).toMatchObject({ findings: [] })
  })

  test('goes on through a migration and the loss of a host, and finds nothing that is not there', TIMEOUT, async () => {
    const cluster = await new Cluster('scrub-moves').start()
    const owner = cluster.state.volumes.get('csv1')!.owner!.host
    const lost = HOSTS.find(host => host !== owner && host === cluster.state.vms.get('vm-2')?.placement?.host)
    const target = HOSTS.find(host => host !== cluster.state.vms.get('vm-1')?.placement?.host && host !== lost)!
    expect((await cluster.ask('volume.scrub', { goodLeg: null })).ok).toBe(true)
    cluster.world.command({ kind: 'vm-migrate', name: 'vm-1', to: target, id: 'm-1' })
    if (lost !== undefined) cluster.world.sim.host(lost).crash()
    let report: ScrubReport | null = null
    for (let i = 0; i < 300 && report?.state !== 'done'; i += 1) {
      await cluster.world.sim.runFor(1_000)
      report = await cluster.report()
    }
    expect(report).toMatchObject({ state: 'done', unresolved: 0, repaired: 0 })
    // The slot of a host that is away is nobody else's to compare.
    expect(report!.findings.filter(({ disk }) => disk !== null)).toEqual([])
  })

  test('is refused of a volume of one leg, and of one that is not there', TIMEOUT, async () => {
    const cluster = await new Cluster('scrub-one', ['san-a']).start()
    expect(await cluster.command(null, 'nope')).toBe('unknown-volume')
    expect(await cluster.command()).toBe('not-mirrored')
    expect(cluster.view.scrub).toBeNull()
  })
})
