import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { bundleTypebox } from '../../tools/bundle-typebox.ts'

test('the committed bundle is what the installed TypeBox bundles to', async () => {
  const committed = readFileSync(new URL('./typebox.js', import.meta.url), 'utf8')
  expect((await bundleTypebox()) === committed, 'run tools/bundle-typebox.ts').toBe(true)
})
