// The owner's core, as transcripts: who asks what, and what the owner answers and journals.

import { describe, expect, it } from 'vitest'
import { CorePlay } from '../testing/core-play.ts'
import { EXTENT } from '../testing/fixture.ts'
import type { VolumeRequest } from './request.ts'

const WORDS: Readonly<Record<string, (...args: string[]) => VolumeRequest>> = {
  open: (host, hostEpoch = '1') => ({
    kind: 'volume.open-host',
    body: { volume: 'v', host: host!, hostEpoch: Number(hostEpoch), slot: null },
  }),
  create: (disk, extents = '8') => ({
    kind: 'volume.create-disk',
    body: { volume: 'v', disk: disk!, name: disk!, sizeBytes: Number(extents) * EXTENT },
  }),
  resize: (disk, extents) => ({
    kind: 'volume.resize-disk',
    body: { volume: 'v', disk: disk!, sizeBytes: Number(extents) * EXTENT },
  }),
  delete: disk => ({ kind: 'volume.delete-disk', body: { volume: 'v', disk: disk! } }),
  attach: (disk, vm, host, epoch, committed = '', hostEpoch = '1') => ({
    kind: 'volume.attach',
    body: {
      volume: 'v',
      disk: disk!,
      vm: vm!,
      host: host!,
      hostEpoch: Number(hostEpoch),
      epoch: Number(epoch),
      committed: committed === 'committed',
    },
  }),
  reserve: (disk, vm, host, epoch) => ({
    kind: 'volume.reserve',
    body: { volume: 'v', disk: disk!, vm: vm!, host: host!, hostEpoch: 1, epoch: Number(epoch) },
  }),
  commit: (disk, epoch) => ({ kind: 'volume.commit', body: { volume: 'v', disk: disk!, epoch: Number(epoch) } }),
  abort: (disk, epoch) => ({ kind: 'volume.abort', body: { volume: 'v', disk: disk!, epoch: Number(epoch) } }),
  detach: (disk, host, epoch) => ({
    kind: 'volume.detach',
    body: { volume: 'v', disk: disk!, host: host!, epoch: Number(epoch) },
  }),
  allocate: (disk, host, epoch, indexes, committed = '') => ({
    kind: 'volume.allocate',
    body: {
      volume: 'v',
      disk: disk!,
      host: host!,
      epoch: Number(epoch),
      committed: committed === 'committed',
      indexes: indexes!.split(',').map(Number),
      ahead: [],
    },
  }),
  free: (disk, host, epoch, runs) => ({
    kind: 'volume.free',
    body: {
      volume: 'v',
      disk: disk!,
      host: host!,
      epoch: Number(epoch),
      committed: false,
      runs: runs!.split(',').map(Number),
    },
  }),
  recover: (host, hostEpoch) => ({
    kind: 'volume.recover-slot',
    body: { volume: 'v', host: host!, hostEpoch: Number(hostEpoch) },
  }),
  release: (host, hostEpoch, disk, vm, epoch) => ({
    kind: 'volume.release-host',
    body: {
      ...{ volume: 'v', host: host!, hostEpoch: Number(hostEpoch) },
      ...(disk === undefined ? {} : { ended: [{ disk, vm: vm!, epoch: Number(epoch) }] }),
    },
  }),
}

/** Plays the lines before each `->`; gives the transcript with what came out. */
function play(script: string): string {
  const core = new CorePlay()
  const lines: string[] = []
  for (const line of script
    .trim()
    .split('\n')
    .map(text => text.trim())) {
    const command = line.split('->')[0]!.trim()
    const [word, ...args] = command.split(/ +/)
    const [entries, effects] = [core.journal.length, core.effects.length]
    const { reply, code } = core.ask(WORDS[word!]!(...args))
    const journaled = core.journal.slice(entries).map(entry => {
      if (entry.type === 'mapped' || entry.type === 'unmapped') return `${entry.type} ${entry.pairs.join(':')}`
      if (entry.type === 'attached' || entry.type === 'reserved')
        return `${entry.type} ${entry.holder.host}@${entry.holder.epoch}`
      if (entry.type === 'burnt') return `burnt ${entry.epoch}`
      return entry.type
    })
    const slots = core.effects.slice(effects).filter(effect => effect.type !== 'zero')
    const runs = (reply as { runs?: number[] } | null)?.runs?.join(',')
    const said = code === 'ok' ? (runs ? `ok ${runs}` : 'ok') : code
    const did = [...slots.map(effect => effect.type), ...journaled]
    lines.push(`${command} -> ${said}${did.length > 0 ? ` [${did.join('; ')}]` : ''}`)
  }
  return lines.join('\n')
}

