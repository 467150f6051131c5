// Breaks the containers of a compose project and puts them right: the journal first, then the deed. Knows the cluster by the
// project's name alone.

import type { Clock, Files } from '@stellwerk/runtime/environment.ts'
import { describeError, errorCode, errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { Breaking, NotHealed } from '../breaking.ts'
import type { Fault } from '../fault.ts'
import { type Broken, Journal, type Undo } from '../local/journal.ts'
import { need } from '../local/rules-of.ts'
import { isIdle } from '../run-records.ts'
import type { ChaosCluster } from '../target.ts'
import { cablesOf, netemWords, refusedByContainers } from './compose-faults.ts'
import { attachmentsOf, type Container, clusterOf, containerOf, containersOf } from './containers.ts'
import type { Docker } from './docker.ts'

const NO_RULES = { network: [], disk: [], clock: [] } as const
const STOP_SECONDS = '60'

/** Ends the agent in a container, as its guardian has it on record. Run within, where there is a node and nothing else. */
const KILL_AGENT = `
  const { readFileSync } = require('node:fs')
  const children = JSON.parse(readFileSync(process.argv[1], 'utf8')).filter(({ program }) => program === 'agent')
  if (children.length === 0) { console.error('no agent runs there'); process.exit(1) }
  for (const { pid } of children) process.kill(pid, 'SIGKILL')`

export interface ComposeBreakerOptions {
  readonly docker: Docker
  readonly project: string
  readonly hasNetem: boolean
  /** Of the directory of the journal. */
  readonly files: Files
  readonly clock: Clock
  readonly sleep: (ms: number) => Promise<void>
}

interface Deed {
  readonly undo: readonly Undo[]
  readonly act: () => Promise<void>
}

export class ComposeBreaker implements Breaking {
  readonly journal: Journal
  readonly #options: ComposeBreakerOptions
  #containers: readonly Container[]

  /** Throws `no-project`. */
  static async open(options: ComposeBreakerOptions): Promise<ComposeBreaker> {
    const containers = await containersOf(options.docker, options.project)
    if (containers.length > 0) return new ComposeBreaker(options, containers)
    throw new StellwerkError('no-project', `there is no compose project "${options.project}" with a cluster`, {
      hint: 'see: docker compose ls; or start one: docker compose up',
    })
  }

  private constructor(options: ComposeBreakerOptions, containers: readonly Container[]) {
    this.#options = options
    this.#containers = containers
    this.journal = new Journal(options.files, options.sleep)
  }

  get cluster(): ChaosCluster {
    return clusterOf(this.#containers)
  }

  async inject(fault: Fault): Promise<Broken> {
    const { docker, project, hasNetem, clock } = this.#options
    const refused = refusedByContainers(fault, hasNetem)
    if (refused !== null) throw refused
    this.#containers = await containersOf(docker, project)
    const { undo, act } = await this.#plan(fault)
    const added = await this.journal.add({ fault, since: clock.wall(), rules: NO_RULES, undo }, async () => undefined)
    try {
      await act()
    } catch (error) {
      // It was down, or stood still, already: nothing was changed, and whoever did that undoes it.
      if (isIdle(error)) await this.journal.strike(added.fault.id, async () => undefined)
      throw error
    }
    return added
  }

  async heal(id: number): Promise<void> {
    const entry = (await this.journal.read()).find(({ fault }) => fault.id === id)
    if (entry === undefined) return
    for (const step of entry.undo) await this.#undo(step)
    await this.journal.strike(id, async () => undefined)
  }

  async healAll(): Promise<readonly NotHealed[]> {
    const left: NotHealed[] = []
    for (const broken of await this.journal.read()) {
      try {
        await this.heal(broken.fault.id)
      } catch (error) {
        left.push({ broken, why: describeError(error) })
      }
    }
    return left
  }

  async #plan(fault: Fault): Promise<Deed> {
    const { docker } = this.#options
    const of = (node: string): string => containerOf(this.#containers, node).name
    const host = (): string => of(need(fault, 'host'))
    const storage = (): string => of(need(fault, 'storage'))
    const kill = (container: string): Deed => ({
      undo: [{ do: 'start-container', container }],
      act: async () => void (await docker.run('kill', container)),
    })
    const pause = (container: string): Deed => ({
      undo: [{ do: 'unpause', container }],
      act: async () => void (await docker.run('pause', container)),
    })
    switch (fault.kind) {
      case 'agent-kill':
        // Its guardian starts it again by itself.
        return { undo: [], act: () => this.#killAgent(host(), need(fault, 'host')) }
      case 'host-kill':
        return kill(host())
      case 'host-pause':
        return pause(host())
      case 'host-restart': {
        const container = host()
        return {
          undo: [{ do: 'start-container', container }],
          act: async () => void (await docker.run('stop', '-t', STOP_SECONDS, container)),
        }
      }
      case 'coordinator-kill':
        return kill(of('coordinator'))
      case 'coordinator-pause':
        return pause(of('coordinator'))
      case 'storage-kill':
        return kill(storage())
      case 'storage-pause':
        return pause(storage())
      case 'host-isolate':
      case 'cable-pull':
        return this.#unplug(
          [host()],
          cablesOf({ ...fault, fabric: fault.kind === 'cable-pull' ? need(fault, 'fabric') : 0 }),
        )
      case 'fabric-down': {
        const nodes = [...this.cluster.hosts, ...this.cluster.storages]
        return this.#unplug(nodes.map(of), [`fabric-${need(fault, 'fabric')}`])
      }
      default:
        return this.#shape(host(), fault)
    }
  }

  async #unplug(containers: readonly string[], networks: readonly string[]): Promise<Deed> {
    const { docker, project } = this.#options
    const undo: Extract<Undo, { do: 'connect' }>[] = []
    for (const container of containers) {
      const attached = await attachmentsOf(docker, project, container)
      for (const name of networks) {
        const attachment = attached.get(name)
        // Pulled already, by another fault, which puts it back.
        if (attachment === undefined) continue
        const { network, aliases } = attachment
        undo.push({ do: 'connect', container, network, aliases })
      }
    }
    if (undo.length === 0) throw nothingThere(`${networks.join(', ')} of ${containers.join(', ')}`)
    const act = async () => {
      for (const { container, network } of undo) await unplugged(docker, network, container)
    }
    return { undo, act }
  }

  async #shape(container: string, fault: Fault): Promise<Deed> {
    const { docker, project } = this.#options
    const attached = await attachmentsOf(docker, project, container)
    const devices = await devicesOf(docker, container)
    // A device has one shape at a time: another fault's stays until it is over.
    const shaped = (await this.journal.read())
      .flatMap(broken => broken.undo)
      .flatMap(step => (step.do === 'unshape' && step.container === container ? [step.device] : []))
    const undo: Extract<Undo, { do: 'unshape' }>[] = []
    for (const network of cablesOf(fault)) {
      const device = devices.get(attached.get(network)?.address ?? '')
      if (device !== undefined && !shaped.includes(device)) undo.push({ do: 'unshape', container, device })
    }
    if (undo.length === 0) throw nothingThere(`${cablesOf(fault).join(', ')} of ${container}`)
    const act = async () => {
      for (const { device } of undo) {
        await within(docker, container, 'tc', 'qdisc', 'replace', 'dev', device, 'root', 'netem', ...netemWords(fault))
      }
    }
    return { undo, act }
  }

  async #killAgent(container: string, host: string): Promise<void> {
    const record = `/var/lib/stellwerk/${host}/guardian/children.json`
    await this.#options.docker.run('exec', container, 'node', '-e', KILL_AGENT, record)
  }

  async #undo(step: Undo): Promise<void> {
    const { docker, project } = this.#options
    switch (step.do) {
      case 'unpause': {
        const state = await docker.run('inspect', '--format', '{{.State.Paused}}', step.container)
        if (state.trim() === 'true') await docker.run('unpause', step.container)
        return
      }
      case 'start-container':
        await docker.run('start', step.container)
        return
      case 'connect': {
        const attached = await attachmentsOf(docker, project, step.container)
        if ([...attached.values()].some(({ network }) => network === step.network)) return
        const aliases = step.aliases.flatMap(alias => ['--alias', alias])
        await docker.run('network', 'connect', ...aliases, step.network, step.container)
        return
      }
      case 'unshape':
        try {
          await within(docker, step.container, 'tc', 'qdisc', 'del', 'dev', step.device, 'root')
        } catch (error) {
          // Gone with the device, at a restart of the container, or with the container itself.
          if (errorCode(error) !== 'docker-failed' && errorCode(error) !== 'not-running') throw error
        }
        return
      default:
        throw new StellwerkError('foreign-fault', 'that is no fault of containers', {
          hint: 'heal it without --compose',
        })
    }
  }
}

