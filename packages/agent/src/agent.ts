// The agent process: wires the host's actor, its leases, HBAs, volumes, hypervisors and links. No logic of its own.

import type { Beat } from '@stellwerk/protocol/messages/cluster.ts'
import '@stellwerk/protocol/messages/all.ts'
import type { ReportedMachine } from '@stellwerk/protocol/messages/cluster.ts'
import { PersistentSession } from '@stellwerk/protocol/persistent-session.ts'
import type { Identity, Session } from '@stellwerk/protocol/session.ts'
import { bindSession } from '@stellwerk/protocol/session-bridge.ts'
import { listenSessions } from '@stellwerk/protocol/session-handshake.ts'
import { TermGuard } from '@stellwerk/protocol/term-guard.ts'
import { ActorSystem } from '@stellwerk/runtime/actors/actor-system.ts'
import type { ByteStream, Environment, Listener } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { AgentConfig } from './agent-config.ts'
import { HostConsoles } from './console/host-consoles.ts'
import { AskedPrograms } from './guardian/ask-programs.ts'
import type { Survivor } from './guardian/pipe.ts'
import { GuestModules } from './guests/guest-modules.ts'
import { LunSessions } from './hba/lun-sessions.ts'
import { OpenLuns } from './hba/open-luns.ts'
import { StorageLinks } from './hba/storage-links.ts'
import { HostActor } from './host-actor.ts'
import { MISSED_PROBES } from './host-beat.ts'
import { ExportHypervisor } from './hypervisor/export/hypervisor.ts'
import type { Hypervisor, LeftBehind } from './hypervisor/hypervisor.ts'
import { ModelHypervisor } from './hypervisor/model/hypervisor.ts'
import type { HypervisorOptions } from './hypervisor/options.ts'
import { QemuHypervisor } from './hypervisor/qemu/hypervisor.ts'
import type { StartedProgram } from './hypervisor/qemu/qemu-process.ts'
import { UnwantedMachines } from './hypervisor/unwanted-machines.ts'
import { WasmHypervisor } from './hypervisor/wasm/hypervisor.ts'
import { RightToRun } from './lease/right-to-run.ts'
import { BulkStreams } from './migration/streams.ts'
import { Bridges } from './network/bridges.ts'
import { Forwards } from './network/forwards.ts'
import { type NetworkState, VirtualSwitch } from './network/virtual-switch.ts'
import { Peers } from './peers.ts'
import { Redirects } from './redirect/redirects.ts'
import { RunGate } from './vm/run-gate.ts'
import type { VmParts } from './vm/vm-parts.ts'
import { HeldDisks } from './volume/held-disks.ts'
import { HostVolumes, type OwnedVolumeState } from './volume/host-volumes.ts'

export interface Agent {
  /** What is here now, for whoever looks into the process itself; others learn it by beats. */
  inspect(): AgentState
  stop(): Promise<void>
}

export interface AgentState {
  readonly epoch: number
  /** `fenced`: what was here is being killed, or has been, and no newer epoch was given yet. */
  readonly standing: 'waiting' | 'admitted' | 'fenced'
  readonly machines: readonly ReportedMachine[]
  /** Volumes owned here. */
  readonly owned: readonly OwnedVolumeState[]
  readonly paths: readonly { readonly storage: string; readonly path: string; readonly state: string }[]
  /** Fabrics that an operator has taken from this host, as far as it has heard. */
  readonly disabled: readonly string[]
  /** Connections of other hosts to storage that go through here. */
  readonly carried: readonly { readonly host: string; readonly storage: string }[]
  readonly networks: readonly NetworkState[]
  /** Legs of volumes that are open here, and the way their requests go. */
  readonly access: readonly { readonly volume: string; readonly storage: string; readonly state: string }[]
}

/** For a hypervisor that was not there. */
const LOOK_AGAIN_MS = 60_000
/** A terminal that shows nothing for so long has it all the same. */
const SHOWN_MS = 30_000
const BACKOFF = { minMs: 20, maxMs: 500 }

