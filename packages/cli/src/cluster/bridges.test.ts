import { expect, test } from 'vitest'
import { parseBridge, withBridges } from './bridges.ts'

test('a network and its bridge are read, and what is neither is refused with how it is said', () => {
  expect(parseBridge('lan=br0')).toEqual(['lan', 'br0'])
  for (const text of ['lan', 'lan=', '=br0', 'lan=br0=1', 'lan=a/b', 'lan=a-name-of-sixteen', '/etc=br0', 'lan=br 0']) {
    expect(() => parseBridge(text)).toThrow(expect.objectContaining({ code: 'bad-value', where: '--bridge' }))
  }
})

test('those named now are added to those that a cluster has, and nothing else changes', () => {
  const file = { name: 'x', bridges: { lan: 'br0', dmz: 'br1' } }
  expect(withBridges(file, [])).toBe(file)
  expect(withBridges(file, [['dmz', 'br2']])).toEqual({ name: 'x', bridges: { lan: 'br0', dmz: 'br2' } })
})
