// Which processor a QEMU machine sees. It is chosen when the machine starts, for the hosts that it might move to: the highest level
// that all of the same family have. It stays what it is as long as the machine lives; another start may choose another.

import { type Cpu, cpuText, levelName, levelNamed } from '@stellwerk/protocol/cpu-levels.ts'
import { hostLive } from './hosts.ts'
import type { CoordinatorState, HostRecord, VmRecord } from './state.ts'

/** For a start at this host; null: not a QEMU machine, or the host has not said what it can give. */
export function chooseCpu(state: CoordinatorState, vm: VmRecord, host: HostRecord): Cpu | null {
  const own = vm.spec.hypervisor === 'qemu' ? hostLive(state, host.name).cpu : null
  if (own === null) return null
  const wanted = levelNamed(vm.spec.parameters['cpu'])
  if (wanted !== null) return { family: own.family, level: wanted }
  const levels = [...state.hosts.values()].flatMap(each => {
    const cpu = each.removed ? null : hostLive(state, each.name).cpu
    return cpu?.family === own.family ? [cpu.level] : []
  })
  return { family: own.family, level: Math.min(...levels) }
}

/** Why no machine with what the VM asks for can start there; null: one can. */
export function whyNotLevel(state: CoordinatorState, vm: VmRecord, host: HostRecord): string | null {
  const wanted = levelNamed(vm.spec.parameters['cpu'])
  const { cpu } = hostLive(state, host.name)
  if (vm.spec.hypervisor !== 'qemu' || wanted === null || cpu === null || cpu.level >= wanted) return null
  return `its QEMU gives at most ${cpuText(cpu)}, the VM wants ${levelName(wanted)}`
}

/** Why the VM's running machine cannot go on there; null: it can. */
export function whyNotCpu(state: CoordinatorState, vm: VmRecord, host: HostRecord): string | null {
  const has = vm.placement?.cpu
  const { cpu } = hostLive(state, host.name)
  if (has === undefined || cpu === null || (cpu.family === has.family && cpu.level >= has.level)) return null
  return `its QEMU gives ${cpuText(cpu)}, the machine runs with ${cpuText(has)}`
}
