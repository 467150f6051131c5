// The words QEMU is started with. All paths are relative to the machine's own directory, QEMU's working directory: a unix
// socket's path is limited to 107 bytes, and a state directory's is not.

import { KIB } from '@stellwerk/runtime/units.ts'
import type { MachineSpec } from '../hypervisor.ts'

/** Versioned, so that hosts with different QEMUs agree on the machine: the oldest that is supported has it. */
export const MACHINE_TYPE = 'pc-q35-7.2'
/** So long requests wait in QEMU for a disk whose agent has died; the right to run of a machine without one ends sooner. */
const DISK_AWAY_S = 300
/** QEMU rounds memory up to 8 KiB. */
const TCG_SPARED_KIB = 8
/** What each level adds to the one below, by QEMU's names: the first is what every x86-64 host and TCG can do. */
const CPU_FEATURES: readonly (readonly string[])[] = [
  [],
  ['cx16', 'lahf-lm', 'pni', 'popcnt', 'sse4.1', 'sse4.2', 'ssse3'],
  ['abm', 'avx', 'avx2', 'bmi1', 'bmi2', 'f16c', 'fma', 'movbe', 'xsave'],
  ['avx512bw', 'avx512cd', 'avx512dq', 'avx512f', 'avx512vl'],
]

/**
 * A host that lacks some of it is refused rather than given a lesser processor. Without `svm`, which the model has by TCG and, in
 * Ubuntu's QEMU, by KVM too: no processor of Intel could give it.
 */
export function cpuModel(level: number): string {
  return ['qemu64', '-svm', ...cpuFeatures(level).map(feature => `+${feature}`), 'enforce'].join(',')
}

/** What a processor must have for that level, by QEMU's names. */
export function cpuFeatures(level: number): readonly string[] {
  return CPU_FEATURES.slice(0, level).flat()
}

/** QEMU's first word, by which its other sockets stand. */
export const MONITOR_SOCKET = 'qmp.sock'
/** Another way to its monitor, for an agent that comes after the one that started it. */
export const ADOPTION_SOCKET = 'adopt.sock'
export const CONSOLE_SOCKET = 'console.sock'
export const AGENT_SOCKET = 'agent.sock'
export const SCREEN_SOCKET = 'screen.sock'
export const INCOMING_SOCKET = 'incoming.sock'
export const KERNEL_FILE = 'kernel'
export const INITRD_FILE = 'initrd'
/** UEFI's. */
export const VARIABLES_FILE = 'variables'
export const SEED_FILE = 'seed'

/** What QEMU calls the port of the agent in its guest, and its own end of it. */
export const AGENT_PORT = 'agent'
/** Behind all else on the bus, so that no other device is elsewhere for it. Who looks for an agent's port looks for this name. */
const AGENT = [
  ...['-device', 'virtio-serial-pci,id=agent-bus', '-chardev', served(AGENT_PORT, AGENT_SOCKET)],
  ...['-device', `virtserialport,id=${AGENT_PORT},bus=agent-bus.0,chardev=${AGENT_PORT},name=org.qemu.guest_agent.0`],
]

export type Accelerator = 'kvm' | 'tcg'

/** Without a bound TCG keeps up to a GiB of translated code for each machine, however small that is. */
const ACCELERATORS: { readonly [name in Accelerator]: string } = { kvm: 'kvm', tcg: 'tcg,tb-size=64' }

/** A pointer that says where it is, not how far it went: the viewer's and the guest's never part. */
const SCREEN = [
  ...['-vnc', `unix:${SCREEN_SOCKET},share=force-shared`, '-device', 'VGA,id=screen'],
  ...['-device', 'qemu-xhci,id=usb', '-device', 'usb-tablet,id=pointer,bus=usb.0'],
]

/** Of one migration. */
export function outgoingSocket(id: string): string {
  return `out-${id}.sock`
}

export function diskName(index: number): string {
  return `disk${index}`
}

export function diskSocket(index: number): string {
  return `${diskName(index)}.sock`
}

export function nicSocket(index: number): string {
  return `nic${index}.sock`
}

/** What it boots: a kernel that it is given, or what firmware finds on its first disk. */
export type Boot =
  | { readonly kind: 'kernel'; readonly commandLine: string }
  | { readonly kind: 'bios' }
  | { readonly kind: 'uefi'; readonly code: string }

export interface CommandLineOptions {
  readonly spec: MachineSpec
  readonly accelerator: Accelerator
  readonly disks: number
  /** The MACs of its cards. */
  readonly macs: readonly string[]
  readonly boot: Boot
  /** With a disk for cloud-init behind its own. */
  readonly seed: boolean
  /** It waits for a migration stream. */
  readonly incoming: boolean
}

