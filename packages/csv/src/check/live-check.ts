// A check of a volume that its owner has open, at a moment at which nothing of the metadata is being written: what is on the
// legs against itself, and against what the owner believes. Hosts go on marking their slots meanwhile.

import { type CheckReport, examineVolume } from '../check.ts'
import type { Leg } from '../format/device-io.ts'
import type { Disk, Metadata } from '../format/metadata.ts'
import type { Expected } from '../format/superblock.ts'
import { type Finding, finding } from './finding.ts'

/** What a host writes may be seen half-done: it counts if a second look sees it too. */
const OF_SLOTS = /^(slot|intent)-/

export async function checkStandingStill(
  legs: readonly Leg[],
  expected: Expected,
  believed: Metadata,
): Promise<CheckReport> {
  const { report, loaded } = await examineVolume(legs, expected)
  let { findings } = report
  if (findings.some(({ code }) => OF_SLOTS.test(code))) {
    const again = (await examineVolume(legs, expected)).report.findings
    findings = findings.filter(
      one =>
        !OF_SLOTS.test(one.code) ||
        again.some(other => other.code === one.code && other.where === one.where && other.leg === one.leg),
    )
  }
  const differing = loaded.flatMap(({ leg, metadata }) =>
    differences(believed, metadata).map(each => ({ ...each, leg: leg.id })),
  )
  const all = [...findings, ...differing]
  return { ...report, findings: all, clean: all.every(({ severity }) => severity === 'degraded') }
}

/** What is durable is not what the owner answers by. */
function differences(believed: Metadata, durable: Metadata): Finding[] {
  const found: Finding[] = []
  const differ = (where: string, message: string) =>
    found.push(finding('owner-differs', 'damage', where, `${message}; the owner believes otherwise`))
  if (believed.ownerEpoch !== durable.ownerEpoch) differ('journal', `its last owner epoch is ${durable.ownerEpoch}`)
  for (const id of new Set([...believed.disks.keys(), ...durable.disks.keys()])) {
    const ours = believed.disks.get(id)
    const theirs = durable.disks.get(id)
    if (ours === undefined || theirs === undefined) {
      differ(`disk ${id}`, theirs === undefined ? 'there is no such disk' : 'there is such a disk')
    } else if (textOf(ours) !== textOf(theirs)) {
      differ(`disk ${id}`, 'its record or its map')
    }
  }
  for (let extent = 0; extent < believed.references.length; extent += 1) {
    const counted = durable.references[extent]
    if (believed.references[extent] !== counted) differ(`extent ${extent}`, `${counted} references are counted`)
    else if (counted! > 0 && believed.versions[extent] !== durable.versions[extent]) {
      differ(`extent ${extent}`, `mapped at version ${durable.versions[extent]}`)
    }
  }
  const slots = (metadata: Metadata) => JSON.stringify([...metadata.slots].sort(([a], [b]) => (a < b ? -1 : 1)))
  if (slots(believed) !== slots(durable)) differ('slots', 'whose they are')
  return found
}

/** All of a disk's record, in an order that does not depend on its history. */
function textOf({ map, ...record }: Disk): string {
  const pairs = [...map].sort(([a], [b]) => a - b)
  const fields = Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1))
  return JSON.stringify([fields, pairs])
}
