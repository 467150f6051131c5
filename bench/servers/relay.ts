// A process that only copies: what comes in at one address goes out at another, and back. What passes through Node costs that much.

import { chmodSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { config, endWithParent } from './config.ts'

export interface RelayConfig {
  /** Unix sockets by their path, TCP ports of this host by their number. */
  readonly from: string | number
  readonly into: string | number
  /** A file, made when it listens. */
  readonly ready: string
}

if (import.meta.main) {
  const { from, into, ready } = config<RelayConfig>()
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, source => {
    const target: Socket = typeof into === 'number' ? connect(into, '127.0.0.1') : connect(into)
    target.allowHalfOpen = true
    source.pipe(target)
    target.pipe(source)
    // Whichever breaks takes the other along: who measures hears of it.
    source.on('error', () => target.destroy())
    target.on('error', () => source.destroy())
  })
  const listening = (): void => {
    // QEMU may be another user.
    if (typeof from === 'string') chmodSync(from, 0o666)
    writeFileSync(ready, '')
  }
  if (typeof from === 'number') server.listen(from, '127.0.0.1', listening)
  else server.listen(from, listening)
  endWithParent()
}
