// What the simulated QEMU reads of its command line: as much as decides what it does. What stands there and is not known is
// refused, as QEMU would, so that a word which is only told to the real one can't be forgotten here.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'

export interface DiskArgument {
  /** Of the NBD export, and of QEMU's own node. */
  readonly name: string
  readonly socket: string
}

export interface NicArgument {
  readonly socket: string
  readonly mac: string
}

export interface MachineArguments {
  readonly disks: readonly DiskArgument[]
  readonly nics: readonly NicArgument[]
  readonly monitor: string
  /** Where whoever comes later finds another monitor. */
  readonly adoption: string
  readonly console: string
  /** The port of an agent in its guest. */
  readonly agent: string
  /** Files among its own. */
  readonly kernel: string
  readonly initrd: string
  readonly kernelWords: readonly string[]
  readonly incoming: boolean
}

/** Options without a value, and those whose value is of no consequence here. */
const FLAGS: ReadonlySet<string> = new Set(['-nodefaults', '-no-user-config', '-S'])
/** What this does whether it is told to or not, and the real one does not: it has to be told. */
const NEEDED = [
  ...['-S', '-action panic=pause,watchdog=pause', '-global ICH9-LPC.noreboot=off'],
  ...['werror=stop', 'rerror=stop', 'reconnect-delay'],
] as const
/** Of these, those that only a machine with a disk needs. */
const OF_DISKS: ReadonlySet<string> = new Set(['werror=stop', 'rerror=stop', 'reconnect-delay'])
const PLAIN_DEVICES: ReadonlySet<string> = new Set(['pvpanic-pci', 'virtio-serial-pci,id=agent-bus'])
const INDIFFERENT: ReadonlySet<string> = new Set([
  ...['-name', '-display', '-sandbox', '-machine', '-accel', '-cpu', '-m', '-smp', '-mon', '-serial'],
])

/** Throws `bad-arguments`. */
export function readArguments(args: readonly string[]): MachineArguments {
  const one = new Map<string, string>()
  const sockets = new Map<string, string>()
  const disks: DiskArgument[] = []
  const nicSockets = new Map<string, string>()
  const nics: NicArgument[] = []
  const told = new Set<string>()
  let agent = ''
  for (let at = 0; at < args.length; at += 1) {
    const option = args[at] ?? ''
    told.add(option)
    if (FLAGS.has(option)) continue
    const value = args[++at]
    if (value === undefined) throw bad(`${option} needs a value`)
    if (INDIFFERENT.has(option)) continue
    switch (option) {
      case '-chardev':
        sockets.set(wordOf(value, 'id'), wordOf(value, 'path'))
        if ((wordOf(value, 'id') !== 'monitor') !== value.endsWith(',server=on,wait=off')) {
          throw bad(`what is simulated connects to the first monitor and is connected to otherwise: ${value}`)
        }
        break
      case '-blockdev':
        disks.push(diskOf(value))
        if (value.includes('"reconnect-delay"')) told.add('reconnect-delay')
        break
      case '-netdev':
        nicSockets.set(wordOf(value, 'id'), wordOf(value, 'addr.path'))
        if (wordOf(value, 'server') !== 'on') throw bad(`what is simulated is connected to: ${value}`)
        break
      case '-device':
        if (value.startsWith('virtio-net-pci,')) {
          nics.push({ socket: nicSockets.get(wordOf(value, 'netdev')) ?? '', mac: wordOf(value, 'mac') })
        } else if (value.startsWith('virtserialport,') && wordOf(value, 'name') === 'org.qemu.guest_agent.0') {
          agent = sockets.get(wordOf(value, 'chardev')) ?? ''
        } else if (value.startsWith('virtio-blk-pci,')) for (const word of value.split(',')) told.add(word)
        else if (!PLAIN_DEVICES.has(value)) throw bad(`no device is simulated for ${value}`)
        break
      case '-action':
      case '-global':
        told.add(`${option} ${value}`)
        break
      case '-kernel':
      case '-initrd':
      case '-append':
      case '-incoming':
        one.set(option, value)
        break
      default:
        throw bad(`${option}: invalid option`)
    }
  }
  const missing = NEEDED.find(word => !told.has(word) && (disks.length > 0 || !OF_DISKS.has(word)))
  if (missing !== undefined) throw bad(`what is simulated does as with ${missing}, which was not said`)
  const need = (option: string): string => {
    const value = one.get(option)
    if (value === undefined) throw bad(`what is simulated boots a kernel: ${option} is missing`)
    return value
  }
  return {
    ...{ disks, nics },
    monitor: sockets.get('monitor') ?? '',
    adoption: sockets.get('adoption') ?? '',
    console: sockets.get('console') ?? '',
    agent,
    ...{ kernel: need('-kernel'), initrd: need('-initrd'), kernelWords: need('-append').split(' ') },
    incoming: one.get('-incoming') === 'defer',
  }
}

/** A guest's parameters, as kernel words tell them: numbers where they look like it. */
export function guestParameters(words: readonly string[]): { vm: string; parameters: Record<string, number | string> } {
  const parameters: Record<string, number | string> = {}
  let vm = ''
  for (const word of words) {
    const found = /^stellwerk\.([A-Za-z0-9]+)=(.*)$/.exec(word)
    if (found === null) continue
    const [, name = '', value = ''] = found
    if (name === 'vm') vm = value
    else parameters[name] = /^-?\d+(\.\d+)?$/.test(value) ? Number(value) : value
  }
  return { vm, parameters }
}

function diskOf(value: string): DiskArgument {
  const node = JSON.parse(value) as { driver: string; export: string; server: { path: string } }
  if (node.driver !== 'nbd') throw bad(`no block driver is simulated for ${node.driver}`)
  return { name: node.export, socket: node.server.path }
}

/** Of words like `socket,id=monitor,path=qmp.sock`. */
function wordOf(value: string, name: string): string {
  const found = value.split(',').find(word => word.startsWith(`${name}=`))
  if (found === undefined) throw bad(`${value}: ${name} is missing`)
  return found.slice(name.length + 1)
}

function bad(why: string): StellwerkError {
  return new StellwerkError('bad-arguments', why)
}
