// `stellwerk cluster …`: what is set, and a lost coordinator's state back from a volume.

import { join } from 'node:path'
import { restoreFrom } from '@stellwerk/coordinator/core/cluster-copy.ts'
import { findClusterCopy } from '@stellwerk/csv/format/cluster-copy.ts'
import { OWNER_IO } from '@stellwerk/csv/format/device-io.ts'
import { findSuperblock } from '@stellwerk/csv/format/superblock.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { createClock } from '@stellwerk/runtime/node/clock.ts'
import { pathOf } from '../api-client/client.ts'
import { hasState, makeState } from '../cluster/coordinator-state.ts'
import { clusterIn, filesOf } from '../cluster/directory.ts'
import { legsOf } from '../cluster/lun-legs.ts'
import { hostsLetIn } from '../cluster/storage-hosts.ts'
import { type CommandSpec, DIR, JSON_OUT, OK } from '../command-line/command.ts'

const config: CommandSpec = {
  words: 'cluster config',
  args: [],
  options: { dir: DIR, json: JSON_OUT },
  summary: 'The settings in force',
  run: async (context, input) => {
    const answer = (await (await context.api(input)).get(pathOf('config'))) as {
      cluster: string
      term: number
      settings: Record<string, number>
    }
    if (input.flag('json')) {
      context.terminal.out(JSON.stringify(answer))
      return OK
    }
    context.terminal.out(`cluster ${answer.cluster}, term ${answer.term}`)
    for (const [name, value] of Object.entries(answer.settings)) context.terminal.out(`  ${name.padEnd(20)} ${value}`)
    return OK
  },
}

const restore: CommandSpec = {
  words: 'cluster restore',
  args: ['VOLUME'],
  options: {
    dir: DIR,
    'without-leg': {
      type: 'string',
      value: 'STORAGE',
      help: 'these storages, by comma, are LOST for good: take the copy of a leg that is left, however old it is',
    },
  },
  summary: 'Make a lost coordinator’s state anew from the copy on a volume, while the cluster is down',
  run: async (context, input) => {
    const directory = context.directory(input)
    const [volume = ''] = input.args
    const lost = input.text('without-leg')?.split(',') ?? []
    const { legs, close } = await legsOf(directory, volume, lost).catch(withWayOut)
    try {
      if (await hasState(filesOf(directory), 'coordinator')) {
        throw new StellwerkError('state-exists', 'the coordinator has a state', {
          where: join(directory, 'coordinator'),
          hint: 'move that directory away first, if it really is lost or damaged',
        })
      }
      const known = await clusterIn(directory)
      const changes = await changesFrom(legs, volume, known.cluster)
      const letIn = await hostsLetIn(directory, known)
      await makeState(directory, 'coordinator', changes)
      const count = (table: string) =>
        changes.filter(change => 'put' in change && change.put.startsWith(`${table}/`)).length
      context.terminal.out(
        `restored ${count('vms')} VMs, ${count('volumes')} volumes, ${count('hosts')} hosts; start it: npx stellwerk up`,
      )
      const joined = [...letIn].filter(
        ([host]) => !changes.some(change => 'put' in change && change.put === `hosts/${host}`),
      )
      for (const [host, storage] of joined.sort()) {
        context.terminal.out(`${host} joined after the copy was written, as ${storage} knows: end its processes before`)
      }
      return OK
    } finally {
      await close()
    }
  },
}

/** To read the copy one leg would do, but only an operator can say that no other one is to be waited for. */
function withWayOut(error: unknown): never {
  const isMissed = error instanceof StellwerkError && (error.code === 'leg-missing' || error.code === 'missing-file')
  if (!isMissed) throw error
  throw new StellwerkError(error.code, error.message, {
    ...(error.where === undefined ? {} : { where: error.where }),
    hint: 'bring back the storage that has it; if that is lost for good, and what only it had with it: --without-leg STORAGE',
    cause: error,
  })
}

async function changesFrom(legs: Awaited<ReturnType<typeof legsOf>>['legs'], volume: string, cluster: string) {
  let newest: Awaited<ReturnType<typeof findClusterCopy>>['newest'] = null
  for (const leg of legs) {
    const { superblock } = await findSuperblock(leg.device, {}, OWNER_IO)
    const found = await findClusterCopy(leg.device, superblock.layout, OWNER_IO)
    if (found.newest !== null && (newest === null || found.newest.version > newest.version)) newest = found.newest
  }
  if (newest === null) {
    throw new StellwerkError('bad-copy', `volume "${volume}" carries no copy of the cluster`, {
      hint: 'try another volume',
    })
  }
  const changes = restoreFrom(newest.value, createClock().wall())
  const [record] = changes.flatMap(change => ('put' in change && change.put === 'cluster' ? [change.value] : []))
  const { cluster: name } = record as { cluster: string }
  if (name === cluster) return changes
  throw new StellwerkError('foreign-state', `the volume's copy is of cluster "${name}", not "${cluster}"`, {
    where: volume,
    hint: 'name a volume of this cluster',
  })
}

export const commands: readonly CommandSpec[] = [config, restore]
