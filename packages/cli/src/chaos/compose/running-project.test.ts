// Who only asks what is broken leaves nothing behind.

import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { openProject } from './running-project.ts'

const path = process.env['PATH'] ?? ''
const temporary = process.env['TMPDIR']
let root = ''
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'stellwerk-project-'))
  // No engine is found, wherever this runs.
  process.env['PATH'] = root
  process.env['TMPDIR'] = root
})
afterEach(() => {
  process.env['PATH'] = path
  if (temporary === undefined) delete process.env['TMPDIR']
  else process.env['TMPDIR'] = temporary
  rmSync(root, { recursive: true, force: true })
})

it('without an engine, a project that nothing is known of is refused, and its directory is not made', async () => {
  const directory = join(root, 'journals', 'p')
  await expect(openProject(directory, 'p')).rejects.toMatchObject({ code: 'no-docker' })
  expect(readdirSync(root)).toEqual([])
})
