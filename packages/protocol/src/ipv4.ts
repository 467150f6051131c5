// IPv4 addresses as text and as numbers of 32 bits, the first byte the highest.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'

/** `10.0.0.1`: four numbers from 0 to 255. */
export const IPV4_PATTERN = '^(25[0-5]|2[0-4]\\d|1?\\d?\\d)(\\.(25[0-5]|2[0-4]\\d|1?\\d?\\d)){3}$'

export function isIpv4(text: string): boolean {
  return new RegExp(IPV4_PATTERN).test(text)
}

/** Throws `bad-address`. */
export function parseIpv4(text: string): number {
  if (isIpv4(text)) return text.split('.').reduce((address, byte) => address * 256 + Number(byte), 0)
  throw new StellwerkError('bad-address', `"${text}" is no IPv4 address`, { hint: 'say for example 10.0.0.7' })
}

export function formatIpv4(address: number): string {
  return [24, 16, 8, 0].map(shift => (address >>> shift) & 0xff).join('.')
}
