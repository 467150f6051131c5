import { expect, test } from 'vitest'
import { cut, describeFault, killed, ofKind, paused } from './act-words.ts'

test.each([
  [killed('agent', 'host-a'), { kind: 'agent-kill', host: 'host-a' }, 'agent-kill of host-a'],
  [killed('coordinator', undefined), { kind: 'coordinator-kill' }, 'coordinator-kill'],
  [paused('storage', 'san-b'), { kind: 'storage-pause', storage: 'san-b' }, 'storage-pause of san-b'],
  [
    cut('host', 'host-a', undefined, { network: 'cluster' }),
    { kind: 'host-isolate', network: 'cluster' },
    'host-isolate of host-a on cluster',
  ],
  [
    cut('link', 'host-a', 'san-a', { oneWay: true }),
    { kind: 'partition', host: 'host-a', peer: 'san-a', oneWay: true },
    'partition of host-a to san-a',
  ],
  [
    cut('cable', 'host-a', 'fabric-1', {}),
    { kind: 'cable-pull', host: 'host-a', fabric: 1 },
    'cable-pull of host-a on fabric-1',
  ],
  [cut('fabric', '0', undefined, {}), { kind: 'fabric-down', fabric: 0 }, 'fabric-down of fabric-0'],
  [
    ofKind('delay', field => ({ host: 'host-a', delayMs: '20', jitterMs: undefined })[field as 'host'], {}),
    { kind: 'delay', host: 'host-a', delayMs: 20 },
    'delay of host-a',
  ],
  [
    ofKind('loss', field => ({ host: 'host-a', peer: 'host-b', chance: '0.5' })[field as 'host'], { oneWay: true }),
    { kind: 'loss', peer: 'host-b', chance: 0.5, oneWay: true },
    'loss of host-a to host-b',
  ],
])('%j', (fault, what, words) => {
  expect(fault).toMatchObject(what)
  expect(describeFault(fault)).toBe(words)
})

test.each([
  [() => killed('vm', 'x'), /nothing that this can be done to/],
  [() => killed('host', undefined), /needs a name/],
  [() => cut('cable', 'host-a', '7', {}), /"7" is no fabric/],
  [() => cut('host', 'host-a', undefined, { network: 'wlan' }), /no network "wlan"/],
  [() => ofKind('earthquake', () => undefined, {}), /no fault "earthquake"/],
  [() => ofKind('loss', field => (field === 'chance' ? '3' : undefined), {}), /"3" is no number from 0 to 1/],
  [() => ofKind('clock-jump', field => (field === 'storage' ? 'san-a' : undefined), {}), /clock-jump has no --storage/],
  [() => ofKind('disk-full', () => undefined, { network: 'cluster' }), /disk-full has no --network/],
  [() => ofKind('cable-pull', () => undefined, { oneWay: true }), /cable-pull has no --one-way/],
  [() => ofKind('coordinator-kill', () => 'host-a', {}), /coordinator-kill has no --host/],
])('refused: %s', (act, why) => {
  expect(act).toThrow(why)
})
