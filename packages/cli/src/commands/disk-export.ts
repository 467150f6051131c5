// `stellwerk disk export` and `unexport`: a disk over NBD for tools: qemu-img, nbdcopy, fio. With the cluster up a host serves
// it, as the only one who has it; with the cluster down this process does, to be read only.

import { isAbsolute, join } from 'node:path'
import { checkNameable, exportDisk } from '@stellwerk/agent/volume/disk-export.ts'
import { formatNbdUri } from '@stellwerk/protocol/nbd-uri.ts'
import type { Address } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { type ApiClient, pathOf } from '../api-client/client.ts'
import { endExport, lookAtExport, untilGone, untilServed } from '../api-client/exports.ts'
import { legsOf } from '../cluster/lun-legs.ts'
import { openStoppedDisk } from '../cluster/stopped-disk.ts'
import { lookAtUp } from '../cluster/up-record.ts'
import { type CommandContext, type CommandSpec, DIR, type Input, JSON_OUT, OK } from '../command-line/command.ts'
import { parseCount } from '../command-line/values.ts'
import { type Sleep, untilInterrupted } from '../terminal/until-interrupted.ts'

/** As the API takes it; a little less than what the system can. */
const SOCKET_PATH_MAX_BYTES = 100
/** While tools use it: is it still there? */
const WATCH_MS = 1_000

export const exportCommand: CommandSpec = {
  words: 'disk export',
  args: ['VOLUME', 'DISK'],
  options: {
    dir: DIR,
    'read-only': { type: 'boolean', help: 'refuse writes' },
    host: { type: 'string', value: 'H', help: 'the host that serves it (default: wherever is best)' },
    port: { type: 'string', value: 'P', help: 'on 127.0.0.1 (default: any free one)' },
    socket: { type: 'string', value: 'PATH', help: 'a unix socket instead of a port' },
    detach: { type: 'boolean', help: 'leave it to the cluster: stellwerk disk unexport ends it' },
    json: JSON_OUT,
  },
  summary: 'Give tools a snapshot over NBD, or a disk that no VM has open; Ctrl-C ends it',
  run: async (context, input) => {
    const options = optionsOf(context, input)
    const isUp = context.isRemote || (await lookAtUp(context.directory(input))) !== null
    return isUp ? exportLive(context, input, options) : exportStopped(context, input, options)
  },
}

export const unexportCommand: CommandSpec = {
  words: 'disk unexport',
  args: ['VOLUME', 'DISK'],
  options: { dir: DIR, json: JSON_OUT },
  summary: 'End the export of a disk, in order',
  run: async (context, input) => {
    const [volume = '', disk = ''] = input.args
    const client = await context.api(input)
    const answer = await client.delete(pathOf('volumes', volume, 'disks', disk, 'export'))
    await untilInterrupted(sleep => untilGone(client, volume, disk, sleep))
    const line = `disk ${disk} is no longer exported`
    context.terminal.out(input.flag('json') ? JSON.stringify(answer) : line)
    return OK
  },
}

interface ExportOptions {
  readonly volume: string
  readonly disk: string
  readonly port: number
  readonly socket: string | undefined
}

function optionsOf(context: CommandContext, input: Input): ExportOptions {
  const [volume = '', disk = ''] = input.args
  const port = parseCount('port', input.text('port') ?? '0', 0, 65_535)
  const socket = input.text('socket')
  const path = socket === undefined || socket === '' || isAbsolute(socket) ? socket : join(context.terminal.cwd, socket)
  if (path !== undefined) checkSocketPath(path)
  return { volume, disk, port, socket: path }
}

function checkSocketPath(path: string): void {
  const bytes = Buffer.byteLength(path)
  if (bytes >= 1 && bytes <= SOCKET_PATH_MAX_BYTES) return
  throw new StellwerkError('bad-socket', `a socket’s path has 1 to ${SOCKET_PATH_MAX_BYTES} bytes, not ${bytes}`, {
    where: '--socket',
    hint: 'name one of that length',
  })
}

// --- with the cluster up ---------------------------------------------------------------------------------------------------

async function exportLive(context: CommandContext, input: Input, options: ExportOptions): Promise<number> {
  const { volume, disk, port, socket } = options
  const { terminal } = context
  const client = await context.api(input)
  const host = input.text('host')
  await client.post(pathOf('volumes', volume, 'disks', disk, 'export'), {
    readOnly: input.flag('read-only'),
    port,
    ...(host === undefined ? {} : { host }),
    ...(socket === undefined ? {} : { socket }),
  })
  let isDetached = false
  try {
    await untilInterrupted(async sleep => {
      const served = await untilServed(client, volume, disk, sleep, line => terminal.err(line))
      if (served === null) return
      terminal.out(input.flag('json') ? JSON.stringify(served) : (served.uri ?? ''))
      isDetached = input.flag('detach')
      if (!isDetached) await watch(client, volume, disk, sleep)
    })
  } finally {
    if (!isDetached) await endExport(client, volume, disk)
  }
  return OK
}

/** While the coordinator is away the export goes on as guests do. */
async function watch(client: ApiClient, volume: string, disk: string, sleep: Sleep): Promise<void> {
  while (await sleep(WATCH_MS)) {
    try {
      await lookAtExport(client, volume, disk)
    } catch (error) {
      if (!(error instanceof StellwerkError)) throw error
      if (error.code === 'unknown-export') {
        throw new StellwerkError('export-over', error.message, { hint: 'export it again' })
      }
    }
  }
}

// --- with the cluster down -------------------------------------------------------------------------------------------------

async function exportStopped(context: CommandContext, input: Input, options: ExportOptions): Promise<number> {
  const { volume, disk, port, socket } = options
  if (input.flag('detach') || input.text('host') !== undefined) {
    throw new StellwerkError('cluster-down', 'the cluster is down: no host can serve the disk', {
      where: context.directory(input),
      hint: 'start it: npx stellwerk up; or leave --detach and --host away to read the disk from here',
    })
  }
  const directory = context.directory(input)
  const { legs, close } = await legsOf(directory, volume)
  const env = createEnvironment({ name: 'export', directory, store: memoryStore(), logLevel: 'silent' })
  try {
    const device = await openStoppedDisk(legs, volume, disk)
    const address: Address =
      socket === undefined
        ? { network: 'cluster', host: '127.0.0.1', port }
        : { network: 'local', host: socket, port: 0 }
    checkNameable(address)
    const exported = await exportDisk(env, { address, name: disk, device, readOnly: true })
    const uri = formatNbdUri({ address: exported.address, exportName: disk })
    context.terminal.out(input.flag('json') ? JSON.stringify({ volume, disk, readOnly: true, uri }) : uri)
    await untilInterrupted(async sleep => {
      while (await sleep(WATCH_MS));
    })
    await exported.close()
    return OK
  } finally {
    await env.close()
    await close()
  }
}
