// Networks of the guests that are Linux bridges of their hosts, as `up --bridge` names them and files have them.

import { NAME_PATTERN, Name } from '@stellwerk/protocol/messages/fields.ts'
import { Type } from '@stellwerk/protocol/schema/typebox.js'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'

/** What the kernel takes for a device's name. */
const DEVICE_PATTERN = '^[^\\s/:]{1,15}$'

/** Network → bridge. */
export const BridgesSchema = Type.Record(Name, Type.String({ pattern: DEVICE_PATTERN }))

/** `lan=br0`. Throws `bad-value`. */
export function parseBridge(text: string): readonly [network: string, bridge: string] {
  const [network = '', bridge = '', ...more] = text.split('=')
  const isOne = new RegExp(NAME_PATTERN).test(network) && new RegExp(DEVICE_PATTERN).test(bridge) && more.length === 0
  if (isOne) return [network, bridge]
  throw new StellwerkError('bad-value', `"${text}" is no network and its bridge`, {
    where: '--bridge',
    hint: 'say it as lan=br0',
  })
}

/** Those named now are added, or get other bridges. */
export function withBridges<T extends { readonly bridges?: { readonly [network: string]: string } }>(
  file: T,
  named: readonly (readonly [network: string, bridge: string])[],
): T {
  return named.length === 0 ? file : { ...file, bridges: { ...file.bridges, ...Object.fromEntries(named) } }
}
