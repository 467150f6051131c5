// The sending side of bulk transfers as a process of its own: who dials its link, or its raw TCP port, is sent frames of one
// size until he hangs up. Its ports stand in a file, which says that it is ready.

import { renameSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import type { Link } from '@stellwerk/runtime/environment.ts'
import { config, endWithParent, serverEnvironment } from './config.ts'

export interface BulkSourceConfig {
  readonly directory: string
  readonly frameBytes: number
  readonly readyFile: string
}

export interface BulkPorts {
  readonly link: number
  readonly raw: number
}

const { directory, frameBytes, readyFile } = config<BulkSourceConfig>()
const env = serverEnvironment('bulk-source', directory)
const frame = Buffer.alloc(frameBytes, 0x5a)

const listener = await env.network.listen({ network: 'cluster', host: '127.0.0.1', port: 0 }, sendOnLink)
const raw = createServer({ noDelay: true }, sendRaw)
raw.listen(0, '127.0.0.1', () => {
  const ports: BulkPorts = { link: listener.address.port, raw: (raw.address() as AddressInfo).port }
  writeFileSync(`${readyFile}.part`, JSON.stringify(ports))
  renameSync(`${readyFile}.part`, readyFile)
})
endWithParent()

function sendOnLink(link: Link): void {
  let open = true
  const send = (): void => {
    while (open && link.trySend([frame]));
  }
  link.onCredit(send)
  link.onFrame(() => undefined)
  link.onClose(() => {
    open = false
  })
  send()
}

function sendRaw(socket: Socket): void {
  const send = (): void => {
    while (socket.writable && socket.write(frame));
  }
  socket.on('drain', send)
  // A reader that has seen enough resets the connection.
  socket.on('error', () => socket.destroy())
  socket.resume()
  send()
}
