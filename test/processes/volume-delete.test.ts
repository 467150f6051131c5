// `stellwerk volume delete` against real processes: what it refuses, what goes, and that the name and the room can be used again.

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Stellwerk } from './stellwerk.ts'

const LONG = 240_000

interface Volumes {
  readonly [name: string]: { readonly state: string; readonly legs: readonly { readonly storage: string }[] }
}

describe('volume delete', () => {
  const stellwerk = new Stellwerk('volume-delete')

  beforeAll(async () => {
    await stellwerk.start('up', '--hosts', '2', '--profile', 'lab').said(/^up after/)
  }, LONG)

  afterAll(() => stellwerk.remove(), LONG)

  const succeeds = async (...words: string[]) => expect(await stellwerk.run(...words)).toMatchObject({ code: 0 })
  const refused = async (...words: string[]) => {
    const { code, lines } = await stellwerk.run(...words)
    expect(code).not.toBe(0)
    return lines.join('\n')
  }
  const volumes = () => stellwerk.json<Volumes>('volume', 'list')
  const stateOf = async (name: string) => (await volumes())[name]?.state
  /** Files of LUNs on both storages. */
  const files = () =>
    ['san-a', 'san-b'].map(
      storage => readdirSync(join(stellwerk.state, storage, 'luns')).filter(file => file.endsWith('.data')).length,
    )

  it('refuses while something is on it, and changes nothing', { timeout: LONG }, async () => {
    await succeeds('volume', 'create', 'spare', '128MiB')
    await expect.poll(() => stateOf('spare'), { timeout: LONG }).toBe('serving')
    await succeeds('vm', 'create', 'book', '--guest', 'ledger', '--memory', '8MiB', '--disk', 'spare:16MiB')
    expect(await refused('volume', 'delete', 'spare')).toMatch(
      /VM "book" has a disk on volume "spare".*stellwerk vm delete book/s,
    )
    expect(await refused('volume', 'delete', 'spare', '--force')).toMatch(/stellwerk vm stop book/)
    await succeeds('vm', 'delete', 'book')
    await succeeds('disk', 'create', 'spare', 'loose', '16MiB')
    await expect
      .poll(() => refused('volume', 'delete', 'spare'), { timeout: LONG })
      .toMatch(/volume "spare" has disks or snapshots: "loose".*stellwerk disk delete spare loose/s)
    expect(await refused('volume', 'delete', 'nothing')).toMatch(/there is no volume "nothing"/)
    expect(await stateOf('spare')).toBe('serving')
  })

  it('takes it away with its LUNs, and its name can be used again', { timeout: LONG }, async () => {
    const before = files()
    await succeeds('disk', 'delete', 'spare', 'loose')
    await succeeds('volume', 'delete', 'spare')
    await expect.poll(() => stateOf('spare'), { timeout: LONG }).toBeUndefined()
    expect(files()).toEqual(before.map(count => count - 1))
    await succeeds('volume', 'create', 'spare', '128MiB')
    await expect.poll(() => stateOf('spare'), { timeout: LONG }).toBe('serving')
    expect((await stellwerk.run('disk', 'list', 'spare')).lines.join('\n')).not.toContain('loose')
  })

  it('with --force takes along what is on it', { timeout: LONG }, async () => {
    await succeeds('disk', 'create', 'spare', 'loose', '16MiB')
    await succeeds('volume', 'delete', 'spare', '--force')
    await expect.poll(() => stateOf('spare'), { timeout: LONG }).toBeUndefined()
    expect(await stateOf('csv1')).toBe('serving')
  })
})
