// Finds plans: files by their path, and the library's by their name (chaos/ at the top level).

import { basename, dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { filesOf } from '../../cluster/directory.ts'

const LIBRARY = fileURLToPath(new URL('../../../../../chaos', import.meta.url))
const ENDING = '.yaml'
/** A plan is a page; what is longer is something else. */
const SOURCE_MAX_BYTES = 1024 * 1024

export interface PlanSource {
  /** As people named it, for errors. */
  readonly file: string
  readonly source: string
}

/** Of the library, sorted. */
export async function libraryPlans(): Promise<readonly PlanSource[]> {
  const names = await libraryNames()
  return Promise.all(names.map(name => read(join(LIBRARY, name + ENDING), `chaos/${name}${ENDING}`)))
}

/** A path (with a `/` or an ending), or a name of the library. Throws `missing-file`. */
export async function findPlan(word: string, cwd: string): Promise<PlanSource> {
  const names = await libraryNames()
  if (names.includes(word)) return read(join(LIBRARY, word + ENDING), `chaos/${word}${ENDING}`)
  const isPath = /[/\\]|\.ya?ml$/.test(word)
  if (isPath) return read(resolve(cwd, word), word)
  throw new StellwerkError('missing-file', `there is no plan called "${word}"`, {
    where: 'PLAN',
    hint: `say ${names.join(', ')}, or a file`,
  })
}

async function libraryNames(): Promise<string[]> {
  const names = await filesOf(LIBRARY).list('.')
  return names.filter(name => name.endsWith(ENDING)).map(name => basename(name, ENDING))
}

async function read(path: string, file: string): Promise<PlanSource> {
  const bytes = await filesOf(dirname(path))
    .read(basename(path))
    .catch((error: unknown) => {
      if (errorCode(error) === 'EISDIR') return null
      throw error
    })
  if (bytes === null) {
    throw new StellwerkError('missing-file', 'there is no such plan', {
      where: file,
      hint: 'see: stellwerk chaos list',
    })
  }
  if (bytes.byteLength > SOURCE_MAX_BYTES) {
    throw new StellwerkError('bad-plan', `it is no plan: ${bytes.byteLength} bytes`, {
      where: file,
      hint: 'name a plan',
    })
  }
  return { file, source: new TextDecoder().decode(bytes) }
}
