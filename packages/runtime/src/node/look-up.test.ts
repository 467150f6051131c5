// Names are asked of the name service. One that does not answer, or does not know them, is an error of the dial, in time.

import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { dialTarget } from './address.ts'
import { lookUp } from './look-up.ts'

test('a name has somebody to look it up, an address has not, and neither has what is no name', () => {
  const at = (host: string) => ({ network: 'cluster', host, port: 7400 }) as const
  expect(dialTarget(at('san-a.fabric-0'))).toEqual({ host: 'san-a.fabric-0', port: 7400, lookup: lookUp })
  expect(dialTarget(at('stellwerk_agent_1.stellwerk_cluster'))).toMatchObject({ lookup: lookUp })
  expect(dialTarget(at('10.0.0.1'))).toEqual({ host: '10.0.0.1', port: 7400 })
  for (const host of ['a b', '-x', 'x/y', '']) {
    expect(() => dialTarget(at(host))).toThrow(expect.objectContaining({ code: 'bad-address' }))
  }
  expect(() => dialTarget({ ...at('san-a'), port: 70_000 })).toThrow(expect.objectContaining({ code: 'bad-address' }))
})

test('a name that nobody knows is an error', async () => {
  await expect(promisify(lookUp as never)('no-such-host.invalid' as never, {} as never)).rejects.toBeDefined()
})
