// The durable record of the children a process has started, so that its successor can end those that outlived it. A pid
// alone may by then be another process's: boot, pid and start time together name one process for ever.

import { closeSync, fsyncSync, openSync, readdirSync, readFileSync, renameSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Json } from '../environment.ts'
import { errorCode, StellwerkError } from '../errors.ts'

export interface RecordedProcess {
  readonly pid: number
  readonly bootId: string
  /** Clock ticks from boot to the start of the process. */
  readonly startTicks: number
  readonly program: string
  readonly name: string
}

/** The system's identity of a process that exists now, or null if there is none by this pid (or it is only unreaped). */
export function identifyProcess(pid: number): { readonly bootId: string; readonly startTicks: number } | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // The second field is the command in parentheses, and may itself contain anything.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    const [state] = fields
    // A zombie is gone once no thread of it is left.
    if ((state === 'Z' || state === 'X') && readdirSync(`/proc/${pid}/task`).length <= 1) return null
    const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()
    return { bootId, startTicks: Number(fields[19]) }
  } catch (error) {
    const code = errorCode(error)
    if (code === 'ENOENT' || code === 'ESRCH') return null
    throw error
  }
}

export function isStillRunning(process: RecordedProcess): boolean {
  const now = identifyProcess(process.pid)
  return now !== null && now.bootId === process.bootId && now.startTicks === process.startTicks
}

/** SIGKILL for exactly that process: false if it has ended, whoever has its pid by now. */
export function killRecorded(recorded: RecordedProcess): boolean {
  if (!isStillRunning(recorded)) return false
  try {
    process.kill(recorded.pid, 'SIGKILL')
    return true
  } catch (error) {
    if (errorCode(error) === 'ESRCH') return false
    throw error
  }
}

/** Throws `corrupt-state`. */
export function readPidRecord(file: string): readonly RecordedProcess[] {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return []
    throw error
  }
  const record = parse(text)
  if (record !== null) return record
  throw new StellwerkError('corrupt-state', 'the record of started processes is damaged', {
    where: file,
    hint: 'see that no old Stellwerk process runs on this machine, then remove the file',
  })
}

/** Atomic and durable when it returns. Synchronous, because a child must not do anything before it is recorded. */
export function writePidRecord(file: string, processes: readonly RecordedProcess[]): void {
  const aside = `${file}.aside`
  const fd = openSync(aside, 'w', 0o600)
  try {
    writeSync(fd, JSON.stringify(processes))
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
  renameSync(aside, file)
  const directory = openSync(dirname(file), 'r')
  try {
    fsyncSync(directory)
  } finally {
    closeSync(directory)
  }
}

function parse(text: string): RecordedProcess[] | null {
  let value: Json
  try {
    value = JSON.parse(text) as Json
  } catch (error) {
    if (error instanceof SyntaxError) return null
    throw error
  }
  return Array.isArray(value) && value.every(isRecorded) ? (value as unknown as RecordedProcess[]) : null
}

function isRecorded(value: Json): boolean {
  if (typeof value !== 'object' || value === null) return false
  const { pid, bootId, startTicks, program, name } = value as Record<string, unknown>
  return (
    Number.isSafeInteger(pid) &&
    Number.isSafeInteger(startTicks) &&
    [bootId, program, name].every(field => typeof field === 'string')
  )
}
