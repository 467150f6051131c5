// What every Store must do.

import { describe, expect, test } from 'vitest'
import type { Store } from '../environment.ts'

/** `run` gives the body a fresh, empty store. */
export function storeContract(name: string, run: (body: (store: Store) => void) => void | Promise<void>): void {
  describe(`store of ${name}`, () => {
    test('a key that was never put has no value', () =>
      run(store => {
        expect(store.get('a')).toBeUndefined()
        expect(store.entries('')).toEqual([])
      }))

    test('every JSON value comes back as it was put', () =>
      run(store => {
        const values = [
          null,
          true,
          false,
          0,
          -1.5,
          1e300,
          '',
          'ü\u0000\u{1f600}"',
          [],
          {},
          [1, [2, { a: null }]],
          { b: { c: 'd' } },
        ]
        values.forEach((value, i) => {
          store.commit([{ put: `k${i}`, value }])
        })
        values.forEach((value, i) => {
          expect(store.get(`k${i}`)).toEqual(value)
        })
      }))

    test('the changes of one commit apply in order', () =>
      run(store => {
        store.commit([
          { put: 'a', value: 1 },
          { put: 'a', value: 2 },
          { put: 'b', value: 3 },
          { delete: 'b' },
          { delete: 'none' },
        ])
        expect(store.entries('')).toEqual([['a', 2]])
      }))

    test('entries are those with the prefix, sorted by key', () =>
      run(store => {
        const keys = ['b/2', 'b/10', 'b', 'a/1', 'c/1', 'b/', 'b0', 'b/\u{1f600}', 'b/\uffee', 'b/ä']
        store.commit(keys.map(key => ({ put: key, value: key })))
        expect(store.entries('b/').map(([key]) => key)).toEqual(['b/', 'b/10', 'b/2', 'b/ä', 'b/\u{1f600}', 'b/\uffee'])
        expect(store.entries('').map(([key]) => key)).toEqual([...keys].sort())
        expect(store.entries('d')).toEqual([])
        for (const [key, value] of store.entries('')) expect(value).toBe(key)
      }))

    test('percent signs, underscores and stars in a prefix stand for themselves', () =>
      run(store => {
        store.commit(['a%b', 'a_b', 'a*b', 'axb'].map(key => ({ put: key, value: 1 })))
        for (const prefix of ['a%', 'a_', 'a*'])
          expect(store.entries(prefix).map(([key]) => key)).toEqual([`${prefix}b`])
      }))

    test('what a caller does to a value it put or got does not reach the store', () =>
      run(store => {
        const value = { list: [1] }
        store.commit([{ put: 'a', value }])
        value.list.push(2)
        // What comes out may be a copy, or frozen.
        const got = store.get('a') as { list: number[] }
        if (!Object.isFrozen(got.list)) got.list.push(3)
        expect(store.get('a')).toEqual({ list: [1] })
      }))

    test('an empty commit changes nothing', () =>
      run(store => {
        store.commit([{ put: 'a', value: 1 }])
        store.commit([])
        expect(store.entries('')).toEqual([['a', 1]])
      }))
  })
}