export async function startAgent(env: Environment, config: AgentConfig): Promise<Agent> {
  const { host, cluster, token, incarnation, guardian } = config
  const identity: Identity = { cluster, node: host, role: 'agent', incarnation, guardian, credential: token }
  const system = new ActorSystem({ env, local: [host] })
  const terms = termGuard(env)
  const right = new RightToRun({ leaseMs: 0 })
  const gate = new RunGate(env, right)
  const self = `${host}/agent`
  const streams = new BulkStreams(env, identity)
  const peers = new Peers(env, system, identity)
  const onProbed = (storage: string, sentAt: number, epoch: number): void => {
    if (epoch !== actor.epoch) return
    right.probed(storage, sentAt)
    gate.rightChanged()
  }
  const onRefused = (epoch: number, why: string): void => {
    system.send(self, 'host.refused', { epoch, why }, { from: self })
  }
  const links: StorageLinks = new StorageLinks({
    env,
    identity,
    hbas: config.hbas,
    epoch: () => actor.epoch,
    onProbed,
    onReached: () => actor.beatSoon(),
    luns: storage => volumes.lunsOn(storage),
    onBehind: behind => volumes.heardOf(behind),
    onRefused,
  })
  const luns = new OpenLuns(env.clock, host, () => actor.beatSoon())
  const redirects = new Redirects({
    env,
    system,
    identity,
    links,
    peers,
    settings: () => actor.settings,
    epoch: () => actor.epoch,
    disabled: () => luns.disabled,
    coordinatorUp: () => coordinator.session !== null,
    onProbed,
    onRefused,
    luns: storage => volumes.lunsOn(storage),
    onBehind: behind => volumes.heardOf(behind),
  })
  const volumes: HostVolumes = new HostVolumes({
    env,
    system,
    host,
    cluster,
    hbas: config.hbas,
    links,
    sessions: new LunSessions(config),
    settings: () => actor.settings,
    redirects,
    luns,
    onRefused,
    onLegLost: lost => actor.legLost(lost),
    onLegs: () => gate.legsChanged(),
    onChange: () => actor.beatSoon(),
  })
  const network: VirtualSwitch = new VirtualSwitch({
    ...{ env, identity, listen: config.guest ?? null, epoch: () => actor.epoch },
    isBridged: name => config.bridges?.[name] !== undefined,
    onCard: name => bridges.wanted(name),
  })
  const options = hypervisorOptions(env, config, gate)
  const exports = new ExportHypervisor(options)
  const programs = new AskedPrograms(env, config.lastProgram)
  gate.onProgram = said => programs.heard(said)
  const hypervisors = makeHypervisors(options, config, exports, programs)
  const guests = new GuestModules({ env, system, host, requestMs: () => actor.settings.requestMs })
  const left: LeftBehind = hypervisors.get('qemu')?.left ?? new UnwantedMachines(leftHere(config, programs))
  const consoles = new HostConsoles(host, (to, body) => system.ask(self, to, 'console.output', body, SHOWN_MS))
  const vmParts: VmParts = {
    left,
    env,
    host,
    incarnation,
    settings: () => actor.settings,
    gate,
    disks: volumes,
    guests,
    port: spec => network.port(spec),
    hypervisor: kind => {
      const hypervisor = hypervisors.get(kind)
      if (hypervisor !== undefined) return hypervisor
      throw new StellwerkError('no-hypervisor', `this host does not run ${kind} guests`, { where: host })
    },
    report: machine => actor.report(machine),
    gone: (vm, epoch) => actor.gone(vm, epoch),
    consoles,
    streams,
    ask: (from, to, kind, body, deadlineMs) => system.ask(from, to, kind, body, deadlineMs),
    reportDone: done => actor.reportDone(done),
  }
  const actor = new HostActor({
    env,
    config,
    system,
    right,
    gate,
    links: () => links,
    peers,
    volumes: () => volumes,
    redirects: () => redirects,
    luns: () => luns,
    network: () => network,
    forwards: () => forwards,
    vmParts: () => vmParts,
    exports,
    consoles,
    left,
    qemu: () => qemuFound,
  })
  let qemuFound: Beat['qemu']
  const qemu = hypervisors.get('qemu')
  if (qemu !== undefined) {
    // What is missing may be installed meanwhile.
    const look = async (): Promise<void> => {
      const { available, why, cpu } = await qemu.probe()
      const whyNot = available ? null : (why ?? 'QEMU runs no machine here')
      qemuFound = { why: whyNot, ...(cpu === undefined ? {} : { cpu }) }
      actor.beatSoon()
      if (!available) env.timers.after(LOOK_AGAIN_MS, () => void look())
    }
    void look()
  }
  system.spawn(self, actor, { mailbox: 8192 })
  system.spawn(`${host}/guests`, guests)
  system.spawn(`${host}/disks`, new HeldDisks(system, volumes))
  const dialScreen = async (vm: string): Promise<ByteStream> => {
    const screen = await qemu?.dialScreen?.(vm)
    if (screen !== undefined) return screen
    throw new StellwerkError('screen-away', 'this host has no machines with screens', { where: host, retryable: true })
  }
  const bridges = new Bridges({ env, bridges: config.bridges ?? {}, start: programs.start, network })
  const forwards: Forwards = new Forwards({
    ...{ env, system, host, start: programs.start, network, dialScreen },
    address: config.forwardAddress,
    onChange: () => actor.beatSoon(),
  })
  system.spawn(`${host}/forwards`, forwards)
  const listener = await listenSessions(
    env,
    config.listen,
    identity,
    who =>
      who.role === 'agent' || who.role === 'cli'
        ? { ok: true }
        : { ok: false, code: 'wrong-role', message: `a ${who.role} has no business with an agent` },
    session => serve(session, system, consoles, peers, streams, redirects),
  )
  await network.listen()
  const coordinator = new PersistentSession({
    env,
    address: () => config.coordinator,
    class: 'control',
    identity,
    backoff: BACKOFF,
    handshake: { terms },
    onUp: session => {
      bindSession(system, session, { remotePrefix: 'coordinator' })
      system.send(self, 'host.coordinator-up', null, { from: self })
    },
  })
  coordinator.start()
  const agent: Agent = {
    inspect: () => ({
      epoch: actor.epoch,
      standing: actor.standing,
      machines: actor.machines,
      owned: volumes.owned(),
      paths: links.states(actor.settings.heartbeatMs * MISSED_PROBES),
      disabled: luns.disabled,
      carried: redirects.carried,
      networks: network.states,
      access: luns.access(),
    }),
    stop: async () => {
      forwards.stop()
      await stop(actor, listener, coordinator, peers, links, volumes, redirects, network, system)
      // The guests have ended, who may have had something to say to others until then.
      bridges.stop()
    },
  }
  endWithParent(env, gate, agent)
  return agent
}

