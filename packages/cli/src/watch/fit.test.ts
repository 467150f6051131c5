import { describe, expect, it } from 'vitest'
import { line, textOf } from '../render/styled.ts'
import { fit, type Section } from './fit.ts'

const section = (name: string, count: number, more: Partial<Section> = {}): Section => ({
  name,
  rank: 0,
  least: 3,
  hasHead: true,
  keeps: 'first',
  lines: [name.toUpperCase(), ...Array.from({ length: count }, (_, n) => `${name}-${n + 1}`)].map(text => line(text)),
  ...more,
})
const shown = (sections: Section[], rows: number) => fit(sections, rows).map(textOf)

describe('the parts of a picture', () => {
  it('are all there where there is room, with an empty line between two', () => {
    expect(shown([section('a', 1), section('b', 2)], 10)).toEqual(['A', 'a-1', '', 'B', 'b-1', 'b-2'])
    expect(shown([section('a', 1), section('b', 2)], Number.POSITIVE_INFINITY)).toHaveLength(6)
  })

  it('say how much was cut', () => {
    expect(shown([section('a', 9)], 4)).toEqual(['A', 'a-1', 'a-2', '… and 7 more'])
    expect(shown([section('a', 9)], 2)).toEqual(['A', 'a-1'])
  })

  it('keep their newest rows where these count', () => {
    expect(shown([section('a', 9, { keeps: 'last' })], 3)).toEqual(['A', 'a-8', 'a-9'])
  })

  it('give way by rank, and stay in their order', () => {
    const crowd = [section('late', 5, { rank: 9 }), section('first', 5, { rank: 1 })]
    expect(shown(crowd, 4)).toEqual(['FIRST', 'first-1', 'first-2', '… and 3 more'])
    expect(shown(crowd, 7)).toEqual(['LATE', 'late-1', '… and 4 more', '', 'FIRST', 'first-1', '… and 4 more'])
  })

  it('are never more than the rows', () => {
    for (let rows = 0; rows < 40; rows++) {
      const crowd = [section('a', 7), section('b', 1, { rank: 2 }), section('c', 12, { rank: 1, keeps: 'last' })]
      const { length } = shown(crowd, rows)
      expect(length).toBeLessThanOrEqual(rows)
      if (rows <= 20) expect(length).toBeGreaterThanOrEqual(Math.min(rows, 25) - 1 - (rows < 2 ? 1 : 0))
    }
  })
})
