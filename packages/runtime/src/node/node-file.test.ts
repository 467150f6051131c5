// What is durable when: a sync covers all that was written before it, is shared, and its failure is final.

import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { codeOf } from '../contract/world.ts'
import type { Logger } from '../environment.ts'
import { createFiles } from './files.ts'
import { NodeFile } from './node-file.ts'
import { Puncher } from './puncher.ts'
import type { RawFile } from './raw-file.ts'

const directory = mkdtempSync(join(tmpdir(), 'stellwerk-files-'))
afterAll(() => rmSync(directory, { recursive: true }))

const warnings: string[] = []
const log: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: (_fields, message) => void warnings.push(message),
  error: () => undefined,
}

/** A descriptor that only tells what was asked of it, and whose syncs end when told to. */
function scripted(calls: string[], name: string) {
  const syncs: { resolve: () => void; reject: (error: Error) => void }[] = []
  let failing: Error | null = null
  const file = {
    read: async () => new Uint8Array(0),
    write: async () => {
      calls.push(`${name} write`)
      if (failing !== null) throw failing
    },
    dataSync: () => {
      calls.push(`${name} sync`)
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      syncs.push({ resolve, reject })
      return promise
    },
    size: async () => 0,
    truncate: async () => undefined,
    close: async () => void calls.push(`${name} close`),
  } as unknown as RawFile
  const fail = (error: Error) => {
    failing = error
  }
  return { file, syncs, fail }
}

function open() {
  const calls: string[] = []
  const plain = scripted(calls, 'plain')
  const durable = scripted(calls, 'durable')
  return { calls, plain, durable, file: new NodeFile('f', plain.file, durable.file, new Puncher(log, directory)) }
}

const one = [new Uint8Array(1)]
const turns = () => new Promise(resolve => setImmediate(resolve))

test('a few durable writes go through the data-synchronous descriptor, more share one sync', async () => {
  const { calls, plain, file } = open()
  const writes = Array.from({ length: 10 }, () => file.write(0, one, { durable: true }))
  await turns()
  expect(calls.filter(call => call === 'durable write').length).toBe(3)
  expect(calls.filter(call => call === 'plain write').length).toBe(7)
  expect(calls.filter(call => call === 'plain sync').length).toBe(1)
  // Those whose write came back before the sync began are covered by it, the others wait for one more.
  while (plain.syncs.length > 0) {
    plain.syncs.shift()?.resolve()
    await turns()
  }
  await Promise.all(writes)
  expect(calls.filter(call => call === 'plain sync').length).toBeLessThanOrEqual(2)
})

test('a sync asked for while one runs waits for the next: the running one may not cover it', async () => {
  const { calls, plain, file } = open()
  const first = file.sync()
  await turns()
  let secondDone = false
  const second = file.sync().then(() => {
    secondDone = true
  })
  const third = file.sync()
  await turns()
  expect(calls).toEqual(['plain sync'])
  plain.syncs[0]?.resolve()
  await first
  await turns()
  expect(secondDone).toBe(false)
  expect(calls).toEqual(['plain sync', 'plain sync'])
  plain.syncs[1]?.resolve()
  await Promise.all([second, third])
  expect(calls.length).toBe(2)
})

test('after a failed sync every later sync and durable write fails, without asking the system', async () => {
  const { calls, plain, file } = open()
  const first = codeOf(file.sync())
  await turns()
  plain.syncs[0]?.reject(Object.assign(new Error('lost'), { code: 'EIO' }))
  expect(await first).toBe('EIO')
  expect(await codeOf(file.sync())).toBe('EIO')
  expect(await codeOf(file.write(0, one, { durable: true }))).toBe('EIO')
  expect(calls).toEqual(['plain sync'])
  expect(await codeOf(file.read(0, 1))).toBe('none')
})

test('a failed durable write is as final as a failed sync', async () => {
  const { durable, file } = open()
  durable.fail(Object.assign(new Error('full'), { code: 'ENOSPC' }))
  expect(await codeOf(file.write(0, one, { durable: true }))).toBe('ENOSPC')
  expect(await codeOf(file.sync())).toBe('EIO')
})

test('close waits for what is in flight and refuses what comes after', async () => {
  const { calls, plain, file } = open()
  const sync = file.sync()
  await turns()
  const closed = file.close()
  await turns()
  expect(calls).toEqual(['plain sync'])
  expect(await codeOf(file.read(0, 1))).toBe('EBADF')
  plain.syncs[0]?.resolve()
  await Promise.all([sync, closed, file.close()])
  expect(calls).toEqual(['plain sync', 'durable close', 'plain close'])
})

const KIB = 1024
const MIB = 1024 * KIB

test('punching gives blocks back to the file system', async () => {
  const files = createFiles(directory, 'test', log)
  const file = await files.open('punched', { create: true })
  await file.write(0, [new Uint8Array(4 * MIB).fill(1)])
  await file.sync()
  const blocks = () => statSync(join(directory, 'punched')).blocks * 512
  expect(blocks()).toBeGreaterThanOrEqual(4 * MIB)
  await Promise.all([file.punch(0, MIB), file.punch(2 * MIB, MIB)])
  await file.sync()
  expect(blocks()).toBeLessThanOrEqual(2.1 * MIB)
  expect(warnings).toEqual([])
  await file.close()
})