export function commandLine(options: CommandLineOptions): string[] {
  const { spec, accelerator, disks, macs, boot, seed, incoming } = options
  const cpus = typeof spec.parameters['cpus'] === 'number' ? spec.parameters['cpus'] : 1
  return [
    ...['-name', `guest=${spec.vm}`, '-nodefaults', '-no-user-config', '-display', 'none', '-S'],
    ...['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    ...[
      '-machine',
      `${MACHINE_TYPE},usb=off,vmport=off${machineWords(spec, boot)}`,
      '-accel',
      ACCELERATORS[accelerator],
      '-cpu',
      cpuModel(spec.cpu?.level ?? 1),
    ],
    ...['-m', `size=${ramKiB(spec.memoryBytes, accelerator)}k`, '-smp', `${cpus}`],
    ...['-chardev', `socket,id=monitor,path=${MONITOR_SOCKET}`, '-mon', 'chardev=monitor,mode=control'],
    ...['-chardev', served('adoption', ADOPTION_SOCKET), '-mon', 'chardev=adoption,mode=control'],
    ...['-chardev', served('console', CONSOLE_SOCKET), '-serial', 'chardev:console'],
    ...(hasScreen(spec) ? SCREEN : []),
    ...['-device', 'pvpanic-pci', '-action', 'panic=pause,watchdog=pause'],
    // The board's own watchdog may act, once a guest has armed it: it is in every machine of this type, and moves with it.
    ...['-global', 'ICH9-LPC.noreboot=off'],
    // A guest that sleeps by itself can't be stopped, and wakes by itself.
    ...['-global', 'ICH9-LPC.disable_s3=1', '-global', 'ICH9-LPC.disable_s4=1'],
    ...Array.from({ length: disks }, (_, index) => disk(index, boot)).flat(),
    ...(seed ? seedDisk() : []),
    ...macs.flatMap(nic),
    ...AGENT,
    ...bootWords(boot),
    ...(incoming ? ['-incoming', 'defer'] : []),
  ]
}

/**
 * Under TCG a little less than asked for, so that it is no multiple of 256 KiB: for those, QEMU before 9.0 clears the bits of
 * dirtied pages without telling the processors, which then write to them unnoticed, and a migrated guest finds some of its
 * pages as they were a while ago ("physmem: Fix migration dirty bitmap coherency with TCG memory access", QEMU, March 2024).
 */
function ramKiB(memoryBytes: number, accelerator: Accelerator): number {
  return memoryBytes / KIB - (accelerator === 'tcg' ? TCG_SPARED_KIB : 0)
}

/** QEMU listens there, again after each connection, and what it has to say meanwhile is dropped. */
function served(id: string, path: string): string {
  return `socket,id=${id},path=${path},server=on,wait=off`
}

/** Held back by an error, a request stops the machine and is issued again when it goes on: the guest never hears of it. */
function disk(index: number, boot: Boot): string[] {
  const name = diskName(index)
  const server = { type: 'unix', path: diskSocket(index) }
  const order = boot.kind === 'kernel' || index > 0 ? '' : ',bootindex=0'
  return [
    ...[
      '-blockdev',
      JSON.stringify({
        ...{ driver: 'nbd', 'node-name': name, server, export: name, discard: 'unmap' },
        'reconnect-delay': DISK_AWAY_S,
      }),
    ],
    ...[
      '-device',
      `virtio-blk-pci,id=${name}-device,drive=${name},serial=${name},write-cache=on,werror=stop,rerror=stop${order}`,
    ],
  ]
}

/** A file of the machine's own, the same on every host. */
function seedDisk(): string[] {
  const node = { driver: 'file', 'node-name': 'seed', filename: SEED_FILE, 'read-only': true }
  return ['-blockdev', JSON.stringify(node), '-device', 'virtio-blk-pci,id=seed-device,drive=seed,serial=cidata']
}

/** Without a screen firmware and loaders speak to the serial console. */
function machineWords(spec: MachineSpec, boot: Boot): string {
  const graphics = boot.kind === 'kernel' || hasScreen(spec) ? '' : ',graphics=off'
  return boot.kind === 'uefi' ? `${graphics},pflash0=code,pflash1=variables` : graphics
}

export function hasScreen({ parameters }: MachineSpec): boolean {
  return parameters['screen'] === true
}

function bootWords(boot: Boot): string[] {
  switch (boot.kind) {
    case 'kernel':
      return ['-kernel', KERNEL_FILE, '-initrd', INITRD_FILE, '-append', boot.commandLine]
    case 'bios':
      return []
    case 'uefi': {
      const flash = (name: string, filename: string, more: object) =>
        JSON.stringify({ driver: 'file', 'node-name': name, filename, ...more })
      return [
        ...['-blockdev', flash('code', boot.code, { 'read-only': true })],
        ...['-blockdev', flash('variables', VARIABLES_FILE, {})],
      ]
    }
  }
}

/** Without the boot ROM that a card has otherwise: it is not booted from, and Debian has the ROMs in another package. */
function nic(mac: string, index: number): string[] {
  const socket = `addr.type=unix,addr.path=${nicSocket(index)}`
  return [
    ...['-netdev', `stream,id=nic${index},server=on,${socket}`],
    ...['-device', `virtio-net-pci,id=nic${index}-device,netdev=nic${index},mac=${mac},romfile=`],
  ]
}

/** Said of the machine, not to its guest. */
export const MACHINE_PARAMETERS: readonly string[] = ['cpu', 'cpus', 'screen']

/** What the kernel is told: the image's words, the VM's name and its parameters, which a guest may look for. */
export function kernelWords(image: string, spec: MachineSpec): string {
  const parameters = Object.entries(spec.parameters)
    .filter(([name]) => !MACHINE_PARAMETERS.includes(name))
    .map(([name, value]) => `stellwerk.${name}=${String(value)}`)
  return [image, `stellwerk.vm=${spec.vm}`, ...parameters].filter(word => word !== '').join(' ')
}
