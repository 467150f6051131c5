#!/usr/bin/env node
// The `stellwerk` command. Plain JavaScript that an older Node runs: it looks for the Node that came with the project and
// lets that one run the TypeScript. Nothing is decided here.

import { spawn } from 'node:child_process'
import { existsSync, realpathSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const NODE_MAJOR = 24
const here = dirname(realpathSync(fileURLToPath(import.meta.url)))
const main = join(here, '..', 'src', 'main.ts')

if (Number(process.versions.node.split('.')[0]) >= NODE_MAJOR) {
  await import(pathToFileURL(main).href)
} else {
  const node = join(here, '..', '..', '..', 'node_modules', '.bin', 'node')
  if (!existsSync(node)) {
    console.error(
      `stellwerk: Node ${NODE_MAJOR} or newer is needed, this is ${process.versions.node}, and the project's own is not installed; run "npm ci" in ${join(here, '..', '..', '..')}`,
    )
    process.exit(1)
  }
  const child = spawn(node, [main, ...process.argv.slice(2)], { stdio: 'inherit' })
  // What is sent to this process alone is meant for the other; a terminal sends to both, and the second is ignored there.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
  child.on('exit', (code, signal) => {
    if (signal === null) process.exit(code ?? 1)
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.removeAllListeners(name)
    process.kill(process.pid, signal)
  })
}
