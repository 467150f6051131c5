// Bundles the installed TypeBox into one file; run as a program, writes src/schema/typebox.js (docs/adr/0050).
import { cpSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { rolldown } from 'rolldown'

const ENTRY = 'typebox-entry'
/** What this project uses of it; the types stand in typebox.d.ts. */
const SOURCE = `
export { Type } from 'typebox'
export { Compile } from 'typebox/compile'
export { Value } from 'typebox/value'
`
const HEAD = `// TypeBox, bundled into one file by tools/bundle-typebox.ts: not to be edited. Its license: typebox.license.
`
const target = new URL('../src/schema/typebox.js', import.meta.url)

export async function bundleTypebox(): Promise<string> {
  const here = fileURLToPath(import.meta.url)
  const bundle = await rolldown({
    cwd: dirname(here),
    input: ENTRY,
    platform: 'node',
    plugins: [
      {
        name: ENTRY,
        resolveId: (id, importer) => {
          if (id === ENTRY) return id
          return importer === ENTRY ? fileURLToPath(import.meta.resolve(id)) : null
        },
        load: id => (id === ENTRY ? SOURCE : null),
      },
    ],
  })
  const { output } = await bundle.generate({ format: 'esm', comments: false })
  await bundle.close()
  return HEAD + output[0].code
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  writeFileSync(target, await bundleTypebox())
  cpSync(new URL('../license', import.meta.resolve('typebox')), new URL('typebox.license', target))
}
