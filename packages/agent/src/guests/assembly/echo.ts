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
  const length = inputLength()
  // What it was given before it was asked to shut down is still answered.
  if (length < 0 && shutdownAsked()) return HALT
  // No room to answer: the machine wakes the guest when it has taken some.
  if (length < 0 || consoleRoom() < ROOM) return nextFrame() ? AGAIN : WAIT
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

/** Sends the next frame back, if there is one and room for it. False: there is nothing to do. */
function nextFrame(): bool {
  const length = frameLength()
  if (length < 0) return false
  // What is sent to many has no answer.
  const isAnswered = length >= 2 * MAC_BYTES && (frameByte(0) & 1) == 0
  if (isAnswered) {
    if (!frameRoom(length)) return false
    sendBack(length)
  }
  frameDone(length)
  return true
}

/** With its addresses exchanged. */
function sendBack(length: i32): void {
  for (let n: i32 = 0; n < MAC_BYTES; n++) {
    setFrameByte(n, frameByte(MAC_BYTES + n))
    setFrameByte(MAC_BYTES + n, frameByte(n))
  }
  for (let n: i32 = 2 * MAC_BYTES; n < length; n++) setFrameByte(n, frameByte(n))
  sendFrame(length)
}
