import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'

interface Locked {
  readonly optionalDependencies?: { readonly [name: string]: string }
  readonly resolved?: string
}

const lock = JSON.parse(readFileSync(new URL('../package-lock.json', import.meta.url), 'utf8')) as {
  readonly packages: { readonly [path: string]: Locked }
}

describe('package-lock.json', () => {
  // npm leaves out what it could not fetch, and then `npm ci` refuses the file on every machine.
  it('has an entry for every optional package of another platform', () => {
    const missing: string[] = []
    for (const [path, { optionalDependencies = {} }] of Object.entries(lock.packages)) {
      for (const name of Object.keys(optionalDependencies)) {
        const places = [`${path}/node_modules/${name}`, `node_modules/${name}`]
        if (!places.some(place => place in lock.packages)) missing.push(name)
      }
    }
    expect(missing).toEqual([])
  })

  it('names no registry', () => {
    for (const { resolved } of Object.values(lock.packages)) expect(resolved ?? '').not.toMatch(/^https?:/)
  })
})
