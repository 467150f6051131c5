// As much of a VNC viewer (RFB 3.8, RFC 6143) as it takes to look at a screen once.

import { once } from 'node:events'
import { connect } from 'node:net'

export interface Picture {
  readonly name: string
  readonly width: number
  readonly height: number
  /** How many different pixel values it has. */
  readonly colours: number
}

const NO_PASSWORD = 1
const RAW = 0

export async function lookAt(host: string, port: number): Promise<Picture> {
  const socket = connect(port, host)
  const chunks = socket.iterator({ destroyOnReturn: false })
  let rest = Buffer.alloc(0)
  const take = async (length: number): Promise<Buffer> => {
    while (rest.length < length) {
      const { value, done } = await chunks.next()
      if (done === true) throw new Error(`the screen ended the connection, ${length - rest.length} bytes short`)
      rest = Buffer.concat([rest, value as Buffer])
    }
    const taken = rest.subarray(0, length)
    rest = rest.subarray(length)
    return taken
  }
  try {
    await once(socket, 'connect')
    const version = (await take(12)).toString()
    if (version !== 'RFB 003.008\n') throw new Error(`no RFB 3.8: ${JSON.stringify(version)}`)
    socket.write(version)
    const kinds = await take((await take(1)).readUInt8())
    if (!kinds.includes(NO_PASSWORD)) throw new Error(`it wants a password: ${[...kinds]}`)
    socket.write(Buffer.from([NO_PASSWORD]))
    if ((await take(4)).readUInt32BE() !== 0) throw new Error('it lets nobody in')
    socket.write(Buffer.from([1]))
    const screen = await take(24)
    const [width, height, bits] = [screen.readUInt16BE(0), screen.readUInt16BE(2), screen.readUInt8(4)]
    const name = (await take(screen.readUInt32BE(20))).toString()
    socket.write(Buffer.from([2, 0, 0, 1, 0, 0, 0, RAW]))
    const ask = Buffer.from([3, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    ask.writeUInt16BE(width, 6)
    ask.writeUInt16BE(height, 8)
    socket.write(ask)
    const seen = new Set<string>()
    const update = await take(4)
    for (let left = update.readUInt16BE(2); left > 0; left -= 1) {
      const rectangle = await take(12)
      const pixels = await take(rectangle.readUInt16BE(4) * rectangle.readUInt16BE(6) * (bits / 8))
      for (let at = 0; at < pixels.length; at += bits / 8) seen.add(pixels.toString('hex', at, at + bits / 8))
    }
    return { name, width, height, colours: seen.size }
  } finally {
    socket.destroy()
  }
}
