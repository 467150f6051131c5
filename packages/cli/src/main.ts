// The `stellwerk` command's entry: the words it was given, the terminal it has, and its exit code.

import { useCompileCache } from '@stellwerk/runtime/node/compile-cache.ts'

useCompileCache()
const { runCommandLine } = await import('./command-line/run.ts')
const { systemTerminal } = await import('./terminal/system-terminal.ts')
const code = await runCommandLine(process.argv.slice(2), systemTerminal())
// A pipe whose reader is slow has not taken everything yet, and what waits for it would be lost.
await new Promise<void>(resolve => void process.stdout.write('', () => resolve()))
// What is still open (a child that is to live on, a connection) must not keep the command from ending.
process.exit(code)
