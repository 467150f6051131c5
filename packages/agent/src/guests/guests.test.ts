// The committed guest modules are what their sources compile to.

import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { compileGuest, embed, GUESTS } from '../../tools/build-guests.ts'

test('building the guests again gives the committed bytes', async () => {
  const built = new Map<string, Uint8Array>()
  for (const name of GUESTS) {
    const bytes = await compileGuest(name)
    const committed = readFileSync(new URL(`./modules/${name}.wasm`, import.meta.url))
    expect(Buffer.from(bytes).equals(committed), `${name}.wasm; run tools/build-guests.ts`).toBe(true)
    built.set(name, bytes)
  }
  const embedded = readFileSync(new URL('./modules/embedded.ts', import.meta.url), 'utf8')
  expect(embedded).toBe(embed(built))
})
