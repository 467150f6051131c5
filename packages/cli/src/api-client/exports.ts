// A disk's export by the running cluster, from the outside: until it is served, and until it is gone.

import type { ExportView } from '@stellwerk/coordinator/view/schemas.ts'
import { errorCode } from '@stellwerk/runtime/errors.ts'
import { type Sleep, untilInterrupted } from '../terminal/until-interrupted.ts'
import { type ApiClient, pathOf } from './client.ts'

const POLL_MS = 100
/** An export that is not served after so many looks has a reason, which is told. */
const PATIENT_POLLS = 20

/** Null: the user has had enough of waiting. */
export async function untilServed(
  client: ApiClient,
  volume: string,
  disk: string,
  sleep: Sleep,
  say: (line: string) => void,
): Promise<ExportView | null> {
  let said = ''
  let polls = 0
  do {
    const view = await lookAtExport(client, volume, disk)
    if (view.uri !== null) return view
    const line = `waiting: ${view.state}${view.why === null ? '' : `, ${view.why}`}`
    polls += 1
    if (polls < PATIENT_POLLS || line === said) continue
    say(line)
    said = line
  } while (await sleep(POLL_MS))
  return null
}

export async function lookAtExport(client: ApiClient, volume: string, disk: string): Promise<ExportView> {
  return (await client.get(pathOf('volumes', volume, 'disks', disk, 'export'))) as ExportView
}

export async function endExport(client: ApiClient, volume: string, disk: string): Promise<void> {
  try {
    await client.delete(pathOf('volumes', volume, 'disks', disk, 'export'))
  } catch (error) {
    // It has ended by itself, and the user was told why.
    if (errorCode(error) !== 'unknown-export') throw error
    return
  }
  await untilInterrupted(sleep => untilGone(client, volume, disk, sleep))
}

export async function untilGone(client: ApiClient, volume: string, disk: string, sleep: Sleep): Promise<void> {
  do {
    try {
      await lookAtExport(client, volume, disk)
    } catch (error) {
      if (errorCode(error) !== 'unknown-export') throw error
      return
    }
  } while (await sleep(POLL_MS))
}
