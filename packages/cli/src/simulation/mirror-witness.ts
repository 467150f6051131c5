// The ground truth of rule MIR1: once everything has been stopped in order, so that nothing is in flight and nothing is
// marked, what the legs' disks hold is compared, and each volume proved as `volume check` does. Looks at the files
// themselves: nobody's word is taken.

import { type BlockDevice, BlockError } from '@stellwerk/block/device.ts'
import type { VolumeRecord } from '@stellwerk/coordinator/core/state.ts'
import { checkVolume } from '@stellwerk/csv/check.ts'
import { extentAddress } from '@stellwerk/csv/format/layout.ts'
import { loadLeg } from '@stellwerk/csv/owner/load.ts'
import type { SparseFile } from '@stellwerk/runtime/sim/sparse-file.ts'
import { lunFile } from './durability.ts'
import type { World } from './world.ts'

/** Everything is stopped. Puts `mirror.compared` on record for each mirrored volume; gives what a check found wrong. */
export async function compareLegs(world: World): Promise<string[]> {
  const wrong: string[] = []
  for (const volume of world.coordinator?.state.volumes.values() ?? []) wrong.push(...(await compare(world, volume)))
  return wrong
}

async function compare(world: World, volume: VolumeRecord): Promise<string[]> {
  const inSync = volume.legs.filter(leg => leg.role === 'in-sync')
  const files = inSync.flatMap(({ leg, storage, lun }) => {
    const file = lunFile(world, storage, lun)
    return file === null ? [] : [{ id: leg, file, device: deviceOn(file) }]
  })
  const [first, ...others] = files
  if (first === undefined) return [`${volume.name} has no in-sync leg whose file is there`]
  const { findings } = await checkVolume(files)
  const damage = findings.filter(({ severity }) => severity !== 'degraded')
  if (others.length > 0 && damage.length === 0) {
    const { metadata, layout } = await loadLeg(first, {})
    const extents = [...metadata.disks.values()].flatMap(disk => [...disk.map.values()])
    const differing = new Set<number>()
    for (const extent of extents) {
      for (const { file } of others) {
        for (const at of first.file.differingPages(file, extentAddress(layout, extent), layout.extentBytes)) {
          differing.add(at)
        }
      }
    }
    world.sim.emit({
      level: 'decision',
      kind: 'mirror.compared',
      volume: volume.name,
      body: { generation: volume.generation, extents: extents.length, differing: [...differing].sort((a, b) => a - b) },
    })
  }
  return damage.map(({ leg, code, where, message }) => `${volume.name} ${leg ?? ''} ${where}: ${code}: ${message}`)
}

/** To be read only. */
function deviceOn(file: SparseFile): BlockDevice {
  const refuse = (): Promise<never> => Promise.reject(new BlockError('EPERM', 'none', 'this disk is only looked at'))
  return {
    size: file.size,
    limits: { minimum: 512, preferred: 4096, maximum: 32 * 1024 * 1024 },
    caps: {
      readOnly: true,
      flush: true,
      fua: true,
      trim: false,
      zero: false,
      fastZero: false,
      blockStatus: false,
      multiConn: true,
    },
    read: async (offset, length) => [file.read(offset, length)],
    write: refuse,
    flush: async () => undefined,
    zero: refuse,
    trim: refuse,
    onState: () => undefined,
    close: async () => undefined,
  }
}
