// `stellwerk image import`: a disk image becomes a snapshot on a volume, and a VM's disk is made of it in no time: a clone.

import { resolve } from 'node:path'
import { NAME_PATTERN } from '@stellwerk/protocol/messages/fields.ts'
import type { Environment } from '@stellwerk/runtime/environment.ts'
import { describeError, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { makeScratchDirectory, removeScratchDirectory } from '@stellwerk/runtime/node/scratch-directory.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { type ApiClient, pathOf } from '../api-client/client.ts'
import { endExport, untilServed } from '../api-client/exports.ts'
import { type CommandSpec, DIR, JSON_OUT, OK } from '../command-line/command.ts'
import { parseSize } from '../command-line/values.ts'
import { copyDiskImage, type DiskImage, firstSector, inspectDiskImage, SECTOR_BYTES } from '../images/disk-image.ts'
import { bytes } from '../render/units.ts'
import { type Sleep, untilInterrupted } from '../terminal/until-interrupted.ts'

/** At the end of the first sector of what firmware boots, and of a partition table (UEFI 2.10, 5.2.1). */
const BOOT_SIGNATURE = 0xaa55
const TOLD_EVERY_PERCENT = 10
const POLL_MS = 50

export const importCommand: CommandSpec = {
  words: 'image import',
  args: ['FILE', 'VOLUME', 'NAME'],
  options: {
    dir: DIR,
    size: { type: 'string', value: 'SIZE', help: 'of the disk, if it is to be larger than the image says' },
    data: { type: 'boolean', help: 'it holds data, and need not be bootable' },
    host: { type: 'string', value: 'H', help: 'this host of the cluster, if it is on several machines' },
    json: JSON_OUT,
  },
  summary: 'Put a disk image (qcow2, raw, vmdk, vhdx, vhd, vdi) on a volume, for VMs to begin with: --disk VOLUME/NAME',
  run: async (context, input) => {
    const { terminal } = context
    const [file = '', volume = '', name = ''] = input.args
    const path = resolve(terminal.cwd, file)
    if (!new RegExp(NAME_PATTERN).test(name)) {
      throw new StellwerkError('bad-name', `"${name}" is no name of a disk`, {
        where: 'NAME',
        hint: 'letters, digits, ".", "_" and "-"; it begins with a letter or a digit',
      })
    }
    const asked = input.text('size')
    const client = await context.api(input)
    const scratch = await makeScratchDirectory('stellwerk-import-')
    const env = createEnvironment({ name: 'import', directory: scratch, store: memoryStore(), logLevel: 'error' })
    try {
      const image = await inspectDiskImage(env.processes, path)
      if (!input.flag('data')) await refuseUnbootable(env, image)
      const sizeBytes = sizeOf(image, asked === undefined ? null : parseSize('size', asked))
      const host = input.text('host')
      const how = { client, env, image, volume, name, sizeBytes }
      await importImage({ ...how, host: host ?? null, say: line => terminal.err(line) })
      const facts = { volume, image: name, format: image.format, sizeBytes }
      const line = `image ${name} is on volume ${volume}, ${bytes(sizeBytes)}; run it: stellwerk vm create VM --guest bios --disk ${volume}/${name}`
      terminal.out(input.flag('json') ? JSON.stringify(facts) : line)
      return OK
    } finally {
      await env.close()
      await removeScratchDirectory(scratch)
    }
  },
}

/** Whole MiB, as disks have. */
function sizeOf({ path, sizeBytes }: DiskImage, wanted: number | null): number {
  const least = Math.max(1, Math.ceil(sizeBytes / MIB)) * MIB
  if (wanted === null || wanted >= least) return wanted ?? least
  throw new StellwerkError('bad-size', `the image needs ${bytes(least)}`, { where: path, hint: 'say more with --size' })
}

interface Import {
  readonly client: ApiClient
  readonly env: Environment
  readonly image: DiskImage
  readonly volume: string
  readonly name: string
  readonly sizeBytes: number
  readonly host: string | null
  say(line: string): void
}

/** What it has made is gone if it fails or is interrupted. */
async function importImage(work: Import): Promise<void> {
  const { client, volume, name, sizeBytes } = work
  const disk = `${name}.import`
  await refuseTaken(work)
  let whole = false
  await untilInterrupted(async sleep => {
    await client.post(pathOf('volumes', volume, 'disks'), { disk, sizeBytes })
    try {
      await fill(work, disk, sleep)
      if (!(await sleep(0))) return
      await client.post(pathOf('volumes', volume, 'disks', disk, 'snapshots'), { name })
      whole = true
    } finally {
      await remove(work, disk)
    }
  })
  if (!whole) throw new StellwerkError('interrupted', 'the import was interrupted', { where: volume })
}

/** Says what is left, if it can't be removed: why it was to be is the news. */
async function remove({ client, volume, say }: Import, disk: string): Promise<void> {
  try {
    await client.delete(pathOf('volumes', volume, 'disks', disk))
  } catch (error) {
    if (!(error instanceof StellwerkError)) throw error
    if (error.code === 'unknown-disk' || error.code === 'disk-missing') return
    say(`${describeError(error)}; what is left of the copy: stellwerk disk delete ${volume} ${disk}`)
  }
}

/** Before anything is copied. */
async function refuseTaken({ client, volume, name }: Import): Promise<void> {
  const disks = (await client.get(pathOf('volumes', volume, 'disks'))) as { readonly disk: string }[]
  if (!disks.some(({ disk }) => disk === name)) return
  throw new StellwerkError('disk-exists', `volume ${volume} has a disk ${name} already`, {
    where: volume,
    hint: `name it otherwise, or delete that one: stellwerk disk delete ${volume} ${name}`,
  })
}

async function fill(work: Import, disk: string, sleep: Sleep): Promise<void> {
  const { client, env, image, volume, host, say } = work
  await client.post(pathOf('volumes', volume, 'disks', disk, 'export'), {
    readOnly: false,
    port: 0,
    ...(host === null ? {} : { host }),
  })
  try {
    const uri = (await untilServed(client, volume, disk, sleep, say))?.uri ?? null
    if (uri === null) return
    let told = 0
    const copying = copyDiskImage(env.processes, image, uri, percent => {
      if (percent < told + TOLD_EVERY_PERCENT) return
      told = percent - (percent % TOLD_EVERY_PERCENT)
      say(`${told} % of ${bytes(image.sizeBytes)}`)
    })
    let over = false
    const done = copying.done.finally(() => {
      over = true
    })
    // Told below, when it is awaited.
    done.catch(() => undefined)
    while (!over && (await sleep(POLL_MS)));
    if (!over) {
      copying.kill()
      // It failed because it was killed.
      await done.catch(() => undefined)
      return
    }
    await done
  } finally {
    await ended(work, disk)
  }
}

async function ended({ client, volume, say }: Import, disk: string): Promise<void> {
  try {
    await endExport(client, volume, disk)
  } catch (error) {
    if (!(error instanceof StellwerkError)) throw error
    say(`its export has not ended: ${describeError(error)}`)
  }
}

async function refuseUnbootable(env: Environment, image: DiskImage): Promise<void> {
  const sector = await firstSector(env, image)
  if (sector.readUInt16LE(SECTOR_BYTES - 2) === BOOT_SIGNATURE) return
  throw new StellwerkError('not-bootable', 'it has neither a boot sector nor a partition table', {
    where: image.path,
    hint: 'say --data if it is to hold data only',
  })
}
