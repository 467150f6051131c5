// `stellwerk volume check`: proves a volume's format on its LUNs while nobody has it open. Reads only.

import { join } from 'node:path'
import { checkVolume } from '@stellwerk/csv/check.ts'
import type { Leg } from '@stellwerk/csv/format/device-io.ts'
import { isLunMarks } from '@stellwerk/protocol/messages/storage.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { openSqliteStore } from '@stellwerk/runtime/node/sqlite-store.ts'
import { clusterIn, filesOf } from '../cluster/directory.ts'
import { FileDevice } from '../cluster/file-device.ts'
import { lookAtUp } from '../cluster/up-record.ts'
import { type CommandSpec, DIR, FAILED, JSON_OUT, OK } from '../command-line/command.ts'

/** The LUNs of that name in a cluster that is down, by the states of its storages. */
export async function legsOf(directory: string, volume: string): Promise<{ legs: Leg[]; close: () => Promise<void> }> {
  const cluster = await clusterIn(directory)
  if ((await lookAtUp(directory)) !== null) {
    throw new StellwerkError('volume-open', `volume "${volume}" is open: the cluster runs`, {
      where: directory,
      hint: 'end it first: npx stellwerk down',
    })
  }
  const files = filesOf(directory)
  const legs: Leg[] = []
  const devices: FileDevice[] = []
  for (const storage of cluster.storages) {
    if (!(await files.list(storage.name)).includes('state.sqlite')) continue
    const store = openSqliteStore(join(directory, storage.name, 'state.sqlite'))
    const marks = store.get(`lun/${volume}`)
    store.close()
    if (marks === undefined) continue
    if (!isLunMarks(marks)) {
      throw new StellwerkError('corrupt-state', `the mark of LUN "${volume}" can't be read`, { where: storage.name })
    }
    const device = await FileDevice.open(files, `${storage.name}/luns/${marks.id}.data`)
    devices.push(device)
    legs.push({ id: storage.name, device })
  }
  if (legs.length === 0) {
    throw new StellwerkError('unknown-volume', `no storage of the cluster has a LUN "${volume}"`, {
      where: directory,
      hint: 'name the volume as `stellwerk volume list` did',
    })
  }
  return {
    legs,
    close: async () => {
      for (const device of devices) await device.close()
    },
  }
}

export const checkCommand: CommandSpec = {
  words: 'volume check',
  args: ['NAME?'],
  options: {
    dir: DIR,
    json: JSON_OUT,
    file: { type: 'string', value: 'PATH', help: 'check this LUN’s data file instead' },
  },
  summary: 'Prove that a volume is sound, while the cluster is down',
  run: async (context, input) => {
    const { terminal } = context
    const [name] = input.args
    const file = input.text('file')
    if ((name === undefined) === (file === undefined)) {
      throw new StellwerkError('usage', 'name either a volume or a file', {
        where: 'stellwerk volume check',
        hint: 'say: stellwerk volume check NAME, or --file PATH',
      })
    }
    const opened = file === undefined ? await legsOf(context.directory(input), name ?? '') : await legOf(file)
    const report = await checkVolume(opened.legs)
    await opened.close()
    if (input.flag('json')) {
      terminal.out(JSON.stringify(report))
      return report.clean ? OK : FAILED
    }
    for (const found of report.findings) {
      terminal.out(`${found.severity}: ${found.leg}, ${found.where}: ${found.message} (${found.code})`)
    }
    const { summary } = report
    const what = name ?? file ?? ''
    if (summary !== null) {
      const { disks, usedExtents, extents, sequence } = summary
      terminal.out(`${what}: ${disks} disks, ${usedExtents} of ${extents} extents used, ${sequence} records`)
    }
    terminal.out(report.clean ? `${what} is sound` : `${what} is damaged`)
    return report.clean ? OK : FAILED
  },
}

async function legOf(path: string): Promise<{ legs: Leg[]; close: () => Promise<void> }> {
  const at = path.lastIndexOf('/')
  const device = await FileDevice.open(filesOf(at < 0 ? '.' : path.slice(0, at) || '/'), path.slice(at + 1))
  return { legs: [{ id: path, device }], close: () => device.close() }
}
