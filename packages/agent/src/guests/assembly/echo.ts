// The `echo` guest: says every line it is given, counted, and sends every frame that is sent to it alone back to where it came from.
// It also shows that exported globals are state: the count is one.

import {
  clockMs,
  consoleRoom,
  diskBytes,
  endLine,
  frameByte,
  frameDone,
  frameLength,
  frameRoom,
  HALT,
  inputByte,
  inputDone,
  inputIs,
  inputLength,
  memoryBytes,
  say,
  sayByte,
  sayNumber,
  sendFrame,
  setFrameByte,
  shutdownAsked,
  WAIT,
  AGAIN,
} from './machine'

/** The version of the machine this guest is made for. */
export const machineVersion: i32 = 1
export let lines: i32 = 0
export let booted: i32 = 0

/** A line of its own and the longest input. */
const ROOM: u32 = 4096 + 128
const MAC_BYTES: i32 = 6

export function step(_budget: i32): i32 {
  if (!booted) {
    booted = 1
    say('boot')
    endLine()
    return AGAIN
  }
  const frame = frameLength()
  if (frame >= 0) {
    // No room: the machine wakes the guest when it has taken some.
    if (!frameRoom(frame)) return WAIT
    sendBack(frame)
    frameDone(frame)
    return AGAIN
  }
  const length = inputLength()
  // What it was given before it was asked to shut down is still answered.
  if (length < 0) return shutdownAsked() ? HALT : WAIT
  // No room: the machine wakes the guest when it has taken some.
  if (consoleRoom() < ROOM) return WAIT
  if (inputIs(length, 'halt')) return HALT
  if (inputIs(length, 'crash')) unreachable()
  lines++
  if (inputIs(length, 'status')) {
    say('status lines ')
    sayNumber(lines)
    say(' memory ')
    sayNumber(memoryBytes())
    say(' disk ')
    sayNumber(diskBytes())
    say(' clock ')
    sayNumber(<u64>clockMs())
  } else {
    say('echo ')
    sayNumber(lines)
    say(' ')
    for (let n: i32 = 0; n < length; n++) sayByte(inputByte(n))
  }
  endLine()
  inputDone(length)
  return AGAIN
}

/** With its addresses exchanged; what is sent to many has no answer. */
function sendBack(length: i32): void {
  if (length < 2 * MAC_BYTES || (frameByte(0) & 1) != 0) return
  for (let n: i32 = 0; n < MAC_BYTES; n++) {
    setFrameByte(n, frameByte(MAC_BYTES + n))
    setFrameByte(MAC_BYTES + n, frameByte(n))
  }
  for (let n: i32 = 2 * MAC_BYTES; n < length; n++) setFrameByte(n, frameByte(n))
  sendFrame(length)
}