/** The highest term heard of, over restarts. */
function termGuard(env: Environment): TermGuard {
  const stored = env.store.get('term')
  return new TermGuard(typeof stored === 'number' ? stored : 0, term => {
    env.store.commit([{ put: 'term', value: term }])
  })
}

function hypervisorOptions(env: Environment, config: AgentConfig, gate: RunGate): HypervisorOptions {
  return {
    env,
    mayExecute: vm => gate.mayExecute(vm),
    until: vm => gate.until(vm),
    evidence: event => env.trace.emit({ ...event, host: config.host }),
  }
}

function makeHypervisors(
  options: HypervisorOptions,
  config: AgentConfig,
  exports: ExportHypervisor,
  programs: AskedPrograms,
): Map<string, Hypervisor> {
  const hypervisors = new Map<string, Hypervisor>([['export', exports]])
  for (const kind of config.hypervisors) {
    hypervisors.set(kind, makeHypervisor(kind, options, config, programs))
  }
  return hypervisors
}

function leftHere(config: AgentConfig, programs: AskedPrograms): (readonly [Survivor, StartedProgram])[] {
  return (config.survivors ?? []).map(survivor => [survivor, programs.left(survivor)] as const)
}

function makeHypervisor(
  kind: AgentConfig['hypervisors'][number],
  options: HypervisorOptions,
  config: AgentConfig,
  programs: AskedPrograms,
): Hypervisor {
  switch (kind) {
    case 'wasm':
      return new WasmHypervisor(options)
    case 'model':
      return new ModelHypervisor(options)
    case 'qemu':
      return new QemuHypervisor(options, {
        start: programs.start,
        left: leftHere(config, programs),
      })
  }
}

function serve(
  session: Session,
  system: ActorSystem,
  consoles: HostConsoles,
  peers: Peers,
  streams: BulkStreams,
  redirects: Redirects,
): void {
  if (session.class === 'bulk') {
    streams.accept(session)
    return
  }
  if (session.class === 'io') {
    redirects.accept(session)
    return
  }
  if (session.peer.role === 'agent') {
    peers.accept(session)
    return
  }
  bindSession(system, session, { remotePrefix: session.peer.node })
  session.onClose(consoles.joined(session.peer.node))
}

function endWithParent(env: Environment, gate: RunGate, agent: Agent): void {
  const inOrder = (): void => {
    agent.stop().then(
      () => env.processes.exit(0),
      (error: unknown) => {
        env.log.error({ code: errorCode(error) }, `could not stop in order: ${errorMessage(error)}`)
        env.processes.exit(1)
      },
    )
  }
  gate.onStop = inOrder
  // Its guardian is gone, and with it whoever would kill what runs too long: it ends at once.
  env.processes.parent?.onGone(() => env.processes.exit(1))
  env.processes.onStop(inOrder)
}

async function stop(
  actor: HostActor,
  listener: Listener,
  coordinator: PersistentSession,
  peers: Peers,
  links: StorageLinks,
  volumes: HostVolumes,
  redirects: Redirects,
  network: VirtualSwitch,
  system: ActorSystem,
): Promise<void> {
  await actor.stop()
  await volumes.close()
  redirects.stop()
  await network.stop()
  coordinator.stop()
  peers.stop()
  links.stop()
  await listener.close()
  system.stop()
}
