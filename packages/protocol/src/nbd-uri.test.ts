import { describe, expect, it } from 'vitest'
import { formatNbdUri, isNbdUri, parseNbdUri } from './nbd-uri.ts'

const tcp = (host: string, port: number) => ({ network: 'cluster', host, port }) as const
const unix = (path: string) => ({ network: 'local', host: path, port: 0 }) as const

describe('an NBD URI', () => {
  it.each([
    ['nbd://127.0.0.1:10900/csv1', tcp('127.0.0.1', 10_900), 'csv1'],
    ['nbd://127.0.0.1', tcp('127.0.0.1', 10_809), ''],
    ['nbd://localhost/', tcp('127.0.0.1', 10_809), ''],
    ['nbd://[::1]:7/a', tcp('::1', 7), 'a'],
    ['nbd+unix:///web-1?socket=/run/x.sock', unix('/run/x.sock'), 'web-1'],
    ['nbd+unix:///?socket=%2Frun%2Fa%20b', unix('/run/a b'), ''],
    ['nbd://10.0.0.1/csv1%3Fhost%3Dh', tcp('10.0.0.1', 10_809), 'csv1?host=h'],
    ['nbd://10.0.0.1/a/b', tcp('10.0.0.1', 10_809), 'a/b'],
  ])('%s names an address and an export', (text, address, exportName) => {
    expect(parseNbdUri(text)).toEqual({ address, exportName })
  })

  it.each(['nbd://', 'nbd+unix:///x', 'nbds://h/x', 'nbd+vsock://3/x', 'http://h/x', 'csv1', 'nbd://h/%zz'])(
    '%s is refused',
    text => {
      expect(() => parseNbdUri(text)).toThrow(expect.objectContaining({ code: 'bad-uri', hint: expect.any(String) }))
    },
  )

  it('is what was parsed when it is printed', () => {
    for (const exportName of ['', 'web-1', 'a/b ?&#%', 'ü']) {
      for (const address of [tcp('127.0.0.1', 1), tcp('::1', 65_535), unix('/tmp/a b&c?d.sock')]) {
        const uri = formatNbdUri({ address, exportName })
        expect(isNbdUri(uri)).toBe(true)
        expect(parseNbdUri(uri)).toEqual({ address, exportName })
      }
    }
    expect(isNbdUri('csv1')).toBe(false)
  })
})
