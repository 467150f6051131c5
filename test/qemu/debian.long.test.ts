// A distribution's image as an operator has it: a Debian with systemd, cloud-init and SSH is imported, VMs begin with clones of it
// and are told by cloud-init who they are; they are reached by a forward, move live under an open SSH session, stand still for a snapshot
// and shut down by the agent in them.

import { execFileSync } from 'node:child_process'
import { closeSync, openSync, readFileSync, readSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { peer, peers } from '@stellwerk/runtime/testing/peers.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { afterAll, beforeAll, describe, expect, it, onTestFailed } from 'vitest'
import { type Running, Stellwerk } from '../processes/stellwerk.ts'
import { loaders } from './bootable-disk.ts'
import { debianImageFile, debianTools } from './debian-image.ts'
import { qemu } from './tiny-image.ts'

/** Of ext4's incompatible features: its journal has what is not in its place yet (EXT4_FEATURE_INCOMPAT_RECOVER). */
const EXT4_RECOVER = 0x4
/** By software a boot of systemd takes minutes. */
const LONG = 1_800_000
const PATIENT = { timeout: 1_200_000, interval: 1_000 }
const ssh = peers(peer('ssh', 'openssh-client'), peer('ssh-keygen', 'openssh-client'))
const wanted = [qemu, loaders, debianTools, ssh]
const stellwerk = new Stellwerk('debian')
const inDirectory = (name: string): string => join(stellwerk.directory, name)
/** What is read and what is said is ours alone. */
const QUIETLY = ['BatchMode=yes', 'ConnectTimeout=30', 'LogLevel=ERROR', 'UserKnownHostsFile=/dev/null']

interface Migration {
  readonly phase: string
  readonly statistics: { readonly rounds: number; readonly bytesSent: number; readonly sourceTotalMs: number }
}

describe.skipIf(wanted.some(({ missing }) => missing))(
  `a Debian (${wanted.map(({ note }) => note).join(', ')})`,
  () => {
    let publicKey = ''

    beforeAll(async () => {
      execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', inDirectory('key')])
      publicKey = readFileSync(inDirectory('key.pub'), 'utf8').trim()
      const image = await debianImageFile()
      await stellwerk.start('up', '--hosts', '2').said(/^up after/)
      const { code, lines } = await stellwerk.run('image', 'import', image, 'csv1', 'debian-12')
      expect([code, lines.at(-1)]).toEqual([0, expect.stringMatching(/^image debian-12 is on/)])
    }, LONG)

    afterAll(() => stellwerk.remove(), LONG)

    async function create(name: string, firmware: string, last: number, ...more: string[]): Promise<Running> {
      const mac = `52:54:00:00:00:0${last}`
      writeFileSync(
        inDirectory('network.yaml'),
        `version: 2\nethernets:\n  lan:\n    match: {macaddress: "${mac}"}\n    set-name: lan0\n    addresses: [10.0.0.${last}/24]\n`,
      )
      const words = ['--guest', firmware, '--disk', 'csv1/debian-12', '--memory', '512MiB', '--host', 'host-a']
      const card = ['--nic', `lan,mac=${mac},ip=10.0.0.${last}`, '--network-config', 'network.yaml']
      onTestFailed(async () => console.log((await stellwerk.run('events')).lines.slice(-40).join('\n')))
      await expect
        .poll(async () => (await stellwerk.run('vm', 'create', name, ...words, ...card, ...more)).code, PATIENT)
        .toBe(0)
      const said = stellwerk.console(name)
      onTestFailed(() => console.log(said.lines.slice(-80).join('\n')))
      return said
    }

    /** Its port for SSH on this machine; and what is said to it there, as Debian's own user. */
    async function reach(name: string): Promise<{ way: Running; words: (...command: string[]) => string[] }> {
      const way = stellwerk.start('vm', 'forward', name, '22')
      const port = /^127\.0\.0\.1:(\d+) on host-[ab] leads to/.exec(await way.said(/leads to/))?.[1] ?? ''
      const options = [...QUIETLY, 'StrictHostKeyChecking=no'].flatMap(option => ['-o', option])
      return { way, words: (...command) => ['-i', 'key', '-p', port, ...options, 'debian@127.0.0.1', ...command] }
    }

    const answers = (words: string[], expected: string[]) =>
      expect.poll(async () => (await stellwerk.tool('ssh', ...words)).lines, PATIENT).toEqual(expected)

    /** A snapshot of the running machine's disk, and whether its file system has something to recover. */
    async function kept(name: string, ...more: string[]): Promise<{ consistency: string; recovers: boolean }> {
      const words = ['disk', 'snapshot', 'csv1', 'web-0', name, ...more]
      const { consistency } = await stellwerk.json<{ consistency: string }>(...words)
      const way = stellwerk.start('disk', 'export', 'csv1', name)
      const uri = await way.said(/^nbd:/)
      execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', 'raw', uri, inDirectory(`${name}.raw`)])
      way.process.kill('SIGINT')
      await way.ended
      const file = openSync(inDirectory(`${name}.raw`), 'r')
      const bytes = (length: number, at: number): Buffer => {
        const read = Buffer.alloc(length)
        readSync(file, read, 0, length, at)
        return read
      }
      // The second entry of the partition table; and of the superblock there the features that one must know to mount it.
      const start = bytes(4, 446 + 16 + 8).readUInt32LE() * 512
      const features = bytes(4, start + 1024 + 0x60).readUInt32LE()
      closeSync(file)
      return { consistency, recovers: (features & EXT4_RECOVER) !== 0 }
    }

    async function shutDown(name: string, way: Running, said: Running): Promise<void> {
      way.process.kill('SIGINT')
      expect((await way.ended).code).toBe(0)
      expect((await stellwerk.run('vm', 'stop', name, '--timeout', '300000')).code).toBe(0)
      await expect
        .poll(async () => (await stellwerk.json<{ state: string }>('vm', 'show', name)).state, PATIENT)
        .toBe('stopped')
      expect(said.lines.join('\n')).toMatch(/Power-Off|Power down/)
      said.process.kill()
    }

    it('does by cloud-init what its user data says, and an SSH session is held over a live migration', {
      timeout: LONG,
    }, async () => {
      const startedAt = performance.now()
      const done = 'echo "cloud-init has made this $(hostname)" > /dev/ttyS0'
      const data = { ssh_authorized_keys: [publicKey], runcmd: [['sh', '-c', done]] }
      writeFileSync(inDirectory('user-data'), `#cloud-config\n${JSON.stringify(data)}\n`)
      const said = await create('web', 'bios', 5, '--user-data', 'user-data')
      await expect.poll(() => said.lines.join('\n'), PATIENT).toContain('cloud-init has made this web')
      const upAfterS = Math.round((performance.now() - startedAt) / 1_000)
      const { way, words } = await reach('web')
      await answers(words('hostname'), ['web'])
      await answers(words('systemctl', 'is-active', 'ssh'), ['active'])
      await answers(words('ls', '/usr/sbin/qemu-ga'), ['/usr/sbin/qemu-ga'])

      const session = stellwerk.startTool('ssh', ...words('for i in $(seq 100000); do echo tick $i; sleep 0.2; done'))
      const ticks = () => session.lines.flatMap(line => /^tick (\d+)$/.exec(line)?.slice(1).map(Number) ?? [])
      await expect.poll(() => ticks().length, PATIENT).toBeGreaterThan(10)
      const figures: string[] = []
      for (const to of ['host-b', 'host-a']) {
        const over = await stellwerk.json<Migration>('vm', 'migrate', 'web', '--to', to, '--wait')
        expect(over.phase).toBe('done')
        const { rounds, bytesSent, sourceTotalMs } = over.statistics
        figures.push(`${Math.round(bytesSent / MIB)} MiB in ${rounds} rounds and ${Math.round(sourceTotalMs)} ms`)
        const before = ticks().length
        await expect.poll(() => ticks().length, PATIENT).toBeGreaterThan(before + 10)
        await answers(words('hostname'), ['web'])
      }
      expect(session.lines).toEqual(ticks().map((_, i) => `tick ${i + 1}`))
      session.process.kill()
      await session.ended

      // Its agent, which the distribution starts by itself, is found at each place, and holds the file systems still.
      const seen = async () => (await stellwerk.json<{ guestAgent: object | null }>('vm', 'show', 'web')).guestAgent
      await expect.poll(seen, PATIENT).toMatchObject({
        ...{ state: 'there', hostName: 'web', os: expect.stringMatching(/^Debian GNU/) },
        interfaces: [{ name: 'lan0', addresses: ['10.0.0.5'] }],
      })
      expect(await kept('still')).toEqual({ consistency: 'application-consistent', recovers: false })
      expect(await kept('cut', '--no-freeze')).toEqual({ consistency: 'crash-consistent', recovers: true })
      // It shuts down by it: of its power button it wants to know nothing.
      const deaf = 'printf "[Login]\\nHandlePowerKey=ignore\\n" > /etc/systemd/logind.conf.d/deaf.conf'
      const made = `sudo sh -c 'mkdir -p /etc/systemd/logind.conf.d; ${deaf}; systemctl restart systemd-logind' 2> /dev/null`
      await answers(words(made), [])
      console.log(`a Debian's cloud-init was done after ${upAfterS} s; its migrations: ${figures.join(', ')}`)
      await shutDown('web', way, said)
    })

    it('lets in whose key it was given, and boots by UEFI', { timeout: LONG }, async () => {
      const said = await create('keyed', 'uefi', 6, '--ssh-key', 'key.pub')
      const { way, words } = await reach('keyed')
      await answers(words('hostname'), ['keyed'])
      const done = 'cloud-init status --wait > /dev/null; test -d /sys/firmware/efi && cloud-init status'
      await answers(words(done), ['status: done'])
      await shutDown('keyed', way, said)
    })
  },
)
