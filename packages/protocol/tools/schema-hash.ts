// Prints the hash of the current version's schemas; with --write, pins it in schema-hashes.json (not over a released one's).
import { readFileSync, writeFileSync } from 'node:fs'
import '../src/messages/all.ts'
import { registry } from '../src/messages/family.ts'
import { schemaHash } from '../src/schema-hash.ts'
import { CURRENT_VERSION, VERSION_HISTORY } from '../src/versions.ts'

const file = new URL('../schema-hashes.json', import.meta.url)
const hash = schemaHash(registry)
process.stdout.write(`version ${CURRENT_VERSION}: ${hash}\n`)

if (process.argv.includes('--write')) {
  const pinned = JSON.parse(readFileSync(file, 'utf8')) as Record<string, string>
  const current = VERSION_HISTORY.find(entry => entry.version === CURRENT_VERSION)
  const key = String(CURRENT_VERSION)
  if (current?.released === true && pinned[key] !== undefined && pinned[key] !== hash) {
    process.stderr.write(`version ${CURRENT_VERSION} is released: add a new one to src/versions.ts instead\n`)
    process.exitCode = 1
  } else {
    pinned[key] = hash
    writeFileSync(file, `${JSON.stringify(pinned, null, 2)}\n`)
    process.stdout.write('pinned in schema-hashes.json\n')
  }
}
