// The terminal (or pipe, or file) that this process was started with.

import { createClock } from '@stellwerk/runtime/node/clock.ts'
import { leaveOutputAsItIs, writeOut } from '@stellwerk/runtime/node/terminal-output.ts'
import { createTimers } from '@stellwerk/runtime/node/timers.ts'
import type { Terminal } from '../command-line/command.ts'
import type { Screen } from './live-screen.ts'

const COLUMNS = 120

/** Of those who have something to put right first. */
const readerGone = new Set<() => void>()
/** They know, and end in their own way. */
let isTold = false

/** `f` is called, perhaps more than once, instead of the process's end, when nobody reads what it says any more. */
export function onReaderGone(f: () => void): () => void {
  readerGone.add(f)
  return () => readerGone.delete(f)
}

/** Its window was closed, its connection is gone. */
const TERMINAL_GONE: ReadonlySet<string> = new Set(['EIO', 'ENXIO'])

/** As the system ends who does not listen to it: on the way out by itself Node fails at the terminal's modes, and aborts. */
function hangUp(): void {
  process.removeAllListeners('SIGHUP')
  process.kill(process.pid, 'SIGHUP')
}

function outputFailed(error: Error): void {
  const { code } = error as { code?: string }
  if (readerGone.size > 0 || isTold) {
    isTold = true
    for (const f of readerGone) f()
  } else if (code === 'EPIPE') process.exit(0)
  else if (TERMINAL_GONE.has(code ?? '')) hangUp()
  else throw error
}

export function systemTerminal(): Terminal {
  // Whoever reads us may have had enough: `stellwerk events --follow | head`.
  process.stdout.on('error', outputFailed)
  // What is said beside it is no reason to leave anything broken.
  process.stderr.on('error', outputFailed)
  const isTty = process.stdout.isTTY === true
  return {
    ...(isTty && process.env['TERM'] !== 'dumb' ? { screen: systemScreen() } : {}),
    cwd: process.cwd(),
    variables: process.env,
    isTty,
    get columns() {
      return process.stdout.columns ?? COLUMNS
    },
    out: line => process.stdout.write(`${line}\n`),
    write: text => process.stdout.write(text),
    err: line => process.stderr.write(`${line}\n`),
  }
}

/** The way back: all of the terminal's modes are as they were. */
function takeKeys(heard: (chunk: Buffer) => void): () => void {
  const { stdin } = process
  // Without a keyboard of its own it is ended by a signal.
  if (stdin.isTTY !== true) return () => undefined
  stdin.setRawMode(true)
  stdin.on('data', heard)
  stdin.resume()
  return () => {
    stdin.off('data', heard)
    stdin.setRawMode(false)
    stdin.pause()
  }
}

const ROWS = 24
const STOPPED_MS = 50

function systemScreen(): Screen {
  const { stdin, stdout } = process
  const on = (event: 'resize', f: () => void) => {
    stdout.on(event, f)
    return () => stdout.off(event, f)
  }
  return {
    get columns() {
      return stdout.columns || COLUMNS
    },
    get rows() {
      return stdout.rows || ROWS
    },
    // https://no-color.org: set to anything but nothing.
    colours: (process.env['NO_COLOR'] ?? '') === '',
    write: text => stdout.write(text),
    show: bytes => writeOut(bytes).catch(outputFailed),
    onResize: f => on('resize', f),
    hasKeyboard: stdin.isTTY === true,
    onKeys: f => {
      const heard = (chunk: Buffer): void => f(chunk.toString('utf8'))
      return takeKeys(heard)
    },
    onTyped: f => {
      const giveBack = takeKeys(f)
      leaveOutputAsItIs()
      return giveBack
    },
    onExit: f => {
      process.on('exit', f)
      return () => process.off('exit', f)
    },
    suspend: () =>
      new Promise(resolve => {
        process.kill(0, 'SIGTSTP')
        // No timer runs while it is stopped. Where no shell watches over it, it is not stopped at all, and just goes on.
        createTimers(createClock()).after(STOPPED_MS, resolve)
      }),
  }
}
