// A FrameSocket on a WebSocket: data frames are binary messages, control texts are text messages, our close codes travel in
// the close frame. Credit is CreditedLink's, dialing and listening are network.ts's.

import type { Socket } from 'node:net'
import { type RawData, WebSocket } from 'ws'
import { assert } from '../assert.ts'
import type { FrameSocket } from '../credited-link.ts'
import { errorCode, errorMessage } from '../errors.ts'
import { AutoCork } from './auto-cork.ts'
import { countBuffer } from './young-collector.ts'

/** The close code of the private range under which our own codes travel, as `code reason`. */
const CLOSE_OWN = 4000
const CLOSE_NORMAL = 1000
const CLOSE_GOING_AWAY = 1001
const CLOSE_TOO_BIG = 1009
const CLOSE_LOST = 1006
/** RFC 6455: a control frame's payload, less the two bytes of the code. */
const CLOSE_REASON_MAX_BYTES = 123

/** What the two callers of `ws` have in common. */
export const WEB_SOCKET_OPTIONS = {
  perMessageDeflate: false,
  /** How long a peer may take to answer a close. */
  closeTimeout: 5000,
  /** Links never send fragments; a peer that does may send a few. */
  maxFragments: 64,
} as const

/** Rounds of keep-alive without a byte from the peer after which it is taken for lost. */
const KEEPALIVE_MISSES_MAX = 3

export class WebFrameSocket implements FrameSocket {
  readonly #web: WebSocket
  readonly #socket: Socket
  readonly #cork: AutoCork
  #frame: ((frame: Uint8Array) => void) | null = null
  #control: ((text: string) => void) | null = null
  #close: ((code: string, reason: string) => void) | null = null
  /** The user closed it or was told that it is closed. */
  #over = false
  #seenBytes = 0
  #misses = 0

  /** `isSlabbed`: what is read is counted where it is read. */
  constructor(web: WebSocket, socket: Socket, isSlabbed = false) {
    this.#web = web
    this.#socket = socket
    this.#cork = new AutoCork(socket)
    web.on('message', (data: RawData, isBinary: boolean) => {
      if (this.#over) return
      assert(Buffer.isBuffer(data), 'messages come as one buffer')
      const isView = data.length < data.buffer.byteLength
      if (!(isSlabbed && isView)) countBuffer(data.length)
      if (isBinary) this.#frame?.(data)
      else this.#control?.(data.toString('latin1'))
    })
    web.on('error', error => {
      // The other side, if it follows the protocol, is being told by a close frame; ours is told now.
      this.#tell(protocolCode(error), errorMessage(error))
    })
    web.on('close', (code, reason) => {
      const [ours, text] = parseClose(code, reason.toString('utf8'))
      this.#tell(ours, text)
    })
  }

  send(frames: readonly Uint8Array[]): void {
    if (this.#web.readyState !== WebSocket.OPEN) return
    this.#cork.hold()
    for (const frame of frames) this.#web.send(frame)
  }

  sendControl(text: string): void {
    if (this.#web.readyState !== WebSocket.OPEN) return
    this.#cork.hold()
    this.#web.send(text)
  }

  onFrame(f: (frame: Uint8Array) => void): void {
    this.#frame = f
  }

  onControl(f: (text: string) => void): void {
    this.#control = f
  }

  onClose(f: (code: string, reason: string) => void): void {
    this.#close = f
  }

  close(code: string, reason: string): void {
    if (this.#over) return
    this.#over = true
    this.#web.close(CLOSE_OWN, closeText(code, reason))
  }

  /** Closes it from below: the user is told too. */
  closeFromBelow(code: string, reason: string): void {
    this.#web.close(CLOSE_OWN, closeText(code, reason))
    this.#tell(code, reason)
  }

  /** Drops the connection without a word. */
  terminate(): void {
    this.#web.terminate()
  }

  /**
   * One round of keep-alive, called at a steady pace. Rounds are counted, not milliseconds: after a pause of this process
   * one round has passed, and what came meanwhile is read before the next.
   */
  keepAlive(roundMs: number): void {
    if (this.#web.readyState !== WebSocket.OPEN) return
    const { bytesRead } = this.#socket
    if (bytesRead !== this.#seenBytes) {
      this.#seenBytes = bytesRead
      this.#misses = 0
      return
    }
    this.#misses++
    if (this.#misses < KEEPALIVE_MISSES_MAX) {
      this.#web.ping()
      return
    }
    this.#web.terminate()
    this.#tell('lost', `nothing was heard for ${KEEPALIVE_MISSES_MAX * roundMs} ms`)
  }

  #tell(code: string, reason: string): void {
    if (this.#over) return
    this.#over = true
    this.#close?.(code, reason)
  }
}

function protocolCode(error: unknown): string {
  const code = errorCode(error)
  if (code === 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH') return 'frame-too-large'
  return code.startsWith('WS_ERR_') ? 'protocol-error' : 'lost'
}

function closeText(code: string, reason: string): string {
  const bytes = Buffer.from(`${code} ${reason}`)
  if (bytes.length <= CLOSE_REASON_MAX_BYTES) return bytes.toString()
  // Cut between characters: a close frame must be whole UTF-8.
  let end = CLOSE_REASON_MAX_BYTES
  while ((bytes[end]! & 0xc0) === 0x80) end--
  return bytes.toString('utf8', 0, end)
}

function parseClose(code: number, text: string): readonly [string, string] {
  switch (code) {
    case CLOSE_OWN: {
      const match = /^([a-z][a-z0-9-]{0,40}) (.*)$/s.exec(text)
      return match === null ? ['protocol-error', 'the peer closed without a code'] : [match[1]!, match[2]!]
    }
    case CLOSE_NORMAL:
    case CLOSE_GOING_AWAY:
      return ['closed', text]
    case CLOSE_LOST:
      return ['lost', 'the connection broke']
    case CLOSE_TOO_BIG:
      return ['frame-too-large', 'the peer refused a frame for its length']
    default:
      return ['protocol-error', `the peer closed with ${code} ${text}`.trim()]
  }
}
