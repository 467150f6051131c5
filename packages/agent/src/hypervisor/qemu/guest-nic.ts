// A network card as QEMU has it: frames on a unix socket, each behind its length in four bytes, the highest first (QEMU's
// `-netdev stream`). What the guest has not taken is dropped, and so is what comes while it stands still: a wire does no more.

import { FRAME_MAX_BYTES } from '@stellwerk/protocol/ethernet.ts'
import type { ByteStream } from '@stellwerk/runtime/environment.ts'
import type { NetworkPort } from '../hypervisor.ts'

const LENGTH_BYTES = 4
/** Bytes that the guest has not taken: more is dropped. */
const QUEUE_BYTES = 1024 * 1024

export class GuestNic {
  readonly #port: NetworkPort
  readonly #stream: ByteStream
  readonly #runs: () => boolean
  readonly #mayPass: () => boolean
  #rest: Uint8Array | null = null
  #broken = false

  /** `runs`: whether the guest takes anything in; `mayPass` is asked before anything leaves it. */
  constructor(port: NetworkPort, stream: ByteStream, runs: () => boolean, mayPass: () => boolean) {
    this.#port = port
    this.#stream = stream
    this.#runs = runs
    this.#mayPass = mayPass
    stream.onData(chunk => this.#fromGuest(chunk))
    port.onFrame(frame => this.#toGuest(frame))
  }

  #toGuest(frame: Uint8Array): void {
    if (!this.#runs() || this.#broken || this.#stream.bufferedBytes > QUEUE_BYTES) return
    const head = Buffer.allocUnsafe(LENGTH_BYTES)
    head.writeUInt32BE(frame.byteLength, 0)
    this.#stream.write([head, frame])
  }

  #fromGuest(chunk: Uint8Array): void {
    if (this.#broken) return
    let bytes =
      this.#rest === null
        ? Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
        : Buffer.concat([this.#rest, chunk])
    this.#rest = null
    while (bytes.byteLength >= LENGTH_BYTES) {
      const length = bytes.readUInt32BE(0)
      if (length > FRAME_MAX_BYTES) {
        // Nothing that follows can be told apart. The machine runs on without this card, as with a cable pulled.
        this.#broken = true
        this.#stream.destroy()
        return
      }
      if (bytes.byteLength < LENGTH_BYTES + length) break
      const frame = bytes.subarray(LENGTH_BYTES, LENGTH_BYTES + length)
      bytes = bytes.subarray(LENGTH_BYTES + length)
      if (this.#mayPass()) this.#port.send(frame)
    }
    if (bytes.byteLength > 0) this.#rest = bytes
  }
}
