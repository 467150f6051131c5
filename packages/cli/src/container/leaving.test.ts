// A host whose container is stopped: its VMs are moved first where there is somewhere to go, and nothing holds it up for ever.

import { describe, expect, it } from 'vitest'
import { comeBack, LEAVING, leaveFirst } from './leaving.ts'

interface Seen {
  readonly left: number
  readonly others: readonly string[]
}

/** An API that shows one of these after the other, the last for ever; time passes only by sleeping. */
function leaving(shown: readonly Seen[], fails = false) {
  const said: string[] = []
  const calls: string[] = []
  let time = 0
  let at = 0
  const api = {
    post: async (path: string, body: object = {}) => {
      calls.push(`${path} ${JSON.stringify(body)}`)
      if (fails) throw new Error('the coordinator does not answer')
      return {}
    },
    get: async () => {
      const { left, others } = shown[Math.min(at, shown.length - 1)]!
      at += 1
      const drain = { why: LEAVING, left: Array.from({ length: left }, (_, i) => ({ vm: `vm-${i}`, why: null })) }
      const hosts = others.map((state, i) => [`agent-${i + 2}`, { name: `agent-${i + 2}`, state, drain: null }])
      return Object.fromEntries([['agent-1', { name: 'agent-1', state: 'draining', drain }], ...hosts])
    },
  }
  const sleep = async (ms: number): Promise<void> => {
    time += ms
  }
  const run = () => leaveFirst({ api, host: 'agent-1', now: () => time, sleep, log: line => said.push(line) })
  return { run, said, calls, time: () => time }
}

describe('before it is stopped', () => {
  it('waits until all its VMs are elsewhere', async () => {
    const { run, said, calls } = leaving([
      { left: 2, others: ['up'] },
      { left: 1, others: ['up'] },
      { left: 0, others: ['up'] },
    ])
    await run()
    expect([said, calls]).toEqual([[], [`/v1/hosts/agent-1/drain {"why":"${LEAVING}"}`]])
  })

  it('waits not long where all the others leave too, or the coordinator is gone, and not for ever', async () => {
    const all = leaving([{ left: 1, others: ['draining', 'drained'] }])
    await all.run()
    expect([all.time() < 5_000, all.said]).toEqual([true, ['1 VMs have nowhere to go: they are shut down here']])
    const alone = leaving([], true)
    await alone.run()
    expect(alone.said).toEqual(['its VMs are shut down here: the coordinator does not answer'])
    const stuck = leaving([{ left: 1, others: ['up'] }])
    await stuck.run()
    expect([stuck.time(), stuck.said.length]).toEqual([40_000, 1])
  })
})

describe('when it is back', () => {
  const back = async (why: string | null, failures = 0) => {
    const posted: string[] = []
    let left = failures
    const api = {
      get: async () => {
        left -= 1
        if (left >= 0) throw new Error('not yet')
        return { drain: why === null ? null : { why, left: [] } }
      },
      post: async (path: string) => posted.push(path),
    }
    await comeBack({ api, host: 'agent-1', sleep: async () => undefined, log: line => posted.push(line) }, 5)
    return posted
  }

  it('takes VMs again if it left for its container’s sake alone, as soon as somebody answers', async () => {
    expect(await back(LEAVING)).toEqual(['/v1/hosts/agent-1/resume'])
    expect(await back(LEAVING, 3)).toEqual(['/v1/hosts/agent-1/resume'])
    expect(await back('its disks are changed')).toEqual([])
    expect(await back(null)).toEqual([])
    expect(await back(LEAVING, 9)).toEqual([expect.stringMatching(/may still be out of service.*not yet/)])
  })
})
