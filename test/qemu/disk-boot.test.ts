// A Linux image as an operator has it: a disk with a boot loader, in qcow2. It is imported, VMs begin with clones of it, boot by
// BIOS and by UEFI, move live, and come back when their host's agent is gone.

import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { errorCode } from '@stellwerk/runtime/errors.ts'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { whyNoOwnUser } from '@stellwerk/runtime/node/own-user.ts'
import { peer, peers } from '@stellwerk/runtime/testing/peers.ts'
import { afterAll, beforeAll, describe, expect, it, onTestFailed } from 'vitest'
import { Stellwerk } from '../processes/stellwerk.ts'
import { loaders, makeBootableDisk } from './bootable-disk.ts'
import { qemu, tinyImageFile } from './tiny-image.ts'
import { lookAt } from './vnc-viewer.ts'

const LONG_TESTS = process.env['STELLWERK_LONG'] === '1'
const LONG = 600_000
const PATIENT = { timeout: 300_000, interval: 300 }
const tools = peers(peer('qemu-img', 'qemu-utils'))
const stellwerk = new Stellwerk('boots')
const inDirectory = (name: string): string => join(stellwerk.directory, name)
const run = (program: string, ...args: string[]) => execFileSync(program, args, { stdio: 'pipe' })
const disksOf = async () => (await stellwerk.json<{ disk: string }[]>('disk', 'list', 'csv1')).map(({ disk }) => disk)
/** As whom the QEMUs of that VM run. */
const usersOf = (vm: string): number[] =>
  readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .flatMap(pid => {
      try {
        if (!readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(`\0guest=${vm}\0`)) return []
        return [Number(/^Uid:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1])]
      } catch (error) {
        // It has ended meanwhile.
        if (errorCode(error) === 'ENOENT' || errorCode(error) === 'ESRCH') return []
        throw error
      }
    })
const entries = (lines: readonly string[]) =>
  lines.flatMap(line => (/^ack \d+$/.test(line) ? [Number(line.slice(4))] : []))

