// What a cluster's directory keeps for itself.

import { expect, test } from 'vitest'
import { checkHostDirectory } from './directory.ts'

test('no host takes the place of what the cluster’s directory has of its own', () => {
  for (const name of ['lock', 'log', 'launch', 'output', 'chaos', 'cluster.json', 'up.json', 'join-token']) {
    expect(() => checkHostDirectory(name, '/clusters/one')).toThrow(
      expect.objectContaining({ code: 'bad-name', where: '/clusters/one', hint: 'choose another name' }),
    )
  }
  expect(() => checkHostDirectory('host-d', '/clusters/one')).not.toThrow()
})