/** What the fault is to hit is out already, by another: it adds nothing. */
function nothingThere(what: string): StellwerkError {
  return new StellwerkError('not-running', `${what} is unplugged, or shaped, already`)
}

async function unplugged(docker: Docker, network: string, container: string): Promise<void> {
  try {
    await docker.run('network', 'disconnect', '-f', network, container)
  } catch (error) {
    // By another fault at the same moment.
    if (!/is not connected/.test(errorMessage(error))) throw error
  }
}

/** In the container's network, by this machine's tools: the container has none. */
async function within(docker: Docker, container: string, ...words: string[]): Promise<string> {
  const pid = (await docker.run('inspect', '--format', '{{.State.Pid}}', container)).trim()
  if (pid === '0') throw new StellwerkError('not-running', 'the container is not running', { where: container })
  return docker.must('nsenter', '-t', pid, '-n', ...words)
}

/** Network devices of a container by their addresses. */
async function devicesOf(docker: Docker, container: string): Promise<ReadonlyMap<string, string>> {
  const links = JSON.parse(await within(docker, container, 'ip', '-j', 'addr')) as readonly {
    readonly ifname: string
    readonly addr_info: readonly { readonly local: string }[]
  }[]
  return new Map(links.flatMap(({ ifname, addr_info }) => addr_info.map(({ local }) => [local, ifname] as const)))
}
