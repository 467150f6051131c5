// The processes of a cluster's nodes as their parents have them on record, so that they are found by anybody, also by who did
// not start them; and signals to exactly those.

import { join } from 'node:path'
import { errorCode } from '@stellwerk/runtime/errors.ts'
import { isStillRunning, type RecordedProcess, readPidRecord } from '@stellwerk/runtime/node/pid-record.ts'

const RECORD = 'children.json'

export interface HostProcesses {
  readonly guardian: readonly RecordedProcess[]
  readonly agent: readonly RecordedProcess[]
  /** Machines of other programs (QEMU), which either has started. */
  readonly programs: readonly RecordedProcess[]
}

export function hostProcesses(directory: string, host: string): HostProcesses {
  const below = [
    ...readPidRecord(join(directory, host, 'guardian', RECORD)),
    ...readPidRecord(join(directory, host, 'agent', RECORD)),
  ].filter(isStillRunning)
  return {
    guardian: ofUp(directory, `${host}/guardian`),
    agent: below.filter(({ name }) => name === `${host}/agent`),
    programs: below.filter(({ name }) => name !== `${host}/agent`),
  }
}

/** `coordinator`, `san-a`: one, or none. */
export function ofUp(directory: string, name: string): readonly RecordedProcess[] {
  return readPidRecord(join(directory, RECORD)).filter(each => each.name === name && isStillRunning(each))
}

/** False: it has ended. */
export function signal(recorded: RecordedProcess, name: 'SIGSTOP' | 'SIGCONT' | 'SIGKILL' | 'SIGTERM'): boolean {
  if (!isStillRunning(recorded)) return false
  try {
    process.kill(recorded.pid, name)
    return true
  } catch (error) {
    if (errorCode(error) === 'ESRCH') return false
    throw error
  }
}
