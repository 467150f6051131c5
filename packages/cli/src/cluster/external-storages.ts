// External storages as `up --external` names them, and what a cluster's file has of them afterwards.

import { COORDINATOR_NAME } from '@stellwerk/coordinator/core/host-names.ts'
import { NAME_PATTERN } from '@stellwerk/protocol/messages/fields.ts'
import type { Address } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { ClusterFile, ExternalStorage } from './cluster-file.ts'
import { FABRICS } from './layout.ts'

const HINT = 'say it as nas=10.0.0.9:10809, with a second address for fabric-1 after a comma'

/** `nas=10.0.0.9:10809,10.0.1.9:10809`: an address a fabric. Throws `bad-value`. */
export function parseExternal(text: string): ExternalStorage {
  const bad = (what: string): StellwerkError =>
    new StellwerkError('bad-value', what, { where: '--external', hint: HINT })
  const at = text.indexOf('=')
  const name = text.slice(0, Math.max(at, 0))
  if (!new RegExp(NAME_PATTERN).test(name)) throw bad(`"${text}" does not begin with a storage's name and "="`)
  const addresses = text.slice(at + 1).split(',')
  if (addresses.length > FABRICS.length) throw bad(`"${text}" has more addresses than there are fabrics`)
  const portals = addresses.map((address, i): Address => {
    const [, host = '', digits = ''] = /^\[?([^\]]+?)\]?:(\d{1,5})$/.exec(address) ?? []
    const port = Number(digits)
    if (host === '' || port < 1 || port > 65_535) throw bad(`"${address}" is no HOST:PORT`)
    return { network: FABRICS[i] ?? 'fabric-0', host, port }
  })
  return { name, portals, exports: [] }
}

/** Those named now are added, or get other addresses; what the file says of their exports stays. Throws `duplicate-name`. */
export function withExternal(file: ClusterFile, named: readonly ExternalStorage[]): ClusterFile {
  if (named.length === 0) return file
  const all = new Map((file.external ?? []).map(storage => [storage.name, storage]))
  for (const { name, portals } of named) {
    if (file.storages.some(storage => storage.name === name)) {
      throw new StellwerkError('duplicate-name', `"${name}" is one of the cluster's own storages`, {
        where: '--external',
        hint: 'choose another name',
      })
    }
    if (name === COORDINATOR_NAME || file.hosts.some(host => host.name === name)) {
      throw new StellwerkError('duplicate-name', `"${name}" is what a host or the coordinator is called`, {
        where: '--external',
        hint: 'choose another name',
      })
    }
    all.set(name, { name, portals, exports: all.get(name)?.exports ?? [] })
  }
  return { ...file, external: [...all.values()] }
}
