// Programs of the machine: what they say, how they end, and that they end with whoever started them.

import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { COMMAND_OUTPUT_MAX, type CommandExit, type Logger } from '../environment.ts'
import { findProgram, startCommand } from './command.ts'
import { createFiles } from './files.ts'
import { whyNoOwnUser } from './own-user.ts'
import { identifyProcess } from './pid-record.ts'

const unheard = (): void => undefined
const log = { debug: unheard, info: unheard, warn: unheard, error: unheard } as unknown as Logger

function run(program: string, ...args: string[]): Promise<CommandExit> {
  return new Promise(resolve => startCommand({ program, name: 'test', args }, log).onExit(resolve))
}

test('its exit is told with what it said, of much the last', async () => {
  expect(await run('sh', '-c', 'echo out; echo err >&2; exit 3')).toEqual({
    code: 3,
    signal: null,
    output: 'out\n',
    errors: 'err\n',
  })
  const { output } = await run('sh', '-c', 'head -c 1000000 /dev/zero | tr "\\0" x; echo end')
  expect(output).toHaveLength(COMMAND_OUTPUT_MAX)
  expect(output.endsWith('xend\n')).toBe(true)
})

test('it is killed by SIGKILL, and its exit is told to who asks late', async () => {
  const command = startCommand({ program: 'sleep', name: 'test', args: ['600'] }, log)
  command.kill()
  while (identifyProcess(command.pid) !== null) await sleep(5)
  await sleep(20)
  expect(await new Promise(resolve => command.onExit(resolve))).toMatchObject({ code: null, signal: 'SIGKILL' })
})

test('a program that is not there is named', () => {
  expect(() => findProgram('no-such-program', 'vm a')).toThrow(
    expect.objectContaining({ code: 'no-program', message: expect.stringContaining("'no-such-program'") }),
  )
  expect(() => findProgram('/etc/passwd', 'vm a')).toThrow(expect.objectContaining({ code: 'no-program' }))
})

test('it dies with a parent that is killed', async () => {
  const child = new URL('./command.ts', import.meta.url).href
  const script = `
    const { startCommand } = await import(${JSON.stringify(child)})
    console.log(startCommand({ program: 'sleep', name: 'test', args: ['600'] }, console).pid)
    setInterval(() => undefined, 1000)`
  const node = fileURLToPath(new URL('../../../../node_modules/.bin/node', import.meta.url))
  const parent = spawn(node, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  const pid = await new Promise<number>(resolve => parent.stdout.once('data', (line: Buffer) => resolve(Number(line))))
  // Before setpriv has become the program it is not tied yet.
  while (readFileSync(`/proc/${pid}/comm`, 'latin1').trim() !== 'sleep') await sleep(5)
  expect(identifyProcess(pid)).not.toBe(null)
  parent.kill('SIGKILL')
  for (let waited = 0; identifyProcess(pid) !== null; waited += 10) {
    expect(waited).toBeLessThan(10_000)
    await sleep(10)
  }
})

test.skipIf(whyNoOwnUser() !== null)(
  'root runs a program as a user of its own, who has its directory and no privilege but what it was left',
  async () => {
    const root = mkdtempSync(join(tmpdir(), 'own-user-'))
    const directory = join(root, 'its')
    const [secret, elsewhere] = [join(root, 'secret'), join(root, 'elsewhere')]
    mkdirSync(directory)
    for (const path of [secret, elsewhere]) writeFileSync(path, 'x', { mode: 0o600 })
    writeFileSync(join(directory, 'given'), 'given', { mode: 0o600 })
    symlinkSync(elsewhere, join(directory, 'link'))
    chmodSync(root, 0o755)
    const runs = (...capabilities: 'net_bind_service'[]): Promise<CommandExit> => {
      const words = 'id -u; id -G; cat given; touch made; cat ../secret; grep CapEff /proc/self/status'
      const spec = { program: 'sh', name: 'test', args: ['-c', words], directory, ownUser: { capabilities } }
      return new Promise(resolve => startCommand(spec, log).onExit(resolve))
    }
    const { output, errors } = await runs()
    const { uid } = statSync(directory)
    expect(uid).toBeGreaterThan(65_535)
    const [said, groups, rest] = output.split('\n')
    expect([said, groups?.split(' ').includes('0'), rest]).toEqual([
      String(uid),
      false,
      expect.stringMatching(/^givenCapEff:\s*0+$/),
    ])
    expect(errors).toMatch(/secret.*denied/)
    expect(statSync(join(directory, 'made')).uid).toBe(uid)
    expect(statSync(directory).mode & 0o077).toBe(0)
    // What a link leads to is nobody's but whose it was.
    expect(statSync(elsewhere).uid).toBe(0)
    expect((await runs('net_bind_service')).output).toMatch(/CapEff:\s*0+400$/m)

    const files = createFiles(root, 'test', log)
    await files.writeAtomic('its/late', Buffer.from('late'))
    await files.handOver('its/late')
    expect(statSync(join(directory, 'late')).uid).toBe(uid)
    await files.handOver('its/link')
    expect(statSync(elsewhere).uid).toBe(0)

    // Sealed: it uses what is there, and what it is handed later, and changes no name.
    await files.seal('its')
    await files.writeAtomic('its/later', Buffer.from('later'))
    await files.handOver('its/later')
    const words = 'cat given later; touch more; rm given; ln -s x link2; mv made gone'
    const [reuid, regid] = ['--reuid', '--regid'].map(word => [word, String(uid)])
    const sealed = spawnSync('setpriv', [...reuid!, ...regid!, '--clear-groups', 'sh', '-c', words], { cwd: directory })
    expect(sealed.stdout.toString()).toBe('givenlater')
    expect(sealed.stderr.toString().match(/denied/g)).toHaveLength(4)
    rmSync(root, { recursive: true })
  },
)

test.skipIf(whyNoOwnUser() !== null)(
  'root that may not kill other users, or not make them, runs it as itself, and can kill it',
  () => {
    const child = new URL('./command.ts', import.meta.url).href
    const directory = mkdtempSync(join(tmpdir(), 'own-user-'))
    const script = `
      const { startCommand } = await import(${JSON.stringify(child)})
      const spec = { program: 'sh', name: 'test', args: ['-c', 'id -u; exec sleep 600'], directory: ${JSON.stringify(directory)}, ownUser: { capabilities: [] } }
      const command = startCommand(spec, { warn: (_, why) => console.error(why) })
      command.onOutput(text => { console.log(text.trim()); command.kill() })
      command.onExit(exit => console.log(exit.signal))`
    const node = fileURLToPath(new URL('../../../../node_modules/.bin/node', import.meta.url))
    for (const missing of ['kill', 'setuid', 'fowner', 'setpcap']) {
      const words = [
        `--bounding-set=-${missing}`,
        `--inh-caps=-${missing}`,
        '--',
        node,
        '--input-type=module',
        '-e',
        script,
      ]
      const { stdout, stderr } = spawnSync('setpriv', words, { encoding: 'utf8' })
      expect([missing, stdout, stderr]).toEqual([missing, '0\nSIGKILL\n', expect.stringContaining(missing)])
    }
    expect(statSync(directory).uid).toBe(0)
    rmSync(directory, { recursive: true })
  },
)
