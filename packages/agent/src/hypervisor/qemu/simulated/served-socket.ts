// A socket on which the simulated QEMU listens (a chardev or a stream netdev with `server=on`): one connection at a time, and
// the next once that is gone. What is said to nobody is dropped.

import type { ByteStream, Environment } from '@stellwerk/runtime/environment.ts'

export interface ServedSocket {
  write(parts: readonly Uint8Array[]): void
}

/** `name`: among QEMU's own files. `connected` is told of each connection, before anything of it is heard. */
export async function serveSocket(
  env: Environment,
  name: string,
  onData: (chunk: Uint8Array) => void,
  connected: () => void = () => undefined,
): Promise<ServedSocket> {
  let current: ByteStream | null = null
  await env.network.listenStream({ network: 'local', host: env.files.locate(name), port: 0 }, stream => {
    if (current !== null) {
      stream.destroy()
      return
    }
    current = stream
    const over = (): void => {
      if (current === stream) current = null
    }
    stream.onData(onData)
    stream.onEnd(() => {
      stream.destroy()
      over()
    })
    stream.onClose(over)
    connected()
  })
  return { write: parts => void current?.write([...parts]) }
}
