import { describe, expect, it } from 'vitest'
import type { CopyProgress } from '../core/state.ts'
import { progressView } from './migration-progress.ts'

const MIB = 2 ** 20
const COPY: CopyProgress = {
  round: 1,
  pagesSent: 1000,
  bytesSent: 10 * MIB,
  dirtyPages: 0,
  forecastMs: 12,
  totalBytes: 100 * MIB,
  leftBytes: 75 * MIB,
  bytesPerSecond: 25 * MIB,
  dirtyBytesPerSecond: 0,
}

describe('the progress of a migration', () => {
  it('is what the target has of the memory, and lasts what is left at the speed so far', () => {
    expect(progressView(COPY)).toMatchObject({ percent: 25, leftMs: 3_000, sentBytes: 10 * MIB, pauseMs: 12 })
  })

  it('takes into account what the guest dirties meanwhile', () => {
    expect(progressView({ ...COPY, round: 2, dirtyBytesPerSecond: 15 * MIB })?.leftMs).toBe(7_500)
  })

  it('has no end in sight while the guest dirties as fast as is sent, or nothing is measured', () => {
    expect(progressView({ ...COPY, dirtyBytesPerSecond: 25 * MIB })?.leftMs).toBe(null)
    expect(progressView({ ...COPY, bytesPerSecond: 0 })?.leftMs).toBe(null)
  })

  it('is 100 % only when nothing is left', () => {
    expect(progressView({ ...COPY, leftBytes: 1 })?.percent).toBe(99)
    expect(progressView({ ...COPY, leftBytes: 0 })).toMatchObject({ percent: 100, leftMs: 0 })
  })

  it('is not known before the source has said how much there is', () => {
    expect(progressView({ ...COPY, totalBytes: 0 })).toBe(null)
  })
})
