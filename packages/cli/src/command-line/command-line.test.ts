import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { FAILED, OK, USAGE } from './command.ts'
import { FAMILIES } from './families.ts'
import { type Typed, typed } from './testing/typed.ts'

let directory: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'stellwerk-'))
})

afterEach(() => {
  rmSync(directory, { recursive: true })
})

const run = (line: string, variables: Record<string, string> = {}): Promise<Typed> =>
  typed(line === '' ? [] : line.split(' '), directory, variables)

/** One line that names what and says what to do. */
function expectRefused(ran: Typed, code: number, ...parts: (string | RegExp)[]): void {
  expect(ran.err).toHaveLength(1)
  expect(ran.err[0]).not.toMatch(/\n|undefined|at .*\.ts:/)
  for (const part of parts) expect(ran.err[0]).toMatch(part)
  expect([ran.code, ran.out]).toEqual([code, []])
}

describe('the command line', () => {
  it('helps: with everything, a family, a command', async () => {
    const all = await run('')
    expect(all.code).toBe(OK)
    for (const words of ['up', 'status', 'vm migrate NAME', 'host confirm-dead NAME', 'disk resize', 'trace show']) {
      expect(all.out.join('\n')).toContain(`stellwerk ${words}`)
    }
    expect((await run('help vm')).out.join('\n')).toMatch(/stellwerk vm create NAME/)
    expect((await run('vm migrate --help')).out.join('\n')).toMatch(/--to H\s+where to/)
  })

  it('takes "help" for a name where a name stands, and for no option after --', async () => {
    const refused = /there is no cluster|is not a cluster/
    for (const line of ['vm start help', 'vm create help', 'vm start -- --help', 'vm start -- -h']) {
      expectRefused(await run(line), FAILED, refused)
    }
    expectRefused(await run('vm help'), USAGE, /there is no command "vm help".*; say: stellwerk vm create/)
    for (const line of ['vm start web -h', 'vm start help --help', 'help vm start', '--help vm start', 'help -- vm']) {
      const { code, out } = await run(line)
      expect([line, code, out.join('\n')]).toEqual([line, OK, expect.stringMatching(/stellwerk (vm start NAME|help)/)])
    }
  })

  it('every command has a summary, and says what each option is for', async () => {
    for (const family of Object.values(FAMILIES)) {
      for (const command of (await family()).commands) {
        expect(command.summary).not.toBe('')
        for (const [name, option] of Object.entries(command.options))
          expect([name, option.help]).not.toEqual([name, ''])
      }
    }
  })

  const usage: [string, RegExp][] = [
    ['fly', /there is no command "fly"/],
    ['vm', /"vm" needs another word; say: stellwerk vm create\|start/],
    ['vm fly', /there is no command "vm fly"/],
    ['vm start', /NAME is missing .*usage: stellwerk vm start NAME/],
    ['vm start a b', /"b" is one word too many/],
    ['status --interval 1s', /--interval goes with --watch .*usage: stellwerk status/],
    ['status --loud', /unknown option '--loud'/],
    ['vm migrate web --to', /argument missing/],
    ['vm migrate web --to a --to b', /--to came twice/],
    ['volume check', /name either a volume, files or NBD URIs/],
    ['volume check --file /nope --scrub', /only a volume of the cluster is scrubbed .*volume check NAME --scrub/],
    ['volume check csv1 --last', /--last belongs to --scrub/],
    ['volume check csv1 --good-leg san-a', /--good-leg belongs to --scrub/],
  ]
  it.each(usage)('%s: is answered with its usage', async (line, part) => {
    expectRefused(await run(line), USAGE, part)
  })

  const values: [string, RegExp][] = [
    ['vm create web --memory much', /"much" is no size \(--memory\); say 64MiB/],
    ['vm create web --disk csv1', /"csv1" is no disk .*VOLUME:SIZE/],
    ['disk export csv1 d1 --port 99999', /"99999" is no number from 0 to 65535 \(--port\)/],
    ['disk export csv1 d1 --socket=', /a socket’s path has 1 to 100 bytes, not 0 \(--socket\); name one/],
    [`disk export csv1 d1 --socket ${'/s'.repeat(60)}`, /a socket’s path has 1 to 100 bytes, not 120 \(--socket\)/],
    ['vm create web --guest windows', /there is no guest "windows" .*known: echo, ledger/],
    ['vm create web --param speed=9', /guest ledger has no parameter "speed" .*writesPerSecond/],
    ['vm create web --guest constructor', /there is no guest "constructor" .*known: echo, ledger/],
    ['vm create web --param writesPerSecond=9 --param writesPerSecond=5', /parameter "writesPerSecond" is given twice/],
    ['vm create web --param speed', /"speed" is no parameter .*NAME=VALUE/],
    ['vm create web --hypervisor xen', /"xen" is not one of wasm, model/],
    ['vm create web --priority high', /"high" is no number from 0 to 1000/],
    ['vm migrate web --downtime 0', /"0" is no number from 1 to 60000 \(--downtime\)/],
    ['vm migrate web --when-diverging hope', /"hope" is not one of pause, abort \(--when-diverging\)/],
    ['up --hosts 0', /"0" is no number from 1 to 26 \(--hosts\)/],
    ['up --profile fast', /"fast" is not one of lab, production \(--profile\)/],
    ['up --memory 1', /1 bytes are too few for a host.* \(--memory\); say at least 16MiB/],
    ['volume check --file /', /that is a directory \(\/\); name a LUN/],
    ['volume check --file /nope', /there is no such file \(\/nope\); name a LUN/],
    ['coordinator serve --config /nope', /no such configuration file \(\/nope\); name one with --config/],
    ['agent serve --config /', /no such configuration file \(\/\); name one/],
    ['up --memory 8000TiB', /a host can't have 7.8 PiB: this machine has .* \(--memory\); say at most/],
    ['status --watch --interval soon', /"soon" is no time from 200 ms to 1 h \(--interval\); say 500ms/],
    ['status --watch --interval 1ms', /"1ms" is no time/],
    ['up --memory none', /"none" is no size \(--memory\)/],
    ['trace show --level all', /"all" is not one of decision, message, io/],
    ['trace show --last 0', /"0" is no number from 1 to 1000000 \(--last\)/],
  ]
  it.each(values)('%s: names the word', async (line, part) => {
    expectRefused(await run(line), FAILED, part)
    expect(readdirSync(directory)).toEqual([])
  })
})

describe('a directory that is no cluster', () => {
  const looks = ['status', 'vm list', 'host list', 'volume list', 'disk list csv1', 'path list', 'events', 'why vm web']
  const more = [
    'trace list',
    'trace show',
    'cluster config',
    'cluster restore csv1',
    'volume check csv1',
    'volume check csv1 --scrub',
    'down',
  ]
  it.each([...looks, ...more])('%s: says so, and leaves nothing behind', async line => {
    expectRefused(await run(line), FAILED, /no cluster|no cluster runs there/, directory)
    expect(readdirSync(directory)).toEqual([])
  })

  it('is found by --dir, STELLWERK_DIR, or its name', async () => {
    expect((await run('vm list --dir elsewhere')).err[0]).toContain(join(directory, 'elsewhere'))
    expect((await run('vm list', { STELLWERK_DIR: '/nowhere' })).err[0]).toContain('/nowhere')
    expect((await run('vm list')).err[0]).toContain(join(directory, '.stellwerk'))
  })
})

describe('STELLWERK_API names the cluster', () => {
  const remote = { STELLWERK_API: '127.0.0.1:9', STELLWERK_TOKEN: 'token' }
  it.each(['status', 'volume check csv1', 'disk export csv1 d1', 'vm console web'])(
    '%s: nothing on this machine stands in for it',
    async line => {
      expectRefused(await run(line, remote), FAILED, /coordinator does not answer.*127\.0\.0\.1:9/)
      expect(readdirSync(directory)).toEqual([])
    },
  )
})

describe('up refuses, and changes nothing', () => {
  const at = (...names: string[]) => join(directory, '.stellwerk', ...names)

  function given(files: Record<string, string>): string[] {
    mkdirSync(at(), { recursive: true })
    for (const [name, text] of Object.entries(files)) writeFileSync(at(name), text)
    return readdirSync(at())
  }

  const CLUSTER = {
    format: 1,
    cluster: 'c1',
    profile: 'lab',
    address: '127.0.0.1',
    coordinator: { port: 21_001, apiPort: 21_002 },
    hosts: [],
    storages: [],
  }

  it.each(['up', 'up --detach'])('%s: a directory of something else', async line => {
    const before = given({ 'holiday.jpg': 'x' })
    expectRefused(await run(line), FAILED, /is not a cluster's: it has "holiday.jpg"/, '--dir')
    expect(readdirSync(at())).toEqual(before)
  })

  it('a directory that cannot be', async () => {
    const long = 'n'.repeat(300)
    expectRefused(await run(`up --dir ${long}`), FAILED, /can't be looked into: ENAMETOOLONG/, long, '--dir')
    expectRefused(await run('up --dir /proc/nowhere'), FAILED, /can't be made there: ENOENT/, '/proc/nowhere')
  })

  it('a file where the directory should be', async () => {
    writeFileSync(at(), 'x')
    expectRefused(await run('up'), FAILED, /that is a file, not a directory/)
  })

  /** A cluster file with a host-a and a san-a, and one more of that kind and name. */
  const twice = (kind: 'hosts' | 'storages', name: string): string => {
    const host = { name: 'host-a', port: 21_003, memoryBytes: 2 ** 30 }
    const portals = { 'fabric-0': 21_004, 'fabric-1': 21_005 }
    const control = { cluster: 21_006, 'fabric-0': 21_007, 'fabric-1': 21_008 }
    const storage = { name: 'san-a', portals, control }
    const cluster = { ...CLUSTER, hosts: [host] as object[], storages: [storage] as object[] }
    cluster[kind].push({ ...(kind === 'hosts' ? host : storage), name })
    return JSON.stringify(cluster)
  }

  const damaged: [string, string, RegExp][] = [
    ['cut off', JSON.stringify(CLUSTER).slice(0, 40), /the cluster file is damaged: it is no JSON/],
    ['empty', '', /the cluster file is damaged/],
    ['with an unknown key', JSON.stringify({ ...CLUSTER, color: 'red' }), /unknown key "color"/],
    ['of another format', JSON.stringify({ ...CLUSTER, format: 2 }), /"format"/],
    ['with a host twice', twice('hosts', 'host-a'), /it names host host-a twice/],
    ['with a storage twice', twice('storages', 'san-a'), /it names storage san-a twice/],
    ['with a host and a storage of one name', twice('hosts', 'san-a'), /a host and a storage are called san-a/],
    ['without a part', JSON.stringify({ ...CLUSTER, hosts: undefined }), /missing "hosts"/],
  ]
  it.each(damaged)('a cluster file that is %s', async (_what, text, part) => {
    const before = given({ 'cluster.json': text })
    expectRefused(await run('up'), FAILED, part, /cluster\.json/, /--dir/)
    expectRefused(await run('status'), FAILED, part)
    expect(readdirSync(at())).toEqual(before)
    expect(readFileSync(at('cluster.json'), 'utf8')).toBe(text)
  })

  const others: [string, RegExp][] = [
    ['--hosts 2', /the cluster there has 1 hosts, not 2 .*; leave --hosts away; while it is up: .*host add NAME/],
    ['--profile production', /the cluster there has the profile lab, not production .*; leave --profile away, or make/],
    ['--memory 256MiB', /the cluster there has 1 GiB on host-a, not 256 MiB .*; leave --memory away, or make/],
    ['--memory 1GiB --profile production', /the cluster there has the profile lab, not production/],
  ]
  const ONE_HOST = { ...CLUSTER, hosts: [{ name: 'host-a', port: 21_003, guestPort: 21_004, memoryBytes: 2 ** 30 }] }
  it.each(others)('up %s: what the cluster there was not made with', async (options, part) => {
    const text = JSON.stringify(ONE_HOST)
    const before = given({ 'cluster.json': text })
    expectRefused(await run(`up ${options}`), FAILED, part)
    expectRefused(await run(`up --detach ${options}`), FAILED, part)
    expect(readdirSync(at())).toEqual(before)
    expect(readFileSync(at('cluster.json'), 'utf8')).toBe(text)
  })

  it('not what the cluster there was made with: the next thing is looked at', async () => {
    given({ 'cluster.json': JSON.stringify(ONE_HOST), 'api-token': 'x y' })
    const ran = await run('up --hosts 1 --profile lab --memory 1024MiB')
    expect([ran.code, ran.err]).toEqual([FAILED, [expect.stringMatching(/the token is damaged/)]])
  })

  it('a damaged token', async () => {
    given({ 'cluster.json': JSON.stringify(CLUSTER), 'api-token': 'x y' })
    expectRefused(await run('status'), FAILED, `the token is damaged (${at('api-token')})`)
  })

  it('a coordinator’s state that is damaged: it alone is looked at, and stays as it is', async () => {
    given({ 'cluster.json': JSON.stringify(CLUSTER) })
    mkdirSync(at('coordinator'))
    writeFileSync(
      at('coordinator', 'state.sqlite'),
      'this is no state at all, but long enough to be looked into'.repeat(4),
    )
    const ran = await run('up')
    expect(ran.code).toBe(FAILED)
    expect(ran.err).toEqual([
      expect.stringMatching(/the state file is not a Stellwerk state \(.*coordinator\/state\.sqlite\)/),
    ])
    expect(readFileSync(at('coordinator', 'state.sqlite'), 'utf8')).toMatch(/^this is no state/)
    expect(existsSync(at('san-a'))).toBe(false)
  }, 60_000)

  it('a port that is taken: it is named', async () => {
    const server = createServer()
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as { port: number }
    given({ 'cluster.json': JSON.stringify({ ...CLUSTER, coordinator: { port, apiPort: 21_002 } }) })
    const ran = await run('up')
    expect(ran.code).toBe(FAILED)
    expect(ran.err).toEqual([
      expect.stringMatching(
        `address is taken by another process \\(127.0.0.1:${port}\\); stop .* coordinator.port in /`,
      ),
    ])
    await new Promise(resolve => server.close(resolve))
  }, 60_000)
})

describe('traces of a cluster', () => {
  it('a guardian that had nothing to attest has none, which is no fault; of any other process it is one', async () => {
    const host = { name: 'host-a', port: 1, memoryBytes: 1 }
    const cluster = { format: 1, cluster: 'c1', profile: 'lab', address: '127.0.0.1', hosts: [host], storages: [] }
    mkdirSync(join(directory, '.stellwerk'))
    const text = JSON.stringify({ ...cluster, coordinator: { port: 1, apiPort: 1 } })
    writeFileSync(join(directory, '.stellwerk', 'cluster.json'), text)
    const ran = await run('trace show')
    expect(ran.code).toBe(FAILED)
    expect(ran.err).toEqual([
      expect.stringMatching(/coordinator has no trace/),
      expect.stringMatching(/host-a\/agent has no trace/),
    ])
    expect((await run('trace show --process host-a/guardian')).err).toEqual([
      expect.stringMatching(/host-a\/guardian has no trace/),
    ])
  })
})

describe('a cluster that is down', () => {
  it('has tokens that only their owner reads, and says how to start it', async () => {
    mkdirSync(join(directory, '.stellwerk'))
    const cluster = { format: 1, cluster: 'c1', profile: 'lab', address: '127.0.0.1', hosts: [], storages: [] }
    const text = JSON.stringify({ ...cluster, coordinator: { port: 1, apiPort: 1 } })
    writeFileSync(join(directory, '.stellwerk', 'cluster.json'), text)
    expectRefused(await run('vm list'), FAILED, /it was never started/)
    const token = join(directory, '.stellwerk', 'api-token')
    writeFileSync(token, 'a'.repeat(40))
    chmodSync(token, 0o600)
    expect(statSync(token).mode & 0o777).toBe(0o600)
    expectRefused(
      await run('vm list'),
      FAILED,
      /the coordinator does not answer: nothing listens there \(127.0.0.1:1\)/,
      /npx stellwerk up/,
    )
  })

  it('of another machine is named by address and token', async () => {
    expectRefused(await run('vm list', { STELLWERK_API: 'nonsense' }), FAILED, /"nonsense" is no address of an API/)
    expectRefused(await run('vm list', { STELLWERK_API: '127.0.0.1:99999' }), FAILED, /"127.0.0.1:99999" is no address/)
    expectRefused(await run('vm list', { STELLWERK_API: '127.0.0.1:1' }), FAILED, /the API’s token is missing/)
    const torn = { STELLWERK_API: '127.0.0.1:1', STELLWERK_TOKEN: 'a\nb' }
    expectRefused(await run('vm list', torn), FAILED, /the API’s token is damaged \(STELLWERK_TOKEN\); set it to/)
    const ran = await run('vm list', { STELLWERK_API: '127.0.0.1:1', STELLWERK_TOKEN: 't' })
    expectRefused(ran, FAILED, /the coordinator does not answer/)
  })
})

describe('configuration files', () => {
  const serve = (program: string, text: string) => {
    writeFileSync(join(directory, 'config.yaml'), text)
    return run(`${program} serve --config ${join(directory, 'config.yaml')}`)
  }
  const storage = 'cluster: c1\ntoken: 0123456789abcdef\nname: san-a\nportals: []\ncontrol: []\n'

  it('with a key that is not known', async () => {
    expectRefused(await serve('storage', `${storage}colour: red\n`), FAILED, /unknown key "colour" .*config\.yaml/)
    expect(readdirSync(directory)).toEqual(['config.yaml'])
  })

  it('with a key that is missing, or of the wrong kind', async () => {
    expectRefused(await serve('agent', 'cluster: c1\n'), FAILED, /missing "token", "host"/)
    const portal = 'portals: [{network: fabric-9, host: 127.0.0.1, port: 1}]'
    expectRefused(await serve('storage', storage.replace('portals: []', portal)), FAILED, /"portals\.0\.network"/)
  })

  it('with a number that is none', async () => {
    const at = '{network: cluster, host: 127.0.0.1, port: 1}'
    const text = `cluster: c1\ntoken: 0123456789abcdef\nhost: h1\ncoordinator: ${at}\nlisten: ${at}\n`
    expectRefused(await serve('agent', `${text}memoryBytes: 1e40\n`), FAILED, /"memoryBytes" must be <= /)
  })

  it('with a setting that is not known', async () => {
    const text = `${storage.split('name')[0]}profile: lab\nlisten: {network: cluster, host: 127.0.0.1, port: 0}\napi: {port: 0}\nstorages: []\n`
    const ran = await serve('coordinator', `${text}settings: {leaseMS: 5000}\n`)
    expectRefused(ran, FAILED, /unknown key "settings\.leaseMS"/)
  })

  it('that is no YAML, or is not there', async () => {
    expectRefused(await serve('storage', 'a: [1'), FAILED, /the configuration can't be read/)
    expectRefused(
      await run('storage serve --config nowhere.yaml'),
      FAILED,
      /there is no such configuration file \(nowhere/,
    )
  })
})
