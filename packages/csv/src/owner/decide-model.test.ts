// Any sequence of requests keeps the metadata's invariants, and the journal's bytes alone give the same metadata.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { auditMetadata } from '../check/audit-metadata.ts'
import type { Metadata } from '../format/metadata.ts'
import { CorePlay } from '../testing/core-play.ts'
import { EXTENT } from '../testing/fixture.ts'
import type { VolumeRequest } from './request.ts'

const disk = fc.constantFrom('d1', 'd2', 'd3')
const snapshotName = fc.constantFrom('s1', 's2')
const host = fc.constantFrom('host-a', 'host-b', 'host-c')
const epoch = fc.integer({ min: 1, max: 6 })
const hostEpoch = fc.integer({ min: 1, max: 2 })
const indexes = fc.array(fc.integer({ min: 0, max: 15 }), { maxLength: 5 })
const committed = fc.boolean()
const volume = fc.constant('v')
const vm = fc.constantFrom('web', 'web', 'db')

/** Stands for what the disk has at these indexes. */
const KNOWN: number[] = []

type BodyOf<K extends VolumeRequest['kind']> = Extract<VolumeRequest, { readonly kind: K }>['body']

function request<K extends VolumeRequest['kind']>(
  kind: K,
  body: { [P in keyof BodyOf<K>]: fc.Arbitrary<BodyOf<K>[P]> },
): fc.Arbitrary<VolumeRequest> {
  const fields = body as unknown as Record<string, fc.Arbitrary<unknown>>
  return fc.record(fields).map(value => ({ kind, body: value }) as unknown as VolumeRequest)
}

const requests = fc.oneof(
  { weight: 2, arbitrary: request('volume.open-host', { volume, host, hostEpoch, slot: fc.constant(null) }) },
  {
    weight: 2,
    arbitrary: disk.chain(d =>
      request('volume.create-disk', {
        volume,
        disk: fc.constant(d),
        name: fc.constant(`${d}-name`),
        sizeBytes: fc.integer({ min: 1, max: 16 }).map(n => n * EXTENT),
      }),
    ),
  },
  { weight: 1, arbitrary: request('volume.delete-disk', { volume, disk }) },
  {
    weight: 1,
    arbitrary: request('volume.resize-disk', {
      volume,
      disk,
      sizeBytes: fc.integer({ min: 1, max: 16 }).map(n => n * EXTENT),
    }),
  },
  { weight: 5, arbitrary: request('volume.attach', { volume, disk, vm, host, hostEpoch, epoch, committed }) },
  { weight: 2, arbitrary: request('volume.reserve', { volume, disk, vm, host, hostEpoch, epoch }) },
  { weight: 2, arbitrary: request('volume.commit', { volume, disk, epoch }) },
  { weight: 1, arbitrary: request('volume.abort', { volume, disk, epoch }) },
  { weight: 2, arbitrary: request('volume.detach', { volume, disk, host, epoch }) },
  {
    weight: 3,
    arbitrary: fc.tuple(disk, snapshotName).chain(([d, s]) =>
      request('volume.snapshot-disk', {
        volume,
        disk: fc.constant(d),
        snapshot: fc.constant(s),
        name: fc.constant(`${s}-name`),
      }),
    ),
  },
  {
    weight: 3,
    arbitrary: fc.tuple(disk, snapshotName).chain(([d, s]) =>
      request('volume.clone-disk', {
        volume,
        snapshot: fc.constant(s),
        disk: fc.constant(d),
        name: fc.constant(`${d}-name`),
      }),
    ),
  },
  { weight: 2, arbitrary: request('volume.delete-disk', { volume, disk: snapshotName }) },
  {
    weight: 6,
    arbitrary: request('volume.unshare', {
      ...{ volume, disk, host, epoch, committed, indexes },
      extents: fc.constantFrom<number[]>(KNOWN, [], [1, 2, 3, 4, 5]),
      mapVersion: fc.constantFrom(Number.MAX_SAFE_INTEGER, 3),
    }),
  },
  {
    weight: 8,
    arbitrary: request('volume.allocate', { volume, disk, host, epoch, committed, indexes, ahead: indexes }),
  },
  {
    weight: 4,
    arbitrary: request('volume.free', {
      volume,
      disk,
      host,
      epoch,
      committed,
      runs: fc
        .tuple(fc.integer({ min: 0, max: 15 }), fc.integer({ min: 0, max: 20 }), fc.integer({ min: 1, max: 3 }), epoch)
        .map(run => [...run]),
    }),
  },
  { weight: 1, arbitrary: request('volume.release-host', { volume, host, hostEpoch }) },
)

/** As its host would ask, which knows its map; the rest asks of what is long gone. */
function informed({ state }: CorePlay, each: VolumeRequest): VolumeRequest {
  if (each.kind !== 'volume.unshare' || each.body.extents !== KNOWN) return each
  const map = state.metadata.disks.get(each.body.disk)?.map
  return { ...each, body: { ...each.body, extents: each.body.indexes.map(index => map?.get(index) ?? 0) } }
}

function plain({ disks, slots, references, versions, usedExtents, mappings }: Metadata) {
  return { disks, slots, references, versions, usedExtents, mappings }
}

describe('the owner’s core, under any requests', () => {
  it('keeps every invariant, and its journal says it all', () => {
    fc.assert(
      fc.property(fc.array(requests, { maxLength: 120 }), sequence => {
        const core = new CorePlay()
        for (const each of sequence) {
          const { code } = core.ask(informed(core, each))
          expect(code).not.toBe('waits for ever')
          expect(auditMetadata(core.state.metadata)).toEqual([])
        }
        expect(plain(core.replayed)).toEqual(plain(core.state.metadata))
        expect(new Set(core.state.pool).size).toBe(core.state.pool.length)
      }),
      { numRuns: 150 },
    )
  })

  it('a disk changes hands only by a higher epoch of its VM, a detach, or a release', () => {
    fc.assert(
      fc.property(fc.array(requests, { maxLength: 120 }), sequence => {
        const core = new CorePlay()
        for (const each of sequence) {
          const before = new Map([...core.state.metadata.disks].map(([id, { holder }]) => [id, holder]))
          core.ask(each)
          for (const [id, { holder }] of core.state.metadata.disks) {
            const was = before.get(id) ?? null
            if (was === null || holder === null || (was.host === holder.host && was.epoch === holder.epoch)) continue
            expect(holder.epoch).toBeGreaterThan(was.epoch)
            expect(holder.vm).toBe(was.vm)
          }
        }
      }),
      { numRuns: 150 },
    )
  })
})
