// Which process is a directory's `up`: written by it while it holds the lock, and believed only while that very process
// (not another that got its pid) runs.

import type { Files } from '@stellwerk/runtime/environment.ts'
import { identifyProcess } from '@stellwerk/runtime/node/pid-record.ts'
import { filesOf, UP_FILE } from './directory.ts'

export interface UpRecord {
  readonly pid: number
  readonly bootId: string
  readonly startTicks: number
}

export async function writeUpRecord(files: Files, pid: number): Promise<void> {
  await files.writeAtomic(UP_FILE, Buffer.from(JSON.stringify({ pid, ...identifyProcess(pid) })))
}

/** Null: none runs. */
export async function lookAtUp(directory: string): Promise<UpRecord | null> {
  const bytes = await filesOf(directory).read(UP_FILE)
  if (bytes === null) return null
  let record: UpRecord
  try {
    record = JSON.parse(Buffer.from(bytes).toString('utf8')) as UpRecord
  } catch (error) {
    // Damaged: then nobody can be told from it, and the lock still keeps a second one out.
    if (error instanceof SyntaxError) return null
    throw error
  }
  const now = Number.isSafeInteger(record.pid) ? identifyProcess(record.pid) : null
  return now !== null && now.bootId === record.bootId && now.startTicks === record.startTicks ? record : null
}