function transcript(title: string, script: string): void {
  it(title, () => {
    const wanted = script
      .trim()
      .split('\n')
      .map(line => line.trim())
      .join('\n')
    expect(play(script)).toBe(wanted)
  })
}

describe('the owner decides', () => {
  transcript(
    'placement epochs only rise',
    `
    open host-a -> ok [prepare-slot; slot-assigned]
    open host-b -> ok [prepare-slot; slot-assigned]
    open host-a -> ok
    create d1 -> ok [disk-created]
    create d1 -> ok
    create d1 9 -> disk-exists
    attach d1 web host-x 1 -> host-unknown
    attach d1 web host-a 3 -> ok [attached host-a@3]
    attach d1 web host-a 3 -> ok
    attach d1 web host-b 3 -> attached
    attach d1 db host-b 4 -> attached
    attach d1 web host-b 2 -> stale-epoch
    allocate d1 host-a 2 0 -> stale-epoch
    allocate d1 host-b 3 0 -> not-attached
    attach d1 web host-b 4 -> ok [attached host-b@4]
    allocate d1 host-a 3 0 -> stale-epoch
    attach d1 web host-a 5 -> ok [attached host-a@5]
    allocate d1 host-a 3 0 -> stale-epoch
    detach d1 host-a 3 -> ok
    detach d1 host-a 5 -> ok [detached; burnt 5]
    detach d1 host-a 5 -> ok
    attach d1 web host-b 4 -> stale-epoch
    attach d1 web host-b 6 -> ok [attached host-b@6]
    delete d1 -> disk-attached
    detach d1 host-b 6 -> ok [detached; burnt 6]
    attach d1 db host-a 1 -> ok [attached host-a@1]
    detach d1 host-a 1 -> ok [detached; burnt 1]
    delete d1 -> ok [disk-deleted]
    delete d1 -> ok
    `,
  )

  transcript(
    'a handover reserves, a commit raises',
    `
    open host-a -> ok [prepare-slot; slot-assigned]
    open host-b -> ok [prepare-slot; slot-assigned]
    create d1 -> ok [disk-created]
    reserve d1 web host-b 2 -> not-attached
    attach d1 web host-a 1 -> ok [attached host-a@1]
    allocate d1 host-a 1 0 -> ok 0,0,1,1 [mapped 0:0]
    reserve d1 web host-b 1 -> stale-epoch
    reserve d1 web host-b 2 -> ok [tell-size; reserved host-b@2]
    reserve d1 web host-b 2 -> ok
    attach d1 web host-b 2 -> attached
    allocate d1 host-b 2 1 -> not-attached
    allocate d1 host-a 1 1 -> ok 1,1,1,2 [mapped 1:1]
    free d1 host-a 1 0,0,1,1 -> disk-switching
    resize d1 9 -> disk-switching
    commit d1 2 -> ok [committed]
    commit d1 2 -> ok
    allocate d1 host-a 1 2 -> stale-epoch
    allocate d1 host-b 2 2 -> ok 2,2,1,3 [mapped 2:2]
    abort d1 2 -> already-committed
    detach d1 host-a 1 -> ok
    `,
  )

  transcript(
    'a free that is asked again while the disk switches is answered as done, since it was',
    `
    open host-a -> ok [prepare-slot; slot-assigned]
    open host-b -> ok [prepare-slot; slot-assigned]
    create d1 -> ok [disk-created]
    attach d1 web host-a 1 -> ok [attached host-a@1]
    allocate d1 host-a 1 0 -> ok 0,0,1,1 [mapped 0:0]
    allocate d1 host-a 1 1 -> ok 1,1,1,2 [mapped 1:1]
    free d1 host-a 1 0,0,1,1 -> ok [unmapped 0:0]
    reserve d1 web host-b 2 -> ok [tell-size; reserved host-b@2]
    free d1 host-a 1 0,0,1,1 -> ok
    free d1 host-a 1 1,1,1,2 -> disk-switching
    `,
  )

  transcript(
    'an abort burns the epoch, even before the reservation arrives',
    `
    open host-a -> ok [prepare-slot; slot-assigned]
    open host-b -> ok [prepare-slot; slot-assigned]
    create d1 -> ok [disk-created]
    attach d1 web host-a 1 -> ok [attached host-a@1]
    reserve d1 web host-b 2 -> ok [tell-size; reserved host-b@2]
    abort d1 2 -> ok [burnt 2]
    abort d1 2 -> ok
    commit d1 2 -> stale-epoch
    attach d1 web host-b 2 committed -> stale-epoch
    reserve d1 web host-b 2 -> stale-epoch
    allocate d1 host-a 1 0 -> ok 0,0,1,1 [mapped 0:0]
    abort d1 3 -> ok [burnt 3]
    reserve d1 web host-b 3 -> stale-epoch
    reserve d1 web host-b 4 -> ok [tell-size; reserved host-b@4]
    `,
  )

  transcript(
    'the target’s own request with the coordinator’s commit counts as commit',
    `
    open host-a -> ok [prepare-slot; slot-assigned]
    open host-b -> ok [prepare-slot; slot-assigned]
    create d1 -> ok [disk-created]
    attach d1 web host-a 1 -> ok [attached host-a@1]
    reserve d1 web host-b 2 -> ok [tell-size; reserved host-b@2]
    allocate d1 host-b 2 0 committed -> ok 0,0,1,1 [committed; mapped 0:0]
    allocate d1 host-a 1 1 -> stale-epoch
    attach d1 web host-b 2 committed -> ok 0,0,1,1
    `,
  )

  transcript(
    'a fenced host loses what it held, after its slot was recovered; a late order harms nobody',
    `
    open host-a -> ok [prepare-slot; slot-assigned]
    open host-b -> ok [prepare-slot; slot-assigned]
    create d1 -> ok [disk-created]
    attach d1 web host-a 1 -> ok [attached host-a@1]
    release host-a 1 -> ok [recover-slot; host-released]
    release host-a 1 -> ok
    attach d1 web host-b 2 -> ok [attached host-b@2]
    detach d1 host-b 2 -> ok [detached; burnt 2]
    open host-a 2 -> ok
    attach d1 web host-a 3 x 2 -> ok [attached host-a@3]
    release host-a 1 -> ok
    allocate d1 host-a 3 0 -> ok 0,0,1,1 [mapped 0:0]
    release host-a 2 -> ok [recover-slot; host-released]
    `,
  )

  transcript(
    'the target of a committed migration dies before it took the disk: its source has given it away',
    `
    open host-a -> ok [prepare-slot; slot-assigned]
    open host-b -> ok [prepare-slot; slot-assigned]
    create d1 -> ok [disk-created]
    attach d1 web host-a 3 -> ok [attached host-a@3]
    reserve d1 web host-b 4 -> ok [tell-size; reserved host-b@4]
    release host-b 1 d1 web 4 -> ok [recover-slot; host-released; detached]
    delete d1 -> ok [disk-deleted]
    `,
  )

  transcript(
    'a migration that is aborted burns its own epoch: the one before may have been committed, and its target comes',
    `
    open host-a -> ok [prepare-slot; slot-assigned]
    open host-b -> ok [prepare-slot; slot-assigned]
    open host-c -> ok [prepare-slot; slot-assigned]
    create d1 -> ok [disk-created]
    attach d1 web host-a 9 -> ok [attached host-a@9]
    reserve d1 web host-b 10 -> ok [tell-size; reserved host-b@10]
    reserve d1 web host-c 11 -> waits for ever
    abort d1 11 -> ok [burnt 11]
    commit d1 10 -> ok [committed]
    reserve d1 web host-c 11 -> stale-epoch
    reserve d1 web host-c 12 -> ok [tell-size; reserved host-c@12]
    abort d1 13 -> ok [burnt 13]
    abort d1 12 -> ok [burnt 12]
    abort d1 12 -> ok
    commit d1 12 -> stale-epoch
    reserve d1 web host-c 14 -> ok [tell-size; reserved host-c@14]
    `,
  )

  transcript(
    'what a newer instance of a VM holds, or another VM, is not released with an older one',
    `
    open host-a -> ok [prepare-slot; slot-assigned]
    open host-b -> ok [prepare-slot; slot-assigned]
    create d1 -> ok [disk-created]
    attach d1 web host-a 5 -> ok [attached host-a@5]
    reserve d1 web host-b 6 -> ok [tell-size; reserved host-b@6]
    release host-c 1 d1 web 4 -> ok
    release host-c 1 d1 db 9 -> ok
    release host-c 1 d2 web 9 -> ok
    release host-c 1 d1 web 5 -> ok [detached]
    release host-c 1 d1 web 6 -> ok [burnt 6]
    attach d1 web host-b 6 committed -> stale-epoch
    `,
  )

  transcript(
    'the source dies after its release: the reservation outlives it and is committed',
    `
    open host-a -> ok [prepare-slot; slot-assigned]
    open host-b -> ok [prepare-slot; slot-assigned]
    create d1 -> ok [disk-created]
    attach d1 web host-a 1 -> ok [attached host-a@1]
    reserve d1 web host-b 2 -> ok [tell-size; reserved host-b@2]
    release host-a 1 -> ok [recover-slot; host-released]
    attach d1 web host-a 2 -> attached
    commit d1 2 -> ok [committed]
    allocate d1 host-b 2 0 -> ok 0,0,1,1 [mapped 0:0]
    `,
  )

  transcript(
    'the target dies before the commit: its reservation is burnt, a failover goes elsewhere',
    `
    open host-a -> ok [prepare-slot; slot-assigned]
    open host-b -> ok [prepare-slot; slot-assigned]
    create d1 -> ok [disk-created]
    attach d1 web host-a 1 -> ok [attached host-a@1]
    reserve d1 web host-b 2 -> ok [tell-size; reserved host-b@2]
    release host-b 1 -> ok [recover-slot; host-released]
    commit d1 2 -> stale-epoch
    release host-a 1 -> ok [recover-slot; host-released]
    attach d1 web host-b 3 -> ok [attached host-b@3]
    `,
  )

  transcript(
    'a free names what it frees: one that comes late cannot hit an extent granted anew',
    `
    open host-a -> ok [prepare-slot; slot-assigned]
    create d1 -> ok [disk-created]
    attach d1 web host-a 1 -> ok [attached host-a@1]
    allocate d1 host-a 1 0,1 -> ok 0,0,1,1,1,1,1,1 [mapped 0:0:1:1]
    allocate d1 host-a 1 1 -> ok 1,1,1,1
    free d1 host-a 1 1,1,1,1 -> ok [unmapped 1:1]
    free d1 host-a 1 1,1,1,1 -> ok
    allocate d1 host-a 1 1 -> ok 1,2,1,3 [mapped 1:2]
    free d1 host-a 1 1,2,1,1 -> ok
    free d1 host-a 1 1,1,1,1 -> ok
    allocate d1 host-a 1 8 -> bad-index
    resize d1 4 -> disk-attached
    resize d1 16 -> ok [tell-size; disk-resized]
    allocate d1 host-a 1 8 -> ok 8,3,1,5 [mapped 8:3]
    `,
  )
})
