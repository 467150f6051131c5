// The terminal (or pipe, or file) that this process was started with.

import type { Terminal } from '../command-line/command.ts'

const COLUMNS = 120

export function systemTerminal(): Terminal {
  // Whoever reads us may have had enough: `stellwerk events --follow | head`.
  process.stdout.on('error', error => {
    if ((error as { code?: string }).code === 'EPIPE') process.exit(0)
    throw error
  })
  return {
    cwd: process.cwd(),
    variables: process.env,
    isTty: process.stdout.isTTY === true,
    get columns() {
      return process.stdout.columns ?? COLUMNS
    },
    out: line => process.stdout.write(`${line}\n`),
    write: text => process.stdout.write(text),
    err: line => process.stderr.write(`${line}\n`),
  }
}
