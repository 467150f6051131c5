// The commit of the sources that run, for a failing run to name. Of a copy without its history there is none.

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/** Twelve digits, with a `+` when files differ from it; or null. */
export function sourceCommit(): string | null {
  const head = git('rev-parse', '--short=12', 'HEAD')
  if (head === null) return null
  return git('status', '--porcelain', '--untracked-files=no') === '' ? head : `${head}+`
}

function git(...args: string[]): string | null {
  const { status, stdout } = spawnSync('git', args, {
    cwd: fileURLToPath(new URL('.', import.meta.url)),
    encoding: 'utf8',
  })
  return status === 0 ? stdout.trim() : null
}
