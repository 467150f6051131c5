// `stellwerk volume check`: proves a volume's format. With the cluster up its owner is asked, which stands still for it; with
// the cluster down, or for a LUN that lies elsewhere, it is read from here. Changes nothing, unless it is to give back leaks
// or to compare legs (volume-scrub.ts).

import { type CheckReport, checkVolume } from '@stellwerk/csv/check.ts'
import type { CheckAnswer } from '@stellwerk/protocol/messages/volume-check.ts'
import type { ScrubReport } from '@stellwerk/protocol/messages/volume-scrub.ts'
import { isNbdUri } from '@stellwerk/protocol/nbd-uri.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { createClock } from '@stellwerk/runtime/node/clock.ts'
import { createNetwork } from '@stellwerk/runtime/node/network.ts'
import { createTimers } from '@stellwerk/runtime/node/timers.ts'
import { pathOf } from '../api-client/client.ts'
import { legsAtUris, legsInFiles, legsOf, type OpenLegs } from '../cluster/lun-legs.ts'
import { lookAtUp } from '../cluster/up-record.ts'
import {
  type CommandContext,
  type CommandSpec,
  DIR,
  FAILED,
  type Input,
  JSON_OUT,
  OK,
  type Terminal,
} from '../command-line/command.ts'
import { isClean, scrubNamed, tellScrub } from './volume-scrub.ts'

/** The owner of a large volume has much to read. */
const LIVE_TIMEOUT_MS = 60_000

type Report = CheckReport | CheckAnswer

export const checkCommand: CommandSpec = {
  words: 'volume check',
  args: ['NAME?'],
  options: {
    dir: DIR,
    json: JSON_OUT,
    file: { type: 'string', multiple: true, value: 'PATH', help: 'check this LUN’s data file instead; once a leg' },
    repair: { type: 'boolean', help: 'give back extents that are in use and that nothing maps; changes nothing else' },
    scrub: {
      type: 'boolean',
      help: 'compare the legs of a mirror first, online; writes only what something says is right',
    },
    'good-leg': { type: 'string', value: 'LEG', help: 'with --scrub: right where nothing else decides; is copied' },
    last: { type: 'boolean', help: 'with --scrub: tell what the last one found, or how far it is; begin none' },
    cancel: { type: 'boolean', help: 'with --scrub: end the one that runs, and tell what it has found' },
    nbd: { type: 'string', multiple: true, value: 'URI', help: 'check the LUN that an NBD server has; once a leg' },
  },
  summary: 'Prove that a volume is sound: one of the cluster, up or down, or a LUN anywhere',
  run: async (context, input) => {
    const { terminal } = context
    const [name] = input.args
    const files = input.texts('file')
    const uris = [...(name !== undefined && isNbdUri(name) ? [name] : []), ...input.texts('nbd')]
    const volume = name === undefined || isNbdUri(name) ? null : name
    const kinds = [volume !== null, files.length > 0, uris.length > 0].filter(Boolean).length
    if (kinds !== 1) {
      throw new StellwerkError('usage', 'name either a volume, files or NBD URIs', {
        where: 'stellwerk volume check',
        hint: 'say: stellwerk volume check NAME, or --file PATH, or nbd://HOST:PORT/LUN',
      })
    }
    const what = volume ?? [...files, ...uris].join(', ')
    if (input.flag('repair')) {
      if (volume === null) {
        throw new StellwerkError('usage', 'only a volume of the cluster is repaired', {
          where: 'stellwerk volume check --repair',
          hint: 'say: stellwerk volume check NAME --repair',
        })
      }
      const freed = await repairNamed(context, input, volume)
      if (freed > 0 && !input.flag('json')) terminal.out(`${freed} extents that nothing mapped are given back`)
    }
    const scrub = await scrubbed(context, input, volume)
    if (scrub !== null && (input.flag('last') || input.flag('cancel'))) {
      if (input.flag('json')) terminal.out(JSON.stringify({ scrub }))
      else tellScrub(terminal, what, scrub)
      // Who cancels one has what was asked for when it has ended, whatever it had found.
      return input.flag('cancel') || isClean(scrub) ? OK : FAILED
    }
    const report = volume === null ? await checkElsewhere(files, uris) : await checkNamed(context, input, volume)
    if (input.flag('json')) terminal.out(JSON.stringify(scrub === null ? report : { ...report, scrub }))
    else {
      if (scrub !== null) tellScrub(terminal, what, scrub)
      tell(terminal, what, report)
    }
    return report.clean && (scrub === null || isClean(scrub)) ? OK : FAILED
  },
}

async function scrubbed(context: CommandContext, input: Input, volume: string | null): Promise<ScrubReport | null> {
  if (!input.flag('scrub')) {
    const given = {
      '--last': input.flag('last'),
      '--cancel': input.flag('cancel'),
      '--good-leg': input.text('good-leg'),
    }
    const stray = Object.entries(given).find(([, value]) => value !== undefined && value !== false)?.[0]
    if (stray === undefined) return null
    throw new StellwerkError('usage', `${stray} belongs to --scrub`, { where: 'stellwerk volume check' })
  }
  if (volume !== null) return scrubNamed(context, input, volume)
  throw new StellwerkError('usage', 'only a volume of the cluster is scrubbed', {
    where: 'stellwerk volume check --scrub',
    hint: 'say: stellwerk volume check NAME --scrub',
  })
}

async function checkNamed(context: CommandContext, input: Input, volume: string): Promise<Report> {
  const directory = context.directory(input)
  if (!context.isRemote && (await lookAtUp(directory)) === null) return checkOpened(await legsOf(directory, volume))
  const client = await context.api(input)
  return (await client.post(pathOf('volumes', volume, 'check'), {}, LIVE_TIMEOUT_MS)) as CheckAnswer
}

/** Its owner does it: nobody else may write there. */
async function repairNamed(context: CommandContext, input: Input, volume: string): Promise<number> {
  const directory = context.directory(input)
  if (!context.isRemote && (await lookAtUp(directory)) === null) {
    throw new StellwerkError('cluster-down', 'the cluster is down: the volume has no owner to repair it', {
      where: directory,
      hint: 'start it: npx stellwerk up',
    })
  }
  const client = await context.api(input)
  const answer = await client.post(pathOf('volumes', volume, 'repair'), {}, LIVE_TIMEOUT_MS)
  return (answer as { freed: number }).freed
}

async function checkElsewhere(files: readonly string[], uris: readonly string[]): Promise<Report> {
  if (files.length > 0) return checkOpened(await legsInFiles(files))
  const network = createNetwork()
  try {
    return await checkOpened(await legsAtUris({ network, timers: createTimers(createClock()) }, uris))
  } finally {
    await network.close()
  }
}

async function checkOpened({ legs, leastOwnerEpoch, close }: OpenLegs): Promise<Report> {
  try {
    return await checkVolume(legs, {}, leastOwnerEpoch)
  } finally {
    await close()
  }
}

function tell(terminal: Terminal, what: string, report: Report): void {
  for (const found of report.findings) {
    terminal.out(`${found.severity}: ${found.leg}, ${found.where}: ${found.message} (${found.code})`)
  }
  const more = 'more' in report ? report.more : 0
  if (more > 0) terminal.out(`and ${more} more findings`)
  const { summary } = report
  if (summary !== null) {
    const { disks, usedExtents, extents, sequence } = summary
    terminal.out(`${what}: ${disks} disks, ${usedExtents} of ${extents} extents used, ${sequence} records`)
  }
  terminal.out(report.clean ? `${what} is sound` : `${what} is damaged`)
}
