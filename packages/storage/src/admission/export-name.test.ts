import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { compareSessions, type ExportName, formatExportName, parseExportName } from './export-name.ts'

const name = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/)
const count = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER })
const positive = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER })
const claim = fc.record({
  host: name,
  epoch: positive,
  session: fc.tuple(count, count),
  generation: count,
  via: fc.option(name),
  owner: fc.option(positive),
})
const exportName: fc.Arbitrary<ExportName> = fc.record({ lun: name, claim: fc.option(claim) })

describe('export names', () => {
  it('say what they were made of', () => {
    fc.assert(
      fc.property(exportName, given => {
        expect(parseExportName(formatExportName(given))).toEqual(given)
      }),
    )
  })

  it('may have their fields in any order', () => {
    const { claim: found } = parseExportName(
      'csv1?generation=4&session=2.7&owner=3&via=host-b&epoch=9&host=host-a',
    ) as ExportName
    expect(found).toEqual({ host: 'host-a', epoch: 9, session: [2, 7], generation: 4, via: 'host-b', owner: 3 })
  })

  const good = 'host=a&epoch=1&session=1.0&generation=0'
  it.each([
    ['', 'names no LUN'],
    ['?host=a', 'names no LUN'],
    ['a/b', 'valid name'],
    ['../x', 'valid name'],
    ['csv1?', 'none of its fields'],
    [`csv1?${good}&colour=red`, 'none of its fields'],
    [`csv1?${good}&host=b`, `'host' comes twice`],
    [`csv1?${good}&`, 'none of its fields'],
    ['csv1?host=a&epoch=1&session=1.0', `'generation'`],
    ['csv1?host=a&epoch=1&generation=0', `'session'`],
    ['csv1?epoch=1&session=1.0&generation=0', `'host'`],
    ['csv1?host=a&epoch=0&session=1.0&generation=0', `'epoch'`],
    ['csv1?host=a&epoch=01&session=1.0&generation=0', `'epoch'`],
    ['csv1?host=a&epoch=-1&session=1.0&generation=0', `'epoch'`],
    ['csv1?host=a&epoch=9007199254740993&session=1.0&generation=0', `'epoch'`],
    ['csv1?host=a&epoch=1&session=1&generation=0', `'session'`],
    ['csv1?host=a&epoch=1&session=1.2.3&generation=0', `'session'`],
    ['csv1?host=a&epoch=1&session=1.x&generation=0', `'session'`],
    [`csv1?${good}&owner=0`, `'owner'`],
    [`csv1?${good}&via=b%20c`, `'via'`],
    ['csv1?host=a=b&epoch=1&session=1.0&generation=0', `'host'`],
  ])('refuse %s', (text, why) => {
    const found = parseExportName(text)
    expect(found).toMatchObject({ code: 'bad-export-name' })
    expect((found as { message: string }).message).toMatch(/^bad-export-name /)
    expect((found as { message: string }).message).toContain(why)
  })

  it('never throw, whatever they are', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (a, b) => {
        for (const text of [a, `${a}?${b}`, `csv1?${good}&${a}=${b}`]) parseExportName(text)
      }),
    )
  })

  it('order sessions by incarnation, then number', () => {
    expect(compareSessions([1, 9], [2, 0])).toBeLessThan(0)
    expect(compareSessions([2, 1], [2, 0])).toBeGreaterThan(0)
    expect(compareSessions([2, 1], [2, 1])).toBe(0)
  })
})
