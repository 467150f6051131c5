// Two legs are two devices: the same bytes under two names are refused before anything rests on them.

import { MIB } from '@stellwerk/runtime/units.ts'
import { expect, it } from 'vitest'
import { formatVolume } from '../format/format-volume.ts'
import { SUPERBLOCK_OFFSETS } from '../format/layout.ts'
import { CrashDevice, Platter } from '../testing/crash-device.ts'
import { codeOf, SMALL } from '../testing/fixture.ts'
import { LegsVolume } from '../testing/legs-fixture.ts'

const twice = (platter: Platter) => ['san-a', 'san-b'].map(id => ({ id, device: new CrashDevice(platter) }))

it('a volume is not laid out on legs that are one device, and none is left there', async () => {
  const platter = new Platter(8 * MIB)
  expect(await codeOf(formatVolume({ ...SMALL, legs: twice(platter) }))).toBe('legs-are-one')
  const device = new CrashDevice(platter)
  for (const offset of SUPERBLOCK_OFFSETS) {
    const [bytes] = await device.read(offset, 4096, { origin: 'test', deadlineAt: null })
    expect(bytes?.every(byte => byte === 0)).toBe(true)
  }
  // As it was before: it can be a volume of one leg.
  await formatVolume({ ...SMALL, legs: [{ id: 'san-a', device }] })
})

it('a mirror whose legs have become one device does not open, and opens when they are two again', async () => {
  const volume = await LegsVolume.make(2)
  await (await volume.open(1)).close()
  const [first, second] = [...volume.platters]
  const legs = volume.platters as Platter[]
  legs[1] = first!
  expect(await codeOf(volume.open(2))).toBe('legs-are-one')
  legs[1] = second!
  await (await volume.open(3)).close()
})