test('where ranges cannot be punched zeroes are written, and the log says so once', async () => {
  const files = createFiles(directory, 'test', log)
  await files.writeAtomic('unpunched', new Uint8Array(3 * MIB).fill(1))
  const raw = (await import('./raw-file.ts')).RawFile
  const path = join(directory, 'unpunched')
  const puncher = new Puncher(log, directory, join(directory, 'no-such-shell'))
  const file = new NodeFile(
    path,
    await raw.open(path, { create: false, dataSync: false }),
    await raw.open(path, { create: false, dataSync: true }),
    puncher,
  )
  await Promise.all([file.punch(10, MIB), file.punch(2 * MIB - 7, 300_000)])
  await file.punch(MIB, MIB)
  const back = await file.read(0, 3 * MIB)
  expect(back.indexOf(0)).toBe(10)
  expect(back.lastIndexOf(0)).toBe(2 * MIB - 7 + 300_000 - 1)
  expect(back.subarray(10, 2 * MIB - 7 + 300_000).every(byte => byte === 0)).toBe(true)
  expect(warnings).toHaveLength(1)
  await file.close()
})

test('a batch that could not be begun for a passing reason is written as zeroes, and the next is punched again', async () => {
  const own = mkdtempSync(join(directory, 'passing-'))
  await createFiles(own, 'test', log).writeAtomic('data', new Uint8Array(2 * MIB).fill(1))
  const file = await createFiles(own, 'test', log).open('data')
  const blocks = () => statSync(join(own, 'data')).blocks * 512
  // A directory where the lock's file should be cannot be opened for writing.
  mkdirSync(join(own, 'punching.lock'))
  await file.punch(0, MIB)
  expect((await file.read(0, MIB)).every(byte => byte === 0)).toBe(true)
  expect(blocks()).toBeGreaterThanOrEqual(2 * MIB)
  expect(warnings.at(-1)).toMatch(/zeroes are written instead/)
  rmSync(join(own, 'punching.lock'), { recursive: true })
  await file.punch(0, MIB)
  await file.sync()
  expect(blocks()).toBeLessThanOrEqual(1.1 * MIB)
  await file.close()
})

test.each([
  ['the file system cannot', 'fallocate: fallocate failed: keep size mode is unsupported', 1],
  ['the kernel cannot', 'fallocate: fallocate failed: Function not implemented', 1],
  ['there is no program', 'sh: 1: fallocate: not found', 1],
  ['there are too many processes', 'sh: 1: Cannot fork', 2],
])('where %s ranges are punched no more, or again the next time', async (_what, said, attempts) => {
  const own = mkdtempSync(join(directory, 'failing-'))
  const tries = join(own, 'tries')
  writeFileSync(join(own, 'shell'), `#!/bin/sh\necho . >> '${tries}'\necho '${said}' >&2\nexit 1\n`, { mode: 0o755 })
  const puncher = new Puncher(log, own, join(own, 'shell'))
  for (let i = 0; i < 2; i++) expect(await puncher.punch(join(own, 'data'), 0, MIB)).toBe('unsupported')
  expect(readFileSync(tries, 'utf8')).toBe('.\n'.repeat(attempts))
})

test('what a killed process was still punching takes nothing from what its successor writes (IO2)', async () => {
  const own = mkdtempSync(join(directory, 'killed-'))
  const [begun, programs] = [join(own, 'begun'), join(own, 'programs')]
  mkdirSync(programs)
  const slow = `#!/bin/sh\ntouch '${begun}'\nsleep 1\nexec ${execFileSync('which', ['fallocate'])}`.trim()
  writeFileSync(join(programs, 'fallocate'), `${slow} "$@"\n`, { mode: 0o755 })
  await createFiles(own, 'test', log).writeAtomic('data', new Uint8Array(MIB).fill(1))
  const script = `
    import { createFiles } from ${JSON.stringify(new URL('./files.ts', import.meta.url).href)}
    const log = { debug() {}, info() {}, warn() {}, error() {} }
    const file = await createFiles(${JSON.stringify(own)}, 'killed', log).open('data')
    await file.punch(0, ${MIB})`
  const PATH = `${programs}:${process.env['PATH']}`
  const killed = spawn(process.execPath, ['--input-type=module', '-e', script], { env: { ...process.env, PATH } })
  await expect.poll(() => existsSync(begun), { timeout: 30_000 }).toBe(true)
  killed.kill('SIGKILL')
  await once(killed, 'exit')
  const file = await createFiles(own, 'test', log).open('data')
  await file.write(0, [new Uint8Array(KIB).fill(2)], { durable: true })
  await new Promise(resolve => setTimeout(resolve, 2_000))
  expect((await file.read(0, KIB)).every(byte => byte === 2)).toBe(true)
  expect((await file.read(KIB, KIB)).every(byte => byte === 0)).toBe(true)
  await file.close()
})

test('a path that leads out of the directory is refused', async () => {
  const files = createFiles(directory, 'test', log)
  for (const path of ['../x', '/etc/passwd', 'a/../../x']) expect(await codeOf(files.read(path))).toBe('bad-path')
})

test('a lock is held against other processes, and the error names the holder', async () => {
  const files = createFiles(directory, 'host-a/guardian', log)
  const lock = await files.lock('guardian.lock')
  const script = `
    import { lockFile } from ${JSON.stringify(new URL('./file-lock.ts', import.meta.url).href)}
    try { lockFile(${JSON.stringify(join(directory, 'guardian.lock'))}, 'thief'); process.stdout.write('taken') }
    catch (error) { process.stdout.write(error.code + ': ' + error.message) }`
  const attempt = () => execFileSync(process.execPath, ['--input-type=module', '-e', script]).toString()
  expect(await codeOf(files.lock('guardian.lock'))).toBe('locked')
  expect(attempt()).toBe(`locked: it is in use by host-a/guardian (pid ${process.pid})`)
  lock.release()
  expect(attempt()).toBe('taken')
  // That process has ended, and its lock with it.
  ;(await files.lock('guardian.lock')).release()
})
