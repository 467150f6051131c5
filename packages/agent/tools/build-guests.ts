// Compiles the guest programs: src/guests/assembly/*.ts (AssemblyScript) into src/guests/modules/*.wasm, and the same bytes
// into src/guests/modules/embedded.ts, from where an agent takes them without a file. The same sources and compiler give the
// same bytes, which a test checks. Run: node packages/agent/tools/build-guests.ts

import { mkdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import asc from 'assemblyscript/asc'

export const GUESTS: readonly string[] = ['echo', 'ledger']

const sources = fileURLToPath(new URL('../src/guests/assembly', import.meta.url))
const modules = fileURLToPath(new URL('../src/guests/modules/', import.meta.url))

/** A guest may ask for at least this much memory (2 MiB) and gets at most what WebAssembly can address (4 GiB). */
const MINIMUM_PAGES = 32
const MAXIMUM_PAGES = 65536
/** Below it lie the machine's rings (assembly/machine.ts). */
const STATIC_DATA_AT = 65536

export async function compileGuest(name: string): Promise<Uint8Array> {
  let bytes: Uint8Array | null = null
  const result = await asc.main(
    [
      `${name}.ts`,
      ...['--baseDir', sources, '--outFile', `${name}.wasm`],
      // No allocator, no start function, no imports but the memory: nothing that would hide state.
      ...['--runtime', 'stub', '--use', 'abort=', '--noAssert', '-O3'],
      ...['--enable', 'threads', '--importMemory', '--sharedMemory', '--noExportMemory'],
      ...['--initialMemory', `${MINIMUM_PAGES}`, '--maximumMemory', `${MAXIMUM_PAGES}`],
      ...['--memoryBase', `${STATIC_DATA_AT}`],
    ],
    {
      writeFile: (file, contents) => {
        if (file.endsWith('.wasm') && typeof contents !== 'string') bytes = contents
      },
    },
  )
  if (result.error !== null || bytes === null) {
    throw new Error(`${name} does not compile: ${result.error?.message ?? 'no output'}\n${result.stderr.toString()}`)
  }
  return bytes
}

/** The TypeScript file that carries the modules. */
export function embed(guests: ReadonlyMap<string, Uint8Array>): string {
  const lines = [
    '// The compiled guest programs, as text. Made by tools/build-guests.ts from assembly/; the same bytes lie beside as .wasm.',
    '',
    'export const EMBEDDED_GUESTS: { readonly [name: string]: string } = {',
  ]
  for (const [name, bytes] of guests) {
    lines.push(`  ${name}:`)
    const text = Buffer.from(bytes).toString('base64')
    const parts = text.match(/.{1,108}/g) ?? []
    lines.push(...parts.map((part, n) => `    '${part}'${n + 1 < parts.length ? ' +' : ','}`))
  }
  lines.push('}', '')
  return lines.join('\n')
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  mkdirSync(modules, { recursive: true })
  const guests = new Map<string, Uint8Array>()
  for (const name of GUESTS) guests.set(name, await compileGuest(name))
  for (const [name, bytes] of guests) {
    writeFileSync(`${modules}${name}.wasm`, bytes)
    console.log(`${name}.wasm ${bytes.length} bytes`)
  }
  writeFileSync(`${modules}embedded.ts`, embed(guests))
}
