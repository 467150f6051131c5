// Breaks a cluster of processes on this machine and puts it right: the journal first, then the deed. Knows the cluster by its
// directory alone, so a run, a single act and `chaos heal` do it alike.

import type { Clock, Files } from '@stellwerk/runtime/environment.ts'
import { describeError, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { FAULTS_LOOK_MS } from '@stellwerk/runtime/node/faults/fault-file.ts'
import { isStillRunning, type RecordedProcess } from '@stellwerk/runtime/node/pid-record.ts'
import type { ApiClient } from '../../api-client/client.ts'
import type { ClusterFile } from '../../cluster/cluster-file.ts'
import { RULES_FILE, whoIsWho } from '../../cluster/fault-seam.ts'
import type { Breaking, NotHealed } from '../breaking.ts'
import type { Fault } from '../fault.ts'
import type { ChaosCluster } from '../target.ts'
import { corruptBlock, repairFrom } from './corrupt-block.ts'
import { type Broken, Journal, type Undo } from './journal.ts'
import { hostProcesses, ofUp, signal } from './node-processes.ts'
import { isByRules, need, rulesOf } from './rules-of.ts'

const ENDS_MS = 30_000
const POLL_MS = 20

export interface BreakerOptions {
  readonly directory: string
  readonly files: Files
  readonly clock: Clock
  readonly sleep: (ms: number) => Promise<void>
  readonly cluster: () => ClusterFile
  readonly api: () => ApiClient
  /** Starts nodes that have ended; resolves when they are there. */
  readonly start: (nodes: readonly string[]) => Promise<void>
}

export class Breaker implements Breaking {
  readonly #options: BreakerOptions
  readonly journal: Journal

  constructor(options: BreakerOptions) {
    this.#options = options
    this.journal = new Journal(options.files, options.sleep)
  }

  get cluster(): ChaosCluster {
    const { hosts, storages } = this.#options.cluster()
    return { hosts: hosts.map(({ name }) => name), storages: storages.map(({ name }) => name) }
  }

  /**
   * Throws `unknown-host`, `unknown-storage`, `fault-incomplete`, `not-running` where what is to be hit has ended, `no-faults`
   * where the cluster's processes were started without the switch; nothing is changed then.
   */
  async inject(fault: Fault): Promise<Broken> {
    this.#check(fault)
    if (isByRules(fault.kind)) await this.#demandSwitch(fault)
    const rules = rulesOf(fault, this.cluster)
    const { undo, act } = await this.#plan(fault)
    const entry = { fault, since: this.#options.clock.wall(), rules, undo }
    const added = await this.journal.add(entry, all => this.#writeRules(all))
    if (isByRules(fault.kind)) await this.#untilSeen()
    await act()
    return added
  }

  /** Idempotent. Throws what could not be put right: it is still in the journal then. */
  async heal(id: number): Promise<void> {
    const entry = (await this.journal.read()).find(({ fault }) => fault.id === id)
    if (entry === undefined) return
    try {
      await this.#undoAll(entry)
    } catch (error) {
      if (!(await this.#isStartedByAnother(entry))) throw error
    }
    // Rules go with the entry, under its lock: another fault may begin or end at the same moment.
    await this.journal.strike(id, left => this.#writeRules(left))
    if (isByRules(entry.fault.kind)) await this.#untilSeen()
  }

  /** All of it, as far as it goes: gives what could not be put right. */
  async healAll(): Promise<readonly NotHealed[]> {
    const broken = await this.journal.read()
    const left: NotHealed[] = []
    await this.#writeRules([])
    // Who stands still can't be talked to, and who has ended is started before its disk is looked at.
    const order: readonly Undo['do'][] = ['continue', 'start', 'scrub']
    const urgency = ({ undo }: Broken) => Math.max(-1, ...undo.map(step => order.indexOf(step.do)))
    for (let rank = -1; rank < order.length; rank++) {
      const now = broken.filter(each => urgency(each) === rank)
      // All at once: what does not come back is waited for as long, however many there are.
      const ends = await Promise.allSettled(now.map(each => this.#undoAll(each)))
      for (const [i, end] of ends.entries()) {
        const each = now[i]!
        if (end.status === 'rejected') left.push({ broken: each, why: describeError(end.reason) })
        else await this.journal.strike(each.fault.id, () => this.#writeRules([]))
      }
    }
    await this.#untilSeen()
    return left
  }

  #check({ kind, host, storage, peer }: Fault): void {
    const { hosts, storages } = this.cluster
    const demand = (name: string | undefined, known: readonly string[], what: string) => {
      if (name === undefined || known.includes(name)) return
      throw new StellwerkError(`unknown-${what}`, `${kind}: there is no ${what} "${name}"`, {
        hint: `the cluster has ${known.join(', ')}`,
      })
    }
    demand(host, hosts, 'host')
    demand(storage, storages, 'storage')
    demand(peer, ['coordinator', ...storages, ...hosts], 'node')
  }

  async #demandSwitch({ kind }: Fault): Promise<void> {
    const { files, directory } = this.#options
    if ((await files.read(RULES_FILE)) !== null) return
    throw new StellwerkError('no-faults', `${kind} needs processes that can be told faults, and these can't`, {
      where: directory,
      hint: 'start the cluster with the switch: npx stellwerk down, then npx stellwerk up --chaos',
    })
  }

  async #plan(fault: Fault): Promise<{ undo: readonly Undo[]; act: () => Promise<void> }> {
    const { directory } = this.#options
    const node = (name: 'host' | 'storage') => need(fault, name)
    switch (fault.kind) {
      case 'agent-kill': {
        const { agent } = hostProcesses(directory, node('host'))
        return this.#kill(fault, node('host'), running(agent, `the agent of ${fault.host}`))
      }
      case 'host-kill': {
        const { guardian, agent, programs } = hostProcesses(directory, node('host'))
        // The guardian first: it must not see its agent's end.
        return this.#kill(fault, node('host'), [...running(guardian, `host ${fault.host}`), ...agent, ...programs])
      }
      case 'host-pause': {
        const { guardian, agent, programs } = hostProcesses(directory, node('host'))
        return this.#pause([...running(guardian, `host ${fault.host}`), ...agent, ...programs])
      }
      case 'host-restart': {
        const { guardian } = hostProcesses(directory, node('host'))
        const ending = running(guardian, `host ${fault.host}`)
        return { undo: [{ do: 'start', node: node('host') }], act: () => this.#end(ending) }
      }
      case 'coordinator-kill':
        return this.#kill(fault, 'coordinator', running(ofUp(directory, 'coordinator'), 'the coordinator'))
      case 'coordinator-pause':
        return this.#pause(running(ofUp(directory, 'coordinator'), 'the coordinator'))
      case 'storage-kill':
        return this.#kill(fault, node('storage'), running(ofUp(directory, node('storage')), `storage ${fault.storage}`))
      case 'storage-pause':
        return this.#pause(running(ofUp(directory, node('storage')), `storage ${fault.storage}`))
      case 'corrupt-block':
        return corruptBlock({ ...this.#options, storage: node('storage'), seed: fault.id })
      default:
        return { undo: [], act: async () => undefined }
    }
  }

  #kill(_fault: Fault, node: string, doomed: readonly RecordedProcess[]) {
    const act = async () => {
      for (const each of doomed) signal(each, 'SIGKILL')
      await this.#untilGone(doomed)
    }
    return { undo: [{ do: 'start', node }] as const, act }
  }

  #pause(processes: readonly RecordedProcess[]) {
    const act = async () => {
      for (const each of processes) signal(each, 'SIGSTOP')
    }
    return { undo: [{ do: 'continue', processes }] as const, act }
  }

  async #end(processes: readonly RecordedProcess[]): Promise<void> {
    for (const each of processes) signal(each, 'SIGTERM')
    await this.#untilGone(processes)
  }

  async #untilGone(processes: readonly RecordedProcess[]): Promise<void> {
    const { clock, sleep } = this.#options
    for (const until = clock.now() + ENDS_MS; processes.some(isStillRunning); await sleep(POLL_MS)) {
      if (clock.now() < until) continue
      const names = processes.filter(isStillRunning).map(({ name, pid }) => `${name} (${pid})`)
      throw new StellwerkError('still-running', `${names.join(', ')} did not end`, { hint: 'see its log' })
    }
  }

  async #undoAll({ undo }: Broken): Promise<void> {
    for (const step of undo) await this.#undo(step)
  }

  async #undo(step: Undo): Promise<void> {
    switch (step.do) {
      case 'continue':
        for (const each of step.processes) signal(each, 'SIGCONT')
        return
      case 'start':
        // Removed meanwhile, perhaps.
        if (this.#knows(step.node)) await this.#options.start([step.node])
        return
      case 'scrub':
        await repairFrom({ ...this.#options, api: this.#options.api(), volume: step.volume, goodLeg: step.goodLeg })
        return
      default:
        throw new StellwerkError('foreign-fault', 'that is a fault of containers', { hint: 'heal it with --compose' })
    }
  }

  /** It was killed again while it started: whoever did that starts it. */
  async #isStartedByAnother({ fault, undo }: Broken): Promise<boolean> {
    const nodes = undo.flatMap(step => (step.do === 'start' ? [step.node] : []))
    const others = (await this.journal.read()).filter(other => other.fault.id !== fault.id)
    return others.some(other => other.undo.some(step => step.do === 'start' && nodes.includes(step.node)))
  }

  #knows(node: string): boolean {
    const { hosts, storages } = this.cluster
    return node === 'coordinator' || hosts.includes(node) || storages.includes(node)
  }

  async #writeRules(broken: readonly Broken[]): Promise<void> {
    const { files, cluster } = this.#options
    if ((await files.read(RULES_FILE)) === null) return
    const all = broken.map(({ rules }) => rules)
    const rules = {
      network: all.flatMap(({ network }) => network),
      disk: all.flatMap(({ disk }) => disk),
      clock: all.flatMap(({ clock }) => clock),
    }
    const none = [...rules.network, ...rules.disk, ...rules.clock].length === 0
    const text = none ? '' : JSON.stringify({ ...whoIsWho(cluster()), ...rules })
    await files.writeAtomic(RULES_FILE, Buffer.from(text))
  }

  #untilSeen(): Promise<void> {
    return this.#options.sleep(2 * FAULTS_LOOK_MS)
  }
}

/** Throws `not-running`. */
function running(processes: readonly RecordedProcess[], what: string): readonly RecordedProcess[] {
  if (processes.length > 0) return processes
  throw new StellwerkError('not-running', `${what} does not run`, { hint: 'see: npx stellwerk chaos status' })
}
