// What the terminal that this process was started from does to what is written to it, and bytes for it.

import { spawnSync } from 'node:child_process'
import { write } from 'node:fs'

/**
 * Nothing, from now on: raw mode (tty.ReadStream.setRawMode) leaves it to go back to the first column at a line's end. Ended by the
 * end of raw mode. Where there is no `stty` it stays as it is.
 */
export function leaveOutputAsItIs(): void {
  spawnSync('stty', ['-opost'], { stdio: ['inherit', 'ignore', 'ignore'] })
}

const STANDARD_OUTPUT = 1
/** What was asked for goes out one behind the other. */
let last: Promise<void> = Promise.resolve()

/**
 * Resolves when it has gone out. Node writes to a terminal at once and waits for it (process I/O, "A note on process I/O"): one that
 * its user has stopped would stop this process, and its links with it.
 */
export function writeOut(bytes: Uint8Array): Promise<void> {
  const done = last.then(() => writeAll(bytes))
  // Whoever asked for it hears of it.
  last = done.catch(() => undefined)
  return done
}

async function writeAll(bytes: Uint8Array): Promise<void> {
  for (let rest = bytes; rest.length > 0; ) {
    const written = await new Promise<number>((resolve, reject) =>
      write(STANDARD_OUTPUT, rest, (error, count) => (error === null ? resolve(count) : reject(error))),
    )
    rest = rest.subarray(written)
  }
}
