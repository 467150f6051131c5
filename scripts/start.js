// `npm start`: installs what is missing, then runs `stellwerk up --guests` under the project's own Node. Arguments go there.

import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { ensureDependencies, projectNode, root } from './ensure-dependencies.js'

ensureDependencies()
const main = join(root, 'packages', 'cli', 'src', 'main.ts')
const child = spawn(projectNode, [main, 'up', '--guests', ...process.argv.slice(2)], { stdio: 'inherit' })
// A terminal sends Ctrl-C to both; what is sent to this process alone is passed on, and a second one is ignored there.
const signals = ['SIGINT', 'SIGTERM', 'SIGHUP']
for (const signal of signals) process.on(signal, () => child.kill(signal))
child.on('exit', (code, signal) => {
  if (signal === null) process.exit(code ?? 1)
  for (const name of signals) process.removeAllListeners(name)
  process.kill(process.pid, signal)
})
