// Installs what package-lock.json names, if that has not been done or the lock file has changed since. Plain JavaScript:
// it runs before anything is installed, on whatever Node the machine has. The project's own Node comes with it.

import { spawnSync } from 'node:child_process'
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('..', import.meta.url))
export const projectNode = join(root, 'node_modules', '.bin', 'node')

function upToDate() {
  const installed = join(root, 'node_modules', '.package-lock.json')
  if (!existsSync(installed) || !existsSync(projectNode)) return false
  return statSync(installed).mtimeMs >= statSync(join(root, 'package-lock.json')).mtimeMs
}

/** Ends the process with npm's status when the installation fails. */
export function ensureDependencies() {
  if (upToDate()) return
  console.log('Installing dependencies (once) …')
  const result = spawnSync('npm', ['ci', '--no-audit', '--no-fund'], { cwd: root, stdio: 'inherit' })
  if (result.error) {
    console.error(`npm could not be started (${result.error.message}); install npm, then try again`)
    process.exit(1)
  }
  if (result.status !== 0) process.exit(result.status ?? 1)
}
