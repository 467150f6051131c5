// `vm console` on a real terminal: keys go to the guest one by one, what its serial port sends stands as it is, wherever the guest moves.

import { createHash } from 'node:crypto'
import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { afterAll, beforeAll, describe, expect, it, onTestFailed, vi } from 'vitest'
import { Stellwerk } from '../processes/stellwerk.ts'
import { WatchedTerminal } from '../processes/watched-terminal.ts'
import { qemu, tinyImageFile } from './tiny-image.ts'

const LONG = 600_000
const PATIENT = { timeout: 300_000, interval: 300 }
const SIZE = { columns: 100, rows: 30 }
const ENTER = '\r'
const DELETE = '\u007f'
const TAB = '\t'
const UP = '\u001b[A'
const CTRL_C = '\u0003'
const CTRL_LEAVE = '\u001d'
const stellwerk = new Stellwerk('terminal')
const pass = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))

describe.skipIf(qemu.missing)(`a guest's terminal (${qemu.note})`, () => {
  beforeAll(async () => {
    const env = createEnvironment({ name: 'test', directory: join(stellwerk.directory, 'env'), store: memoryStore() })
    copyFileSync(await tinyImageFile(env.processes), join(stellwerk.directory, 'tiny.boot'))
    await env.close()
    await stellwerk.start('up', '--hosts', '2').said(/^up after/)
    const words = ['--guest', 'tiny.boot', '--memory', '96MiB', '--host', 'host-a']
    const parameters = ['writesPerSecond=0', 'workingSetMiB=1'].flatMap(each => ['--param', each])
    // Whether QEMU runs there is found out when the agents begin.
    await vi.waitFor(
      async () =>
        expect(await stellwerk.run('vm', 'create', 'tux', ...words, ...parameters)).toMatchObject({ code: 0 }),
      PATIENT,
    )
  }, LONG)

  afterAll(() => stellwerk.remove(), LONG)

  function opened(): WatchedTerminal {
    const terminal = new WatchedTerminal(stellwerk, SIZE, ['vm', 'console', 'tux'], true)
    onTestFailed(() => console.log(terminal.screen.text))
    return terminal
  }

  it('shows what is typed, edits it, and leaves the terminal as it was', { timeout: LONG }, async () => {
    const terminal = opened()
    await terminal.shows(/Ctrl-\] leaves it/)
    await terminal.shows(/^boot$/m)
    for (const key of ['s', 't', 'a', 't', 'u', 'z', DELETE, 's', ENTER]) terminal.type(key)
    await terminal.shows(/^> status$\n^status entries \d+/m)
    terminal.type(CTRL_LEAVE)
    expect(await terminal.ended).toBe(0)
    await terminal.shows(/ icanon .* echo /s)
  })

  it('is a shell’s terminal: history, completion, signals; and each key is typed once while the guest moves', {
    timeout: LONG,
  }, async () => {
    const terminal = opened()
    // What stood there before it came.
    await terminal.shows(/^status entries \d+/m)
    terminal.type(`sh${ENTER}`)
    await terminal.shows(/^\S* #$/m)
    terminal.type(`echo $((6 * 7))${ENTER}`)
    await terminal.shows(/^42$/m)
    terminal.type(`cat /proc/sys/kernel/ostyp${TAB}${ENTER}`)
    await terminal.shows(/^Linux$/m)
    terminal.type(`clear${ENTER}`)
    await terminal.shows(/^\S* #$/)
    // It asks the terminal where its cursor is; keys that come together with the answer are lost to it.
    await pass(500)
    terminal.type(UP)
    await terminal.shows(/# clear$/)
    terminal.type(UP)
    await terminal.shows(/# cat \S+ostype$/)
    terminal.type(ENTER)
    await terminal.shows(/^Linux$/m)
    terminal.type(`sleep 10000${ENTER}`)
    await terminal.shows(/# sleep 10000$/m)
    // Until it has begun there is nobody to interrupt.
    const interrupted = () => {
      terminal.type(CTRL_C)
      return terminal.screen.text
    }
    await expect.poll(interrupted, { timeout: 60_000, interval: 1_000 }).toMatch(/\^C\n\S* #$/)
    await pass(500)
    terminal.type(`echo ready; cat > /tmp/typed${ENTER}`)
    await terminal.shows(/^ready$/m)
    const typed: string[] = []
    let isOver = false
    const typing = (async () => {
      for (let n = 0; !isOver; n += 1) {
        typed.push('abcdefghijklmnopqrstuvwxyz'[n % 26] ?? '')
        terminal.type(typed.at(-1) ?? '')
        // A line that a shell may edit has an end.
        if (n % 60 === 59) terminal.type(ENTER)
        await pass(40)
      }
    })()
    const moved = async (to: string) => {
      const { phase } = await stellwerk.json<{ phase: string }>('vm', 'migrate', 'tux', '--to', to, '--wait')
      expect(phase).toBe('done')
    }
    await moved('host-b')
    await moved('host-a')
    isOver = true
    await typing
    terminal.type(`${ENTER}\u0004`)
    await terminal.shows(/#$/)
    terminal.type(`clear; tr -d '\\n' < /tmp/typed | md5sum; tr -d '\\n' < /tmp/typed | wc -c${ENTER}`)
    await terminal.shows(new RegExp(`^${typed.length}$`, 'm'))
    await terminal.shows(new RegExp(`^${createHash('md5').update(typed.join('')).digest('hex')}  -$`, 'm'))
    // Whatever the guest's terminal makes of a line's end, ours adds nothing.
    terminal.type(`clear; stty -opost; printf 'one\\ntwo\\r\\n'; stty opost${ENTER}`)
    await terminal.shows(/^one$\n^ {3}two$/m)
    // One that shows nothing for a while has the end of it all the same.
    const goOn = terminal.hold()
    terminal.type(`seq 1 100000; echo that was $((100000 + 1))${ENTER}`)
    await pass(5_000)
    goOn()
    await terminal.shows(/^that was 100001$/m)
    terminal.type(`exit 7${ENTER}`)
    await terminal.shows(/^ran sh status 7$/m)
    terminal.type(CTRL_LEAVE)
    expect(await terminal.ended).toBe(0)
  })

  it('shows what stood there, where the guest has moved meanwhile, too, and types nothing by itself', {
    timeout: LONG,
  }, async () => {
    const stood = opened()
    await stood.shows(/^ran sh status 7$/m)
    // The shell has asked its terminal many a thing: none of it is answered again.
    await pass(1_000)
    stood.type(`status${ENTER}`)
    await stood.shows(/^ran sh status 7$\n^> status$\n^status entries \d+/m)
    stood.type(CTRL_LEAVE)
    expect(await stood.ended).toBe(0)
    const { phase } = await stellwerk.json<{ phase: string }>('vm', 'migrate', 'tux', '--to', 'host-b', '--wait')
    expect(phase).toBe('done')
    const moved = opened()
    await moved.shows(/^ran sh status 7$\n^> status$\n^status entries \d+/m)
    moved.type(CTRL_LEAVE)
    expect(await moved.ended).toBe(0)
  })

  it('types nothing to a guest that begins after the one it was typed for', { timeout: LONG }, async () => {
    const terminal = opened()
    await terminal.shows(/^status entries \d+/m)
    expect((await stellwerk.run('vm', 'stop', 'tux')).code).toBe(0)
    await terminal.shows(/waiting: VM "tux" is stopped/)
    terminal.type(`halt${ENTER}`)
    await terminal.shows(/what was typed was not taken/)
    expect((await stellwerk.run('vm', 'start', 'tux')).code).toBe(0)
    await terminal.shows(/^boot$\n^recovered/m)
    terminal.type(`status${ENTER}`)
    await terminal.shows(/^> status$\n^status entries \d+/m)
    terminal.type(CTRL_LEAVE)
    expect(await terminal.ended).toBe(0)
  })
})
