import { describe, expect, it } from 'vitest'
import { RightToRun } from './right-to-run.ts'

describe('the right to run (FEN2)', () => {
  it('is none before anything was granted', () => {
    expect(new RightToRun({ leaseMs: 3000 }).mayRun(['san-a'], 0)).toBe(false)
  })

  it('a lease counts from the sending of the beat that it answers', () => {
    const right = new RightToRun({ leaseMs: 3000 })
    right.granted(1000, 3000)
    expect(right.mayRun(null, 3999)).toBe(true)
    expect(right.mayRun(null, 4000)).toBe(false)
  })

  it('an answer that comes late never shortens what a later one granted', () => {
    const right = new RightToRun({ leaseMs: 3000 })
    right.granted(2000, 3000)
    right.granted(1000, 3000)
    expect(right.until(null)).toBe(5000)
  })

  it('the storage lease needs a probe on every storage of the VM', () => {
    const right = new RightToRun({ leaseMs: 3000 })
    right.probed('san-a', 1000)
    expect(right.mayRun(['san-a'], 2000)).toBe(true)
    expect(right.mayRun(['san-a', 'san-b'], 2000)).toBe(false)
    right.probed('san-b', 500)
    expect(right.until(['san-a', 'san-b'])).toBe(3500)
  })

  it('a VM without volumes has only the lease of the coordinator', () => {
    const right = new RightToRun({ leaseMs: 3000 })
    right.probed('san-a', 1000)
    expect(right.mayRun([], 1500)).toBe(false)
    expect(right.mayRun(null, 1500)).toBe(false)
  })

  it('a fence voids everything, and nothing granted to the old epoch counts for a new one', () => {
    const right = new RightToRun({ leaseMs: 3000 })
    right.granted(1000, 3000)
    right.probed('san-a', 1000)
    right.fence()
    expect(right.mayRun(['san-a'], 1001)).toBe(false)
    right.granted(1000, 3000)
    expect(right.mayRun(['san-a'], 1001)).toBe(false)
    right.admit(3000)
    expect(right.mayRun(['san-a'], 1002)).toBe(false)
  })
})
