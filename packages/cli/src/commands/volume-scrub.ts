// `stellwerk volume check NAME --scrub`: has the volume's owner compare its legs, waits, and tells what was found, which leg
// was repaired and why, and what to do where nobody can say which leg is right.

import type { VolumeView } from '@stellwerk/coordinator/view/schemas.ts'
import type { ScrubFinding, ScrubReport } from '@stellwerk/protocol/messages/volume-scrub.ts'
import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { createClock } from '@stellwerk/runtime/node/clock.ts'
import { createTimers } from '@stellwerk/runtime/node/timers.ts'
import { type ApiClient, pathOf } from '../api-client/client.ts'
import type { CommandContext, Input, Terminal } from '../command-line/command.ts'
import { bytes } from '../render/units.ts'

const LOOK_MS = 500
/** An owner lost right after its scrub tells the cluster nothing any more: not longer than this is waited for it. */
const SETTLE_MS = 10_000
const SETTLE_LOOK_MS = 50
/** An owner that begins anew, or cannot be asked for a moment, is asked again for so long. */
const PATIENCE_MS = 30_000
/** Words of progress at most so often. */
const SAY_MS = 5_000

/** Legs agree, or agree now. */
export function isClean(report: ScrubReport): boolean {
  return report.state === 'done' && report.unresolved === 0 && report.skipped === 0
}

export async function scrubNamed(context: CommandContext, input: Input, volume: string): Promise<ScrubReport> {
  const client = await context.api(input)
  if (input.flag('last')) return (await client.get(pathOf('volumes', volume, 'scrub'))) as ScrubReport
  if (input.flag('cancel')) {
    const { scrub } = (await client.delete(pathOf('volumes', volume, 'scrub'))) as { scrub: string }
    return followScrub(client, volume, scrub, () => undefined)
  }
  const goodLeg = input.text('good-leg')
  const answer = await client.post(pathOf('volumes', volume, 'scrub'), goodLeg === undefined ? {} : { goodLeg })
  const say = input.flag('json') ? () => undefined : (text: string) => context.terminal.out(text)
  return followScrub(client, volume, (answer as { scrub: string }).scrub, say)
}

async function followScrub(
  client: ApiClient,
  volume: string,
  scrub: string,
  say: (text: string) => void,
): Promise<ScrubReport> {
  const clock = createClock()
  const timers = createTimers(clock)
  let heardAt = clock.now()
  let saidAt = clock.now()
  for (;;) {
    const report = await look(client, volume)
    if (report?.scrub === scrub && report.state !== 'running') {
      // Its owner says so; the cluster hears of it with a heartbeat, and would refuse a next scrub until then.
      const until = clock.now() + SETTLE_MS
      while (!(await isKnownToHaveEnded(client, volume, scrub)) && clock.now() < until) {
        await new Promise<void>(resolve => timers.after(SETTLE_LOOK_MS, resolve))
      }
      return report
    }
    if (report !== null) {
      heardAt = clock.now()
      if (report.scrub !== scrub) throw lost(volume)
      if (clock.now() - saidAt >= SAY_MS) {
        saidAt = clock.now()
        say(`${bytes(report.doneBytes)} of ${bytes(report.totalBytes)} compared`)
      }
    } else if (clock.now() - heardAt > PATIENCE_MS) throw lost(volume)
    await new Promise<void>(resolve => timers.after(LOOK_MS, resolve))
  }
}

async function isKnownToHaveEnded(client: ApiClient, volume: string, scrub: string): Promise<boolean> {
  const view = await ask<VolumeView>(client, pathOf('volumes', volume))
  return view?.scrub?.scrub === scrub && view.scrub.state !== 'running'
}

function look(client: ApiClient, volume: string): Promise<ScrubReport | null> {
  return ask<ScrubReport>(client, pathOf('volumes', volume, 'scrub'))
}

/** Null: nobody answers at this moment, or the owner knows of no scrub. */
async function ask<T>(client: ApiClient, path: string): Promise<T | null> {
  try {
    return (await client.get(path)) as T
  } catch (error) {
    if (error instanceof StellwerkError && (error.retryable || errorCode(error) === 'no-scrub')) return null
    throw error
  }
}

function lost(volume: string): StellwerkError {
  return new StellwerkError('scrub-lost', `the scrub of volume "${volume}" has ended with its owner`, {
    where: volume,
    hint: `begin it again: stellwerk volume check ${volume} --scrub`,
  })
}

export function tellScrub(terminal: Terminal, volume: string, report: ScrubReport): void {
  for (const finding of report.findings) terminal.out(findingLine(finding))
  if (report.more > 0) terminal.out(`and ${report.more} more places`)
  const { state, doneBytes, totalBytes, repaired, unresolved, skipped, why, legs } = report
  const compared = `${bytes(doneBytes)} of ${bytes(totalBytes)} compared on ${legs.join(' and ')}`
  const found = `${repaired} repaired, ${unresolved} undecided, ${skipped} not compared`
  terminal.out(`${volume}: ${compared}: ${found}`)
  if (state === 'failed') terminal.out(`it ended early: ${why ?? 'for no known reason'}`)
  if (state === 'running') terminal.out('it is still running')
  if (!report.findings.some(isUndecided)) return
  terminal.out(
    'Nothing was copied where nothing says which leg is right. Guests read the leg that is named first. Compare',
  )
  terminal.out('what a guest has there with a backup, or with what its programs can check by themselves; then say:')
  terminal.out(`  stellwerk volume check ${volume} --scrub --good-leg LEG    copies these places from that leg`)
  terminal.out(
    `  stellwerk volume mirror ${volume} --remove LEG             takes a leg away that is not to be trusted at all`,
  )
}

function isUndecided({ kind, repaired }: ScrubFinding): boolean {
  return kind === 'differs' && repaired === null
}

const BY = {
  unreadable: 'could not read it',
  checksum: 'its checksum does not hold',
  operator: 'it was not the leg named',
}

function findingLine(finding: ScrubFinding): string {
  const { kind, where, offset, address, length, legs, repaired, why } = finding
  const place = `${where}, ${length} bytes at ${offset}${offset === address ? '' : ` (${address} on the LUN)`}`
  if (kind === 'not-compared') return `not compared: ${place}: ${why ?? ''}`
  if (repaired !== null) {
    return `repaired: ${place}: ${repaired.leg} written anew from ${repaired.from}: ${BY[repaired.by]}`
  }
  if (kind === 'unreadable') return `UNREADABLE: ${place}: on ${legs.join(' and ')}: ${why ?? ''}`
  return `UNDECIDED: ${place}: ${legs.join(' and ')} differ${why === null ? '' : `: ${why}`}`
}
