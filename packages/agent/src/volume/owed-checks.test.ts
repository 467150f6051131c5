import type { Message } from '@stellwerk/runtime/actors/message.ts'
import { errorMessage } from '@stellwerk/runtime/errors.ts'
import { describe, expect, it } from 'vitest'
import { MAX_OWED, OwedChecks } from './owed-checks.ts'

const REPORT = { clean: false, findings: [], summary: null }

function bench() {
  const said: string[] = []
  const checks = new OwedChecks(
    {
      reply: ({ seq }) => void said.push(`${seq}: reply`),
      fail: ({ seq }, error) => void said.push(`${seq}: ${errorMessage(error)}`),
    },
    'csv1',
  )
  const ask = (...seqs: number[]): void => {
    for (const seq of seqs) checks.add({ kind: 'volume.check', seq } as Message)
  }
  return { checks, said, ask }
}

describe('checks of a volume that its owner cannot open', () => {
  it('are answered by the next reading of the legs, also who asks while it goes on', async () => {
    const { checks, said, ask } = bench()
    ask(1)
    checks.begin()
    await checks.make(async () => {
      ask(2)
      return REPORT
    })
    expect([said, checks.pending]).toEqual([['1: reply', '2: reply'], false])
    await checks.make(() => Promise.reject(new Error('nobody asked')))
  })

  it('fail with the attempt that should have made them; who came in its midst waits for the next', async () => {
    const { checks, said, ask } = bench()
    ask(1)
    checks.begin()
    ask(2)
    checks.missed(new Error('no path'))
    expect(said).toEqual(['1: volume "csv1" could not be read for a check: no path'])
    checks.begin()
    await expect(checks.make(() => Promise.reject(new Error('gone')))).rejects.toThrow('gone')
    expect(checks.pending).toBe(true)
    checks.missed(new Error('gone'))
    expect([said.length, checks.pending]).toEqual([2, false])
  })

  it('are so many at most, and end with the owner', () => {
    const { checks, said, ask } = bench()
    ask(...Array.from({ length: MAX_OWED + 1 }, (_, i) => i))
    expect(said).toEqual([`${MAX_OWED}: ${MAX_OWED} checks of volume "csv1" wait already`])
    checks.fail('it is owned elsewhere')
    expect([said.length, checks.pending]).toEqual([MAX_OWED + 1, false])
  })
})
