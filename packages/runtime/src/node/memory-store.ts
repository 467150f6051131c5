// A Store that lives as long as its object: for tests and for programs that keep no state. Values are kept as JSON text, so
// that nothing is shared with the caller, as with a store on disk.

import { present } from '../assert.ts'
import type { Json, Store } from '../environment.ts'

export function memoryStore(): Store {
  const texts = new Map<string, string>()
  return {
    get(key) {
      const text = texts.get(key)
      return text === undefined ? undefined : (JSON.parse(text) as Json)
    },
    entries(prefix) {
      const keys = [...texts.keys()].filter(key => key.startsWith(prefix)).sort()
      return keys.map(key => [key, JSON.parse(present(texts.get(key), key)) as Json] as const)
    },
    commit(changes) {
      // All texts are made before any is kept: a value that is no JSON must not leave half a commit.
      const made = changes.map(change =>
        'put' in change
          ? ([change.put, storedText(change.put, change.value)] as const)
          : ([change.delete, null] as const),
      )
      for (const [key, text] of made) {
        if (text === null) texts.delete(key)
        else texts.set(key, text)
      }
    },
  }
}

/** A value as the text a store keeps. */
export function storedText(key: string, value: Json): string {
  return present(JSON.stringify(value) as string | undefined, `a JSON value for ${key}`)
}
