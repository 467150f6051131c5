// What is told of a guest by its agent's word: what is understood, and nothing of what is made up.

import { GuestFactsSchema } from '@stellwerk/protocol/messages/guest-agent.ts'
import { Value } from '@stellwerk/protocol/schema/typebox.js'
import type { Json } from '@stellwerk/runtime/environment.ts'
import { expect, test } from 'vitest'
import { guestFacts } from './guest-facts.ts'

const none = { info: null, hostName: null, os: null, interfaces: null }

test('as Debian’s qemu-ga 7.2 answers in a guest with a card', () => {
  const facts = guestFacts({
    info: { version: '7.2.22', supported_commands: [{ enabled: true, name: 'guest-ping', 'success-response': true }] },
    hostName: { 'host-name': 'web' },
    os: {
      ...{ name: 'Debian GNU/Linux', 'kernel-release': '6.1.0-44-cloud-amd64', version: '12 (bookworm)' },
      ...{ 'pretty-name': 'Debian GNU/Linux 12 (bookworm)', 'version-id': '12', machine: 'x86_64', id: 'debian' },
    },
    interfaces: [
      {
        ...{ name: 'lo', 'hardware-address': '00:00:00:00:00:00' },
        'ip-addresses': [{ 'ip-address-type': 'ipv4', 'ip-address': '127.0.0.1', prefix: 8 }],
      },
      {
        ...{ name: 'ens3', 'hardware-address': '52:54:00:12:34:AB', statistics: { 'rx-bytes': 1 } },
        'ip-addresses': [
          { 'ip-address-type': 'ipv4', 'ip-address': '10.0.0.7', prefix: 24 },
          { 'ip-address-type': 'ipv6', 'ip-address': '2001:DB8::7', prefix: 64 },
          { 'ip-address-type': 'ipv6', 'ip-address': 'fe80::5054:ff:fe12:34ab', prefix: 64 },
        ],
      },
      { name: 'down', 'hardware-address': '52:54:00:12:34:ac' },
    ],
  })
  expect(facts).toEqual({
    ...{ version: '7.2.22', hostName: 'web', os: 'Debian GNU/Linux 12 (bookworm)' },
    interfaces: [{ name: 'ens3', mac: '52:54:00:12:34:ab', addresses: ['10.0.0.7', '2001:db8::7'] }],
  })
})

test('one that says little, or of a kernel alone', () => {
  expect(guestFacts(none)).toEqual({ version: null, hostName: null, os: null, interfaces: [] })
  expect(guestFacts({ ...none, os: { 'kernel-release': '6.1' } }).os).toBe('kernel 6.1')
})

test('whatever it says, what is told fits the protocol and no terminal obeys it', () => {
  const long = 'ä'.repeat(10_000)
  const card = (address: Json, mac: Json = null): Json => ({
    ...{ name: `\u001b]0;x\u0007${long}`, 'hardware-address': mac },
    'ip-addresses': [{ 'ip-address': address }, null, 7, { 'ip-address': `10.0.0.1;${long}` }],
  })
  const hostile: Json[] = [
    ...[null, 0, 'text', [], {}, [[[]]], { 'host-name': { toString: 'x' } }, { version: long, 'host-name': long }],
    { 'pretty-name': '\u202egnp.exe\u2028\ud800', 'kernel-release': '\0' },
    Array.from({ length: 1_500 }, () => card('10.0.0.7', '52:54:00:12:34:56')),
    [card(['10.0.0.7']), card('::ffff:10.0.0.7', 'x'), card('10.0.0.7\u001b[2J'), card('999.999.999.9999')],
    [{ name: 'many', 'ip-addresses': Array.from({ length: 5_000 }, () => ({ 'ip-address': '10.0.0.7' })) }],
  ]
  for (const [index, answer] of hostile.entries()) {
    const facts = guestFacts({ info: answer, hostName: answer, os: answer, interfaces: answer })
    expect(Value.Check(GuestFactsSchema, facts), `answer ${index}`).toBe(true)
    expect(JSON.stringify(facts)).not.toMatch(/\\u|[\u007f-\u009f\u202a-\u202e\u2028\ud800-\udfff]/)
  }
})
