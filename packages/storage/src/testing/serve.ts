// A storage subsystem as a process of its own, for tests that watch one from outside: `node serve.ts DIRECTORY`. Listens on
// DIRECTORY/nbd.sock, has an open LUN `disk`, says `ready` and its id, and ends with its standard input.

import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { startStorage } from '../server.ts'

const directory = process.argv[2] ?? '.'
const env = createEnvironment({ name: 'san', directory, logLevel: 'warn' })
const server = await startStorage(env, {
  name: 'san',
  cluster: 'test',
  credential: 'test',
  portals: [{ network: 'local', host: `${directory}/nbd.sock`, port: 0 }],
  control: [],
})
const { id } = await server.order('storage.create-lun', { lun: 'disk', sizeBytes: 1024 * 1024, open: true })
process.stdout.write(`ready ${id}\n`)
process.stdin.on('end', () => process.exit(0)).resume()
