// What the terminal that this process was started from does to what is written to it.

import { spawnSync } from 'node:child_process'

/**
 * Nothing, from now on: raw mode (tty.ReadStream.setRawMode) leaves it to go back to the first column at a line's end. Ended by the
 * end of raw mode. Where there is no `stty` it stays as it is.
 */
export function leaveOutputAsItIs(): void {
  spawnSync('stty', ['-opost'], { stdio: ['inherit', 'ignore', 'ignore'] })
}
