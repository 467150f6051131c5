// Leftovers of a dead parent are ended, exactly they; signals ask once; an entry starts under plain node.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import type { Logger } from '../environment.ts'
import { errorCode } from '../errors.ts'
import { identifyProcess, isStillRunning, readPidRecord } from './pid-record.ts'
import { createProcesses } from './processes.ts'

const root = mkdtempSync(join(tmpdir(), 'stellwerk-processes-'))
afterAll(() => rmSync(root, { recursive: true }))
const fresh = () => mkdtempSync(join(root, 'd-'))

const quiet = () => undefined
const log: Logger = { debug: quiet, info: quiet, warn: quiet, error: quiet }
const open = (directory: string) => createProcesses({ directory, entry: null, log })

const source = (file: string) => JSON.stringify(new URL(file, import.meta.url).href)

/** A process of its own that runs the script, and its lines of output. */
function run(script: string): { process: ChildProcess; line: () => Promise<string> } {
  const process_ = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let text = ''
  let wake: () => void = quiet
  process_.stdout.on('data', chunk => {
    text += String(chunk)
    wake()
  })
  const line = async () => {
    while (!text.includes('\n')) {
      await new Promise<void>(resolve => {
        wake = resolve
      })
    }
    const end = text.indexOf('\n')
    const first = text.slice(0, end)
    text = text.slice(end + 1)
    return first
  }
  return { process: process_, line }
}

const parentScript = (directory: string) => `
  import { createEnvironment } from ${source('./environment.ts')}
  import { memoryStore } from ${source('./memory-store.ts')}
  process.env.STELLWERK_CONTRACT_DIRECTORY = ${JSON.stringify(directory)}
  const env = createEnvironment({ name: 'parent', directory: ${JSON.stringify(directory)}, store: memoryStore(),
    entry: new URL(${source('../contract/node-entry.ts')}), logLevel: 'warn' })
  const child = env.processes.spawn({ program: 'contract-child', name: 'kid', config: { greeting: 'hello' } })
  child.onMessage(m => console.log(JSON.stringify({ pid: child.pid, ...m })))`

async function gone(pid: number): Promise<void> {
  const end = Date.now() + 20_000
  while (identifyProcess(pid) !== null) {
    if (Date.now() > end) throw new Error(`process ${pid} still runs`)
    await new Promise(resolve => setTimeout(resolve, 10))
  }
}

test('under plain node a parent starts a child, and the child ends when the parent is killed', async () => {
  const { process: parent, line } = run(parentScript(fresh()))
  const { pid, greeting } = JSON.parse(await line())
  expect(greeting).toBe('hello')
  expect(identifyProcess(pid)).not.toBeNull()
  parent.kill('SIGKILL')
  await gone(pid)
})

test('what could not end with its parent is killed by the successor', async () => {
  const directory = fresh()
  const { process: parent, line } = run(parentScript(directory))
  const { pid } = JSON.parse(await line())
  const [recorded] = readPidRecord(join(directory, 'children.json'))
  expect(recorded).toMatchObject({ pid, program: 'contract-child', name: 'kid' })
  expect(recorded !== undefined && isStillRunning(recorded)).toBe(true)
  // A stopped child does not notice that its parent has gone.
  process.kill(pid, 'SIGSTOP')
  parent.kill('SIGKILL')
  await once(parent, 'exit')
  expect(identifyProcess(pid)).not.toBeNull()
  const successor = open(directory)
  expect(await successor.killLeftovers()).toEqual([pid])
  expect(identifyProcess(pid)).toBeNull()
  expect(readPidRecord(join(directory, 'children.json'))).toEqual([])
  expect(await successor.killLeftovers()).toEqual([])
})

test('a process that merely has the pid of a leftover is left alone', async () => {
  const directory = fresh()
  const innocent = spawn('sleep', ['60'])
  const pid = innocent.pid ?? 0
  const identity = identifyProcess(pid)
  const record = { pid, ...identity, program: 'agent', name: 'a' }
  for (const wrong of [{ startTicks: (identity?.startTicks ?? 0) - 1 }, { bootId: 'another boot' }]) {
    writeFileSync(join(directory, 'children.json'), JSON.stringify([{ ...record, ...wrong }]))
    expect(await open(directory).killLeftovers()).toEqual([])
    expect(identifyProcess(pid)).toEqual(identity)
  }
  writeFileSync(join(directory, 'children.json'), JSON.stringify([record]))
  expect(await open(directory).killLeftovers()).toEqual([pid])
  if (innocent.exitCode === null && innocent.signalCode === null) await once(innocent, 'exit')
  expect(innocent.signalCode).toBe('SIGKILL')
})

test('a record that cannot be written stops a start, and not the process whose child ends', async () => {
  const directory = fresh()
  const errors: unknown[] = []
  const told: Logger = { ...log, error: (_, message) => errors.push(message) }
  const processes = createProcesses({ directory, entry: null, log: told })
  const sleep = { name: 'sleeper', program: 'sleep', args: ['60'] }
  const child = processes.command(sleep)
  const ended = new Promise(resolve => child.onExit(resolve))
  // Where the next record is to be written there is a directory.
  mkdirSync(join(directory, 'children.json.aside'))
  expect(() => processes.command(sleep)).toThrow('EISDIR')
  child.kill()
  await ended
  await processes.close()
  expect(errors).toContain('the record still names a process that has ended')
  expect(readPidRecord(join(directory, 'children.json')).filter(isStillRunning)).toEqual([])
  rmSync(join(directory, 'children.json.aside'), { recursive: true })
  expect(await open(directory).killLeftovers()).toEqual([])
})

test('a damaged record is corrupt-state and stays as it is', () => {
  for (const text of ['', '{"pid":1}', '[{"pid":"1"}]', '[1]', '[null]', 'garbage']) {
    const directory = fresh()
    const file = join(directory, 'children.json')
    writeFileSync(file, text)
    let code = 'none'
    try {
      open(directory)
    } catch (error) {
      code = errorCode(error)
    }
    expect(code, text).toBe('corrupt-state')
    expect(readFileSync(file, 'utf8')).toBe(text)
  }
})

test('the operator’s signals ask once, whatever follows', async () => {
  const { process: child, line } = run(`
    import { createEnvironment } from ${source('./environment.ts')}
    import { memoryStore } from ${source('./memory-store.ts')}
    const env = createEnvironment({ name: 'p', directory: ${JSON.stringify(fresh())}, store: memoryStore(), logLevel: 'warn' })
    env.processes.onStop(() => {
      console.log('stop')
      env.timers.after(200, () => env.processes.exit(5))
    })
    env.timers.after(60_000, () => undefined)
    console.log('ready')`)
  expect(await line()).toBe('ready')
  child.kill('SIGINT')
  expect(await line()).toBe('stop')
  child.kill('SIGTERM')
  child.kill('SIGINT')
  const [code] = await once(child, 'exit')
  expect(code).toBe(5)
})

test('a test runner’s channel is not taken for a parent', () => {
  expect(open(fresh()).parent).toBeNull()
})
