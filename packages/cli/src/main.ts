// The `stellwerk` command's entry: the words it was given, the terminal it has, and its exit code.

import { useCompileCache } from '@stellwerk/runtime/node/compile-cache.ts'

useCompileCache()
const { runCommandLine } = await import('./command-line/run.ts')
const { systemTerminal } = await import('./terminal/system-terminal.ts')
// What is still open (a child that is to live on, a connection) must not keep the command from ending.
process.exit(await runCommandLine(process.argv.slice(2), systemTerminal()))
