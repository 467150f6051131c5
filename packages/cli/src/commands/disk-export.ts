// `stellwerk disk export`: a disk of a cluster that is down, over NBD, for tools: nbdcopy, qemu-img, nbdfuse. Only to be
// read; with the cluster up its guests have it, and nobody else may.

import { exportDisk } from '@stellwerk/agent/volume/disk-export.ts'
import type { Address } from '@stellwerk/runtime/environment.ts'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { openStoppedDisk } from '../cluster/stopped-disk.ts'
import { type CommandSpec, DIR, OK } from '../command-line/command.ts'
import { parseCount } from '../command-line/values.ts'
import { untilInterrupted } from '../terminal/until-interrupted.ts'
import { legsOf } from './volume-check.ts'

const POLL_MS = 60_000

export const exportCommand: CommandSpec = {
  words: 'disk export',
  args: ['VOLUME', 'DISK'],
  options: {
    dir: DIR,
    port: { type: 'string', value: 'P', help: 'on 127.0.0.1 (default: any free one)' },
    socket: { type: 'string', value: 'PATH', help: 'a unix socket instead of a port' },
  },
  summary: 'Give tools a disk over NBD, to be read, while the cluster is down; Ctrl-C ends it',
  run: async (context, input) => {
    const { terminal } = context
    const [volume = '', name = ''] = input.args
    const directory = context.directory(input)
    const port = parseCount('port', input.text('port') ?? '0', 0, 65_535)
    const socket = input.text('socket')
    const { legs, close } = await legsOf(directory, volume)
    const env = createEnvironment({ name: 'export', directory, store: memoryStore(), logLevel: 'silent' })
    try {
      const device = await openStoppedDisk(legs, volume, name)
      const address: Address =
        socket === undefined
          ? { network: 'cluster', host: '127.0.0.1', port }
          : { network: 'local', host: socket, port: 0 }
      const exported = await exportDisk(env, { address, name, device, readOnly: true })
      terminal.out(uriOf(exported.address, name))
      await untilInterrupted(async sleep => {
        while (await sleep(POLL_MS));
      })
      await exported.close()
      return OK
    } finally {
      await env.close()
      await close()
    }
  },
}

/** As the NBD URI specification has it. */
function uriOf(address: Address, name: string): string {
  if (address.network === 'local') return `nbd+unix:///${name}?socket=${encodeURI(address.host)}`
  return `nbd://${address.host}:${address.port}/${name}`
}
