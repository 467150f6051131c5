// Asks an NBD server whether it is there, as far as its own word goes without opening anything: a fresh connection, the
// greeting, and goodbye. Answered from memory: a slow disk is not a dead server.

import type { ByteStream, Timers } from '@stellwerk/runtime/environment.ts'
import { errorMessage } from '@stellwerk/runtime/errors.ts'
import { encodeOption } from './options.ts'
import { StreamParser } from './stream-parser.ts'
import {
  GREETING_BYTES,
  HANDSHAKE_FIXED_NEWSTYLE,
  HANDSHAKE_NO_ZEROES,
  MAGIC_INIT_HI,
  MAGIC_INIT_LO,
  MAGIC_OPTION_HI,
  MAGIC_OPTION_LO,
  NbdError,
  OPT_ABORT,
  readU16,
  readU32,
  writeU32,
} from './wire.ts'

/** Resolves when the server has greeted; rejects with an NbdError. The stream is over in any case. */
export function probeNbd(stream: ByteStream, timers: Timers, timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const parser = new StreamParser()
    const timer = timers.after(timeoutMs, () => {
      over(new NbdError('nbd-lost', `the server has not greeted for ${Math.round(timeoutMs)} ms`, stream.peer))
    })
    let settled = false
    const over = (error: NbdError | null): void => {
      if (settled) return
      settled = true
      timer.cancel()
      parser.discard()
      stream.destroy()
      if (error === null) resolve()
      else reject(error)
    }
    parser.header(GREETING_BYTES, (bytes, at) => {
      const isNbd = readU32(bytes, at) === MAGIC_INIT_HI && readU32(bytes, at + 4) === MAGIC_INIT_LO
      const isNew = readU32(bytes, at + 8) === MAGIC_OPTION_HI && readU32(bytes, at + 12) === MAGIC_OPTION_LO
      if (!isNbd || !isNew) {
        over(new NbdError('nbd-unsupported', 'it does not speak the newstyle NBD handshake', stream.peer))
        return
      }
      const flags = readU16(bytes, at + 16)
      const answer = new Uint8Array(4)
      writeU32(answer, 0, flags & (HANDSHAKE_FIXED_NEWSTYLE | HANDSHAKE_NO_ZEROES))
      const fixed = (flags & HANDSHAKE_FIXED_NEWSTYLE) !== 0
      stream.write(fixed ? [answer, encodeOption(OPT_ABORT, new Uint8Array(0))] : [answer])
      over(null)
    })
    stream.onData(chunk => {
      if (!settled) parser.push(chunk)
    })
    const ended = (why: string) => over(new NbdError('nbd-lost', why, stream.peer))
    stream.onEnd(() => ended('the server ended the connection before it greeted'))
    stream.onClose(error => ended(error === null ? 'the connection was closed' : errorMessage(error)))
  })
}
