// Real machines as an operator uses them: an image is made, a Linux guest runs from it with its disk on a shared volume, is
// moved live, survives the loss of its host's agent, and shuts down. What can't run is refused in one line.

import { copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { present } from '@stellwerk/runtime/assert.ts'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { afterAll, beforeAll, describe, expect, it, onTestFailed } from 'vitest'
import { Stellwerk } from '../processes/stellwerk.ts'
import { qemu, tinyImageFile } from './tiny-image.ts'

/** Where nothing but software runs a processor, a boot takes a while. */
const LONG = 600_000
const PATIENT = { timeout: 300_000, interval: 300 }
const stellwerk = new Stellwerk('linux')

interface Vm {
  readonly state: string
  readonly host: string | null
  readonly why: string | null
  readonly cpu: string | null
}
const vm = () => stellwerk.json<Vm>('vm', 'show', 'tux')
/** The process of the VM's machine there. */
function qemuOf(host: string, name: string): number {
  const children = readFileSync(join(stellwerk.state, host, 'guardian', 'children.json'), 'utf8')
  const found = (JSON.parse(children) as { name: string; pid: number }[]).find(each => each.name === `${name}/qemu`)
  return present(found, `the QEMU of ${name}`).pid
}
const commandLineOf = (host: string, name: string) => readFileSync(`/proc/${qemuOf(host, name)}/cmdline`, 'utf8')
const acknowledged = (lines: readonly string[]) =>
  lines.flatMap(line => (/^ack \d+$/.test(line) ? [Number(line.slice(4))] : []))

describe.skipIf(qemu.missing)(`a Linux guest on ${qemu.note}`, () => {
  beforeAll(async () => {
    const env = createEnvironment({ name: 'test', directory: join(stellwerk.directory, 'env'), store: memoryStore() })
    copyFileSync(await tinyImageFile(env.processes), join(stellwerk.directory, 'tiny.boot'))
    await env.close()
    // Its lease is long: an agent that starts on a busy machine takes a while.
    const up = stellwerk.start('up', '--hosts', '2', '--supervise', '--profile', 'production')
    await up.said(/^up after/)
  }, LONG)

  afterAll(() => stellwerk.remove(), LONG)

  it('is refused in one line when it cannot run, and nothing is changed', { timeout: LONG }, async () => {
    writeFileSync(join(stellwerk.directory, 'junk.boot'), 'SWBOOT1\nxxxxxxxx')
    const cases: [string[], RegExp][] = [
      [['--guest', 'tiny.boot', '--hypervisor', 'wasm'], /tiny\.boot is a boot image.*--hypervisor qemu/],
      [['--guest', 'junk.boot'], /junk\.boot is no boot image: it ends in its header/],
      [['--guest', 'ledger', '--hypervisor', 'qemu'], /no guest "ledger".*image build tiny/],
      [['--guest', 'none.boot', '--hypervisor', 'qemu'], /no guest "none\.boot"/],
      [['--guest', 'tiny.boot', '--memory', '8MiB'], /8388608 bytes of memory.*at least 64/],
      [['--guest', 'ledger', '--disk', 'csv1:8MiB', '--disk', 'csv1:8MiB'], /one disk.*define it with one/],
      [['--guest', 'tiny.boot', ...Array(9).fill(['--disk', 'csv1:8MiB']).flat()], /9 disks.*at most 8/],
      [['--guest', 'tiny.boot', '--param', 'cpus=0'], /0 processors.*from 1 to/],
      [['--guest', 'tiny.boot', '--param', 'cpu=host'], /the processor "host".*x86-64-v1 to x86-64-v4/],
      [['--guest', 'tiny.boot', '--param', 'init=/bin/sh x'], /parameter init=\/bin\/sh x.*no spaces/],
    ]
    for (const [words, said] of cases) {
      const { code, lines } = await stellwerk.run('vm', 'create', 'bad', ...words)
      expect([words, code, lines]).toEqual([words, 1, [expect.stringMatching(said)]])
    }
    expect(await stellwerk.json<object>('vm', 'list')).toEqual({})
  })

  it('VM2 MIG3: runs, moves live, outlives its agent, begins anew when it dies, and shuts down with nothing lost', {
    timeout: LONG,
  }, async () => {
    onTestFailed(async () => console.log((await stellwerk.run('events')).lines.slice(-40).join('\n')))
    // So busy that a page that was dirtied unnoticed would show.
    const load = ['writesPerSecond=20', 'dirtyMiBPerSecond=20', 'workingSetMiB=8'].flatMap(each => ['--param', each])
    // It works on its second disk; the first goes along.
    const disks = ['--disk', 'csv1:16MiB', '--disk', 'csv1:64MiB', '--param', 'disk=vdb']
    const words = ['--guest', 'tiny.boot', ...disks, '--host', 'host-a', ...load]
    await expect.poll(async () => (await stellwerk.run('vm', 'create', 'tux', ...words)).code, PATIENT).toBe(0)
    const said = stellwerk.console('tux')
    const upTo = (count: number) =>
      expect.poll(() => acknowledged(said.lines).at(-1) ?? 0, PATIENT).toBeGreaterThanOrEqual(count)
    await upTo(20)
    expect(await vm()).toMatchObject({ state: 'running', host: 'host-a' })
    // What each host said of its QEMU, and what that was started with.
    const { cpu } = await vm()
    expect(cpu).toMatch(/^x86-64-v[2-4] \((TCG|KVM \w+)\)$/)
    expect((await stellwerk.run('host', 'show', 'host-b')).lines.join('\n')).toContain(`up to ${cpu}`)
    expect(commandLineOf('host-a', 'tux')).toContain('+sse4.2')
    const shown = (await stellwerk.run('vm', 'show', 'tux')).lines
    expect(shown.filter(line => line.startsWith('disk '))).toEqual([
      expect.stringMatching(/tux-0 on csv1, 16 MiB/),
      expect.stringMatching(/tux-1 on csv1, 64 MiB/),
    ])

    const moved = await stellwerk.json<{ phase: string }>('vm', 'migrate', 'tux', '--to', 'host-b', '--wait')
    expect(moved.phase).toBe('done')
    await upTo((acknowledged(said.lines).at(-1) ?? 0) + 20)
    // Not booted anew: its ledger goes on without a gap.
    const first = acknowledged(said.lines)
    expect(first.every((entry, n) => n === 0 || entry === first[n - 1]! + 1)).toBe(true)
    expect(await vm()).toMatchObject({ state: 'running', host: 'host-b', cpu })
    expect(commandLineOf('host-b', 'tux')).toContain('+sse4.2')

    const recovered = () =>
      said.lines.flatMap(line => /^recovered ([1-9]\d*) intact$/.exec(line)?.[1] ?? []).map(Number)
    // Its agent dies, and the next one takes the same machine over: whatever it was at goes on.
    const machine = qemuOf('host-b', 'tux')
    await stellwerk.kill('host-b/agent')
    await upTo((acknowledged(said.lines).at(-1) ?? 0) + 20)
    expect([qemuOf('host-b', 'tux'), recovered()]).toEqual([machine, []])
    expect((await stellwerk.run('events')).lines.join('\n')).toMatch(/tux: let incarnation 2 take it over/)

    // The machine itself dies: it boots anew, and finds on its disk all that it had said was there.
    const last = acknowledged(said.lines).at(-1)!
    process.kill(machine, 'SIGKILL')
    await expect.poll(() => recovered().length, PATIENT).toBe(1)
    expect(recovered()[0]).toBeGreaterThanOrEqual(last)
    await upTo(last + 20)

    const before = acknowledged(said.lines).at(-1)!
    const { host } = await vm()
    expect(await stellwerk.run('vm', 'reset', 'tux')).toMatchObject({ code: 0, lines: ['VM tux has been reset'] })
    await expect.poll(() => recovered().length, PATIENT).toBe(2)
    expect(recovered()[1]).toBeGreaterThanOrEqual(before)
    await upTo(before + 20)
    expect(await vm()).toMatchObject({ state: 'running', host })
    expect((await stellwerk.run('events')).lines.join('\n')).toMatch(/reset its guest on host-/)

    expect((await stellwerk.run('vm', 'stop', 'tux', '--timeout', '120000')).code).toBe(0)
    await expect.poll(async () => (await vm()).state, PATIENT).toBe('stopped')
    expect((await vm()).why).toBe(null)
    const entries = acknowledged(said.lines)
    expect(said.lines).toContain(`down after ${entries.at(-1)}`)
    expect(said.lines.filter(line => /damaged|disk error/.test(line))).toEqual([])
    said.process.kill()
  })

  if (process.env['STELLWERK_LONG'] === '1') {
    it.runIf(process.env['STELLWERK_LONG'] === '1')(
      'a QEMU that hangs is ended, so is a guest whose watchdog is not fed, and their VM starts again',
      {
        timeout: LONG,
      },
      async () => {
        const words = ['--guest', 'tiny.boot', '--disk', 'csv1:64MiB', '--param', 'writesPerSecond=20']
        expect((await stellwerk.run('vm', 'create', 'hung', ...words)).code).toBe(0)
        const said = stellwerk.console('hung')
        const last = () => acknowledged(said.lines).at(-1) ?? 0
        await expect.poll(last, PATIENT).toBeGreaterThanOrEqual(20)
        const { host } = await stellwerk.json<Vm>('vm', 'show', 'hung')
        process.kill(qemuOf(host ?? '', 'hung'), 'SIGSTOP')
        const before = last()
        await expect.poll(last, PATIENT).toBeGreaterThanOrEqual(before + 20)
        expect((await stellwerk.run('events')).lines.join('\n')).toMatch(/hung: start it again .*its guest crashed/)
        const recovered = () => said.lines.filter(line => line.startsWith('recovered'))
        expect(recovered().at(-1)).toMatch(/^recovered [1-9]\d* intact$/)

        const lives = recovered().length
        said.process.stdin?.write('hang\n')
        await expect.poll(() => recovered().length, PATIENT).toBe(lives + 1)
        expect((await stellwerk.run('events')).lines.join('\n')).toMatch(/hung: start it again .*its guest crashed/)
        const trace = await stellwerk.run('trace', 'show', '--level', 'message', '--kind', 'qemu.event')
        expect(trace.lines.join('\n')).toMatch(/WATCHDOG/)
        said.process.kill()
      },
    )
  }
})
