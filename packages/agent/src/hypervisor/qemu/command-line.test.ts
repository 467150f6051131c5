import { expect, test } from 'vitest'
import { cpuModel } from './command-line.ts'

test('each level of processors has what the one below has, by names that are refused where they are not there', () => {
  expect(cpuModel(1)).toBe('qemu64,-svm,enforce')
  const levels = [1, 2, 3, 4].map(level => new Set(cpuModel(level).split(',')))
  for (const [i, features] of levels.entries()) {
    expect(features.has('enforce')).toBe(true)
    for (const below of levels.slice(0, i)) expect([...below].filter(each => !features.has(each))).toEqual([])
  }
  expect(levels[1]?.has('+sse4.2')).toBe(true)
  expect([levels[1]?.has('+avx2'), levels[2]?.has('+avx2')]).toEqual([false, true])
  expect([levels[2]?.has('+avx512f'), levels[3]?.has('+avx512f')]).toEqual([false, true])
})
