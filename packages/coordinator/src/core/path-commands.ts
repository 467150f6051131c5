// What operators ask for about paths: a fabric taken from a host for its maintenance, and given back; how requests are spread.

import { accept, type CommandResult, refuse } from './command-result.ts'
import type { StepOutput } from './output.ts'
import type { CoordinatorState, Fabric, HostRecord } from './state.ts'

export type PathCommand =
  /** `force`: even if nothing else is left over which the host would reach what it has open. */
  | { readonly kind: 'path-disable'; readonly host: string; readonly fabric: string; readonly force?: boolean }
  | { readonly kind: 'path-enable'; readonly host: string; readonly fabric: string }
  | { readonly kind: 'path-policy'; readonly volume: string; readonly policy: string }

const FABRICS: readonly Fabric[] = ['fabric-0', 'fabric-1']

export function obeyPathCommand(state: CoordinatorState, command: PathCommand, out: StepOutput): CommandResult {
  switch (command.kind) {
    case 'path-disable':
      return withFabric(state, command, (host, fabric) => disable(state, host, fabric, command.force === true, out))
    case 'path-enable':
      return withFabric(state, command, (host, fabric) => enable(state, host, fabric, out))
    case 'path-policy':
      return setPolicy(state, command.volume, command.policy, out)
  }
}

function withFabric(
  state: CoordinatorState,
  { host: name, fabric: text }: { readonly host: string; readonly fabric: string },
  f: (host: HostRecord, fabric: Fabric) => CommandResult,
): CommandResult {
  const host = state.hosts.get(name)
  if (host === undefined || host.removed) {
    return refuse('unknown-host', `there is no host "${name}"`, 'see: stellwerk host list')
  }
  const fabric = FABRICS.find(each => each === text)
  if (fabric === undefined) {
    return refuse('unknown-fabric', `there is no fabric "${text}"`, `fabrics: ${FABRICS.join(', ')}`)
  }
  return f(host, fabric)
}

function disable(
  state: CoordinatorState,
  host: HostRecord,
  fabric: Fabric,
  force: boolean,
  out: StepOutput,
): CommandResult {
  const { name } = host
  if (host.disabledFabrics.includes(fabric)) {
    return refuse('already-disabled', `${fabric} of host "${name}" is disabled already`, 'see: stellwerk path list')
  }
  const disabledFabrics = [...host.disabledFabrics, fabric].sort()
  const stranded = force ? null : strandedLun(state, { ...host, disabledFabrics })
  if (stranded !== null) {
    return refuse(
      'no-other-path',
      `without ${fabric} host "${name}" has no way to ${stranded}: no other fabric, and no peer that could carry it`,
      'mend another path first, or use --force',
    )
  }
  out.put('hosts', name, { ...host, disabledFabrics })
  state.mapVersion += 1
  out.decide({
    kind: 'path-disabled',
    subject: name,
    saw: { disabled: [...host.disabledFabrics] },
    chose: `send nothing over ${fabric} while there is another way`,
    why: 'an operator asked for it',
  })
  return accept({ host: name, disabled: disabledFabrics })
}

/** A LUN that the host has open and could not get at any more; null: there is none. */
function strandedLun(state: CoordinatorState, host: HostRecord): string | null {
  const live = state.liveHosts.get(host.name)
  for (const { volume, storage } of live?.access ?? []) {
    const direct = live?.paths.some(
      ({ storage: of, path, state: is }) =>
        of === storage && is !== 'failed' && FABRICS.some(f => path.startsWith(f) && !host.disabledFabrics.includes(f)),
    )
    if (direct === true) continue
    const lun = state.volumes.get(volume)?.legs.find(leg => leg.storage === storage)?.lun ?? volume
    const route = state.routes.get(`${storage}/${lun}`)
    const able = route?.peers.slice(0, route.able) ?? []
    if (!able.some(peer => peer !== host.name)) return `volume ${volume} on ${storage}`
  }
  return null
}

function enable(state: CoordinatorState, host: HostRecord, fabric: Fabric, out: StepOutput): CommandResult {
  const { name } = host
  if (!host.disabledFabrics.includes(fabric)) {
    return refuse('not-disabled', `${fabric} of host "${name}" is not disabled`, 'see: stellwerk path list')
  }
  const disabledFabrics = host.disabledFabrics.filter(each => each !== fabric)
  out.put('hosts', name, { ...host, disabledFabrics })
  state.mapVersion += 1
  out.decide({
    kind: 'path-enabled',
    subject: name,
    saw: { disabled: [...host.disabledFabrics] },
    chose: `use ${fabric} again`,
    why: 'an operator asked for it',
  })
  return accept({ host: name, disabled: disabledFabrics })
}

function setPolicy(state: CoordinatorState, name: string, policy: string, out: StepOutput): CommandResult {
  const volume = state.volumes.get(name)
  if (volume === undefined) {
    return refuse('unknown-volume', `there is no volume "${name}"`, 'see: stellwerk volume list')
  }
  if (policy !== 'least-queue' && policy !== 'fixed') {
    return refuse('bad-policy', `"${policy}" is no path policy`, 'use least-queue or fixed')
  }
  if (volume.pathPolicy !== policy) {
    out.put('volumes', name, { ...volume, pathPolicy: policy })
    state.mapVersion += 1
  }
  return accept({ volume: name, pathPolicy: policy })
}
