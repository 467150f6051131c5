// `npm test`: installs what is missing, then runs the tests under the project's own Node. Arguments go to Vitest.

import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { ensureDependencies, projectNode, root } from './ensure-dependencies.js'

ensureDependencies()
const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs')
const child = spawn(projectNode, [vitest, 'run', ...process.argv.slice(2)], { cwd: root, stdio: 'inherit' })
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal))
child.on('exit', code => process.exit(code ?? 1))