describe.skipIf(qemu.missing || loaders.missing || tools.missing)(
  `a disk that boots by itself (${[qemu, loaders, tools].map(each => each.note).join(', ')})`,
  () => {
    beforeAll(async () => {
      const env = createEnvironment({ name: 'test', directory: inDirectory('env'), store: memoryStore() })
      copyFileSync(await tinyImageFile(env.processes), inDirectory('tiny.boot'))
      await env.close()
      mkdirSync(inDirectory('made'))
      const words =
        'stellwerk.vm=tux stellwerk.disk=vda2 stellwerk.writesPerSecond=20 stellwerk.dirtyMiBPerSecond=2 stellwerk.workingSetMiB=8'
      const raw = makeBootableDisk(inDirectory('made'), inDirectory('tiny.boot'), words)
      run('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', raw, inDirectory('tux.qcow2'))
      const up = stellwerk.start('up', '--hosts', '2')
      await up.said(/^up after/)
    }, LONG)

    afterAll(() => stellwerk.remove(), LONG)

    it('what is no whole image that boots is refused in one line, and nothing is left of it', {
      timeout: LONG,
    }, async () => {
      writeFileSync(inDirectory('notes.txt'), 'no disk')
      run('qemu-img', 'create', '-f', 'qcow2', '-b', '/etc/hostname', '-F', 'raw', inDirectory('backed.qcow2'), '1M')
      run(
        'qemu-img',
        'create',
        '-f',
        'qcow2',
        '-o',
        `data_file=${inDirectory('data.raw')},data_file_raw=on`,
        inDirectory('split.qcow2'),
        '1M',
      )
      const cases: [string[], RegExp][] = [
        [['none.qcow2', 'csv1', 'x'], /there is no such file/],
        [['notes.txt', 'csv1', 'x'], /neither a boot sector nor a partition table.*--data/],
        [['backed.qcow2', 'csv1', 'x'], /incomplete without \/etc\/hostname/],
        [['split.qcow2', 'csv1', 'x'], /parts of it are in another file: .*data.raw/],
        [['tux.qcow2', 'none', 'x'], /no volume "none"/],
        [['tux.qcow2', 'csv1', 'x', '--size', '1MiB'], /the image needs 96 MiB/],
        [['tux.qcow2', 'csv1', '../x'], /\.\.\/x/],
      ]
      for (const [words, said] of cases) {
        const { code, lines } = await stellwerk.run('image', 'import', ...words)
        // Before a byte is copied.
        expect([words, code, lines]).toEqual([words, 1, [expect.stringMatching(said)]])
      }
      const definitions: [string[], RegExp][] = [
        [['--guest', 'bios'], /boots by bios and has no disk/],
        [
          ['--guest', 'bios', '--disk', 'csv1:1GiB', '--param', 'x=1'],
          /parameter x, which a machine with firmware has not/,
        ],
        [['--guest', 'ledger', '--screen'], /is to run on wasm, where machines have no screens/],
        [['--guest', 'bios', '--disk', 'csv1:1GiB', '--param', 'screen=7'], /the screen 7.*true or false/],
        [['--guest', 'bios', '--disk', 'csv1:1GiB', '--user-data', 'notes.txt'], /begins with no #/],
        [['--guest', 'bios', '--disk', 'csv1:1GiB', '--ssh-key', 'notes.txt'], /no public key of SSH/],
      ]
      for (const [words, said] of definitions) {
        const { code, lines } = await stellwerk.run('vm', 'create', 'bad', ...words)
        expect([words, code, lines]).toEqual([words, 1, [expect.stringMatching(said)]])
      }
      const looks: [string[], RegExp][] = [
        [['none', '--vnc'], /no VM "none"/],
        [['none', '--vnc', '--listen', 'here'], /no number|no IPv4 address/],
        [['none', '--json'], /for screens.*--vnc/],
      ]
      for (const [words, said] of looks) {
        const { code, lines } = await stellwerk.run('vm', 'console', ...words)
        expect([words, code === 0, lines]).toEqual([words, false, [expect.stringMatching(said)]])
      }
      expect(await disksOf()).toEqual([])
      expect(await stellwerk.json<object>('vm', 'list')).toEqual({})
    })

    it('is imported from qcow2, and its data is that of the image', { timeout: LONG }, async () => {
      const imported = await stellwerk.run('image', 'import', 'tux.qcow2', 'csv1', 'tux-1.0')
      expect(imported).toEqual({
        code: 0,
        lines: expect.arrayContaining([expect.stringMatching(/^image tux-1.0 is on/)]),
      })
      expect(await disksOf()).toEqual(['tux-1.0'])
      const taken = await stellwerk.run('image', 'import', 'tux.qcow2', 'csv1', 'tux-1.0')
      expect([taken.code, taken.lines.at(-1)]).toEqual([1, expect.stringMatching(/has a disk tux-1.0 already/)])
      const { uri } = await stellwerk.json<{ uri: string }>('disk', 'export', 'csv1', 'tux-1.0', '--detach')
      run('qemu-img', 'compare', '-f', 'qcow2', '-F', 'raw', inDirectory('tux.qcow2'), uri)
      expect((await stellwerk.run('disk', 'unexport', 'csv1', 'tux-1.0')).code).toBe(0)
    })

    it('from raw, vmdk, vhdx, vhd and vdi as well, with the progress told; what has another format is refused', {
      timeout: LONG,
    }, async () => {
      const formats = { raw: 'raw', vmdk: 'vmdk', vhdx: 'vhdx', vhd: 'vpc', vdi: 'vdi' }
      for (const [name, format] of Object.entries(formats)) {
        const file = `tux.${name}`
        run('qemu-img', 'convert', '-f', 'qcow2', '-O', format, inDirectory('tux.qcow2'), inDirectory(file))
        const { code, lines } = await stellwerk.run('image', 'import', file, 'csv1', `of-${name}`)
        expect([name, code, lines.at(-1)]).toEqual([name, 0, expect.stringMatching(/^image of-\S+ is on/)])
        expect(lines.some(line => /\d+(\.\d+)? ?%/.test(line))).toBe(true)
        const { uri } = await stellwerk.json<{ uri: string }>('disk', 'export', 'csv1', `of-${name}`, '--detach')
        run('qemu-img', 'compare', '-f', 'qcow2', '-F', 'raw', inDirectory('tux.qcow2'), uri)
        expect((await stellwerk.run('disk', 'unexport', 'csv1', `of-${name}`)).code).toBe(0)
        expect((await stellwerk.run('disk', 'delete', 'csv1', `of-${name}`)).code).toBe(0)
      }
      run('qemu-img', 'create', '-f', 'qed', inDirectory('old.qed'), '1M')
      const { code, lines } = await stellwerk.run('image', 'import', 'old.qed', 'csv1', 'old')
      expect([code, lines]).toEqual([1, [expect.stringMatching(/of the format qed .*known: raw, qcow2/)]])
    })

    for (const firmware of LONG_TESTS ? ['bios', 'uefi'] : ['bios']) {
      it(`boots by ${firmware}, moves live, survives its agent, and shuts down with nothing lost`, {
        timeout: LONG,
      }, async () => {
        onTestFailed(async () => console.log((await stellwerk.run('events')).lines.slice(-40).join('\n')))
        writeFileSync(inDirectory('key.pub'), 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0 someone@somewhere\n')
        const words = [
          '--guest',
          firmware,
          '--disk',
          'csv1/tux-1.0',
          '--memory',
          '256MiB',
          '--host',
          'host-a',
          '--screen',
        ]
        const create = () => stellwerk.run('vm', 'create', firmware, ...words, '--ssh-key', 'key.pub')
        await expect.poll(async () => (await create()).code, PATIENT).toBe(0)
        const said = stellwerk.console(firmware)
        const upTo = (count: number) =>
          expect.poll(() => entries(said.lines).at(-1) ?? 0, PATIENT).toBeGreaterThanOrEqual(count)
        await upTo(20)
        const itself = process.getuid?.()
        const user = whyNoOwnUser() === null ? expect.toSatisfy(uid => uid > 65_535) : itself
        expect(usersOf(firmware)).toEqual([user])
        const viewers = stellwerk.start('vm', 'console', firmware, '--vnc', '--json')
        const seenOn = async (host: string) => {
          const line = await viewers.said(new RegExp(`"host":"${host}"`))
          const { address, port } = JSON.parse(line) as { address: string; port: number }
          return lookAt(address, port)
        }
        const drawn = { name: `QEMU (${firmware})`, colours: expect.toSatisfy(count => count > 1) }
        expect(await seenOn('host-a')).toMatchObject(drawn)

        const moved = await stellwerk.json<{ phase: string }>('vm', 'migrate', firmware, '--to', 'host-b', '--wait')
        expect(moved.phase).toBe('done')
        await upTo((entries(said.lines).at(-1) ?? 0) + 20)
        const first = entries(said.lines)
        expect(first.every((entry, n) => n === 0 || entry === first[n - 1]! + 1)).toBe(true)
        // It is drawn anew there, a moment after somebody looks.
        await expect.poll(() => seenOn('host-b'), PATIENT).toMatchObject(drawn)
        viewers.process.kill('SIGINT')
        expect((await viewers.ended).code).toBe(0)

        await stellwerk.kill('host-b/agent')
        const last = entries(said.lines).at(-1)!
        const recovered = () =>
          said.lines.flatMap(line => /^recovered ([1-9]\d*) intact$/.exec(line)?.[1] ?? []).map(Number)
        await expect.poll(() => recovered().length, PATIENT).toBe(1)
        expect(recovered()[0]).toBeGreaterThanOrEqual(last)
        await upTo(last + 20)

        expect((await stellwerk.run('vm', 'stop', firmware, '--timeout', '120000')).code).toBe(0)
        await expect
          .poll(async () => (await stellwerk.json<{ state: string }>('vm', 'show', firmware)).state, PATIENT)
          .toBe('stopped')
        expect(said.lines).toContain(`down after ${entries(said.lines).at(-1)}`)
        expect(said.lines.filter(line => /damaged|disk error/.test(line))).toEqual([])
        said.process.kill()
        // The agent that was killed comes back.
        expect((await stellwerk.run('up')).code).toBe(0)
      })
    }
  },
)
