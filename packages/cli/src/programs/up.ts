// What `up` does, in a terminal or detached: opens the cluster, starts it, gives it something to do, shows it, ends it.

import type { Json, ProcessSpec, TraceLevel } from '@stellwerk/runtime/environment.ts'
import { describeError, errorCode, tellError } from '@stellwerk/runtime/errors.ts'
import { parentOfThisProcess } from '@stellwerk/runtime/node/parent-pipe.ts'
import { forgetBroken } from '../chaos/local/journal.ts'
import type { ClusterFile, ExternalStorage } from '../cluster/cluster-file.ts'
import { ConsoleFollower } from '../cluster/console-follower.ts'
import { ensureGuests, ensureVolume, untilGuestsRun, untilHostsUp } from '../cluster/first-use.ts'
import { LocalCluster } from '../cluster/local-cluster.ts'
import { takeWishes } from '../cluster/start-wish.ts'
import { writeUpRecord } from '../cluster/up-record.ts'
import { OK, type Terminal } from '../command-line/command.ts'
import type { GuestChoice } from '../images/ledger-guest.ts'
import { UpView } from '../render/up-view.ts'

/** Tells a running `up` that there are wishes for what it is to start again (start-wish.ts). */
export const RESTART_SIGNAL = 'SIGUSR2'

export interface UpSettings {
  readonly directory: string
  readonly hosts: number
  readonly memoryBytes: number
  readonly profile: ClusterFile['profile']
  readonly external: readonly ExternalStorage[]
  readonly bridges: readonly (readonly [network: string, bridge: string])[]
  readonly supervise: boolean
  /** Guests are made if there is no VM yet; null: none. */
  readonly guests: GuestChoice | null
  /** Its processes can be told faults (`chaos cut`). */
  readonly chaos: boolean
  readonly traceLevel: TraceLevel
}

export async function runUp(
  settings: UpSettings,
  terminal: Terminal,
  onUp: (lines: string[], isWhole: boolean) => void = () => undefined,
): Promise<number> {
  const view: { current: UpView | null } = { current: null }
  const cluster = await LocalCluster.open({
    ...settings,
    faults: settings.chaos,
    logLevel: 'info',
    onEnded: (name, ended) => view.current?.processEnded(name, ended),
  })
  // What is started anew is whole.
  await forgetBroken(cluster.env.files)
  await takeWishes(cluster.env.files)
  const { env } = cluster
  const startedAt = env.clock.now()
  const stopped = Promise.withResolvers<void>()
  let isStopped = false
  env.processes.onStop(() => {
    isStopped = true
    stopped.resolve()
  })
  // From another `up` on the same directory, which found that something of the cluster is missing.
  process.on(RESTART_SIGNAL, () => {
    startAgain(cluster).catch((error: unknown) => {
      shown.say(`it did not start again: ${describeError(error)}`)
    })
  })
  const shown = new UpView(cluster, terminal)
  view.current = shown
  const follower = new ConsoleFollower({
    env,
    cluster: cluster.file.cluster,
    token: cluster.tokens.join,
    onLine: line => shown.consoleLine(line),
  })
  const since = () => `${((env.clock.now() - startedAt) / 1000).toFixed(1)} s`
  let failure: unknown = null
  try {
    await writeUpRecord(env.files, process.pid)
    shown.say(
      cluster.isNew ? `making a cluster in ${settings.directory}` : `recovering the cluster in ${settings.directory}`,
    )
    const missing = (await Promise.race([bringUp(cluster, settings, follower), stopped.promise])) ?? []
    if (settings.guests !== null && missing.length === 0)
      await Promise.race([shown.untilAcknowledged(), stopped.promise])
    if (!isStopped) {
      const lines = [
        ...missing.map(line => `missing: ${line}`),
        `up after ${since()}; in another terminal: npx stellwerk status`,
      ]
      for (const line of lines) shown.say(line)
      onUp(lines, missing.length === 0)
      shown.start()
    }
    await stopped.promise
  } catch (error) {
    failure = error
  }
  shown.stop()
  follower.stop()
  if (failure === null || errorCode(failure) === 'stopping') shown.say('ending: guests, then agents, then storage')
  await cluster.stop()
  if (failure !== null && errorCode(failure) !== 'stopping') throw failure
  shown.say('the cluster is down; the next start recovers it')
  return OK
}

/** What other processes have wished for. One node that does not start keeps none of the others; the first one's reason is thrown. */
async function startAgain(cluster: LocalCluster): Promise<void> {
  const failures: unknown[] = []
  for (const wish of await takeWishes(cluster.env.files)) {
    const starts = wish === 'all' ? [() => cluster.restartEnded()] : wish.map(node => () => cluster.startNode(node))
    for (const start of starts) await start().catch((error: unknown) => failures.push(error))
  }
  if (failures.length > 0) throw failures[0]
}

/** Gives what did not come up: one bad part does not keep the others from serving. */
async function bringUp(cluster: LocalCluster, settings: UpSettings, follower: ConsoleFollower): Promise<string[]> {
  const failed = await cluster.start()
  follower.follow(
    cluster.file.hosts.map(({ name, port }) => ({
      name,
      control: { network: 'cluster', host: cluster.file.address, port },
    })),
  )
  const missing = [...failed].map(([name, error]) => `${name} did not start: ${describeError(error)}`)
  missing.push(...(await untilHostsUp(cluster, new Set(failed.keys()))))
  missing.push(...(await ensureVolume(cluster)))
  if (settings.guests !== null) missing.push(...(await ensureGuests(cluster, settings.guests)))
  missing.push(...(await untilGuestsRun(cluster)))
  return missing
}

/** The program `up`: spawned by `up --detach`, and outlives it. */
export async function runDetached(spec: ProcessSpec): Promise<void> {
  const parent = parentOfThisProcess()
  parent?.onGone(() => undefined)
  const tell = (message: object) => parent?.send(message as unknown as Json)
  const terminal: Terminal = {
    cwd: process.cwd(),
    variables: process.env,
    isTty: false,
    columns: 120,
    out: line => process.stdout.write(`${line}\n`),
    write: text => process.stdout.write(text),
    err: line => process.stderr.write(`${line}\n`),
  }
  try {
    await runUp(spec.config as unknown as UpSettings, terminal, (lines, isWhole) =>
      tell({ kind: 'up', lines, isWhole }),
    )
    process.exit(0)
  } catch (error) {
    tell({ kind: 'failed', error: tellError(error) })
    process.exit(1)
  }
}
