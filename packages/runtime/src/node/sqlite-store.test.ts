// The durable store: what it refuses to open, and that it changes nothing then.

import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterAll, expect, test } from 'vitest'
import { errorCode, StellwerkError } from '../errors.ts'
import { openSqliteStore } from './sqlite-store.ts'

const directory = mkdtempSync(join(tmpdir(), 'stellwerk-store-'))
afterAll(() => rmSync(directory, { recursive: true }))
let files = 0
const freshFile = () => join(directory, `${++files}.sqlite`)

function refusal(file: string): StellwerkError {
  try {
    openSqliteStore(file).close()
  } catch (error) {
    if (error instanceof StellwerkError) return error
    throw error
  }
  return expect.unreachable('the file was opened')
}

function filled(file: string): void {
  const store = openSqliteStore(file)
  store.commit(Array.from({ length: 200 }, (_, i) => ({ put: `key/${i}`, value: { i, text: 'x'.repeat(50) } })))
  store.close()
}

test('what was committed is there after reopening', () => {
  const file = freshFile()
  filled(file)
  const store = openSqliteStore(file)
  expect(store.get('key/7')).toEqual({ i: 7, text: 'x'.repeat(50) })
  expect(store.entries('key/').length).toBe(200)
  store.close()
})

test('what was committed survives a kill of the process', () => {
  const file = freshFile()
  const script = `
    import { openSqliteStore } from ${JSON.stringify(new URL('./sqlite-store.ts', import.meta.url).href)}
    const store = openSqliteStore(${JSON.stringify(file)})
    store.commit([{ put: 'a', value: 1 }])
    store.commit([{ put: 'a', value: 2 }])
    process.kill(process.pid, 'SIGKILL')`
  let signal: unknown = null
  try {
    execFileSync(process.execPath, ['--input-type=module', '-e', script], { stdio: 'pipe' })
  } catch (error) {
    signal = (error as { signal?: unknown }).signal
  }
  expect(signal).toBe('SIGKILL')
  const store = openSqliteStore(file)
  expect(store.get('a')).toBe(2)
  store.close()
})

test('a second opener is told locked, from another process too', () => {
  const file = freshFile()
  const store = openSqliteStore(file)
  expect(refusal(file).code).toBe('locked')
  const script = `
    import { openSqliteStore } from ${JSON.stringify(new URL('./sqlite-store.ts', import.meta.url).href)}
    try { openSqliteStore(${JSON.stringify(file)}) } catch (error) { process.stdout.write(error.code) }`
  expect(execFileSync(process.execPath, ['--input-type=module', '-e', script]).toString()).toBe('locked')
  store.commit([{ put: 'still', value: 'ours' }])
  store.close()
  openSqliteStore(file).close()
})

test('a file that is no database is refused as foreign-state and stays as it is', () => {
  for (const content of ['my precious notes', 'x'.repeat(10_000)]) {
    const file = freshFile()
    writeFileSync(file, content)
    const error = refusal(file)
    expect(error).toMatchObject({ code: 'foreign-state', where: file })
    expect(error.hint).toBeTruthy()
    expect(readFileSync(file, 'utf8')).toBe(content)
  }
})

test('a database of another program is refused as foreign-state and stays as it is', () => {
  const file = freshFile()
  const other = new DatabaseSync(file)
  other.exec('CREATE TABLE entries (key TEXT, value TEXT)')
  other.close()
  const before = readFileSync(file)
  expect(refusal(file).code).toBe('foreign-state')
  expect(readFileSync(file)).toEqual(before)
})

test('a state of a later format is refused as foreign-state', () => {
  const file = freshFile()
  filled(file)
  const later = new DatabaseSync(file)
  later.exec('PRAGMA user_version = 9')
  later.close()
  expect(refusal(file).message).toContain('format 9')
})

test('a truncated state is refused as corrupt-state and stays as it is', () => {
  const file = freshFile()
  filled(file)
  const whole = readFileSync(file)
  for (const length of [whole.length - 4096, 4096, 8192]) {
    writeFileSync(file, whole.subarray(0, length))
    expect(refusal(file)).toMatchObject({ code: 'corrupt-state', where: file })
    expect(readFileSync(file).equals(whole.subarray(0, length))).toBe(true)
  }
})

test('a flipped bit in any value is refused as corrupt-state and names the key', () => {
  const file = freshFile()
  filled(file)
  const bytes = readFileSync(file)
  const at = bytes.indexOf('{"i":150,')
  expect(at).toBeGreaterThan(0)
  bytes[at + 20]! ^= 1
  writeFileSync(file, bytes)
  const error = refusal(file)
  expect(error.code).toBe('corrupt-state')
  expect(error.message).toContain('key/150')
  expect(readFileSync(file).equals(bytes)).toBe(true)
})

test('a value exchanged with another key’s is found', () => {
  const file = freshFile()
  filled(file)
  const thief = new DatabaseSync(file)
  thief.exec(
    "UPDATE entries SET (value, crc) = (SELECT value, crc FROM entries WHERE key = 'key/1') WHERE key = 'key/2'",
  )
  thief.close()
  expect(refusal(file).message).toContain('key/2')
})

test('a commit with a value that is no JSON leaves nothing behind', () => {
  const store = openSqliteStore(freshFile())
  const bad = undefined as unknown as null
  expect(() =>
    store.commit([
      { put: 'a', value: 1 },
      { put: 'b', value: bad },
    ]),
  ).toThrow('a JSON value for b')
  expect(store.entries('')).toEqual([])
  store.commit([{ put: 'c', value: 3 }])
  expect(store.entries('')).toEqual([['c', 3]])
  store.close()
})

test('a directory that does not exist is an error with a code', () => {
  expect(errorCode(refusal(join(directory, 'no', 'such', 'state.sqlite')))).toBe('EACCES')
})
