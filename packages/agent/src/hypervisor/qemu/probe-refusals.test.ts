// What a host without a QEMU that runs its machines says of it: one line, with what to install. QEMU is played, trial by trial.

import type { CommandExit, CommandSpec, Environment } from '@stellwerk/runtime/environment.ts'
import { describeError, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { Simulation } from '@stellwerk/runtime/sim/simulation.ts'
import { describe, expect, it } from 'vitest'
import type { Capabilities } from '../hypervisor.ts'
import { createVirtualEnvironment } from '../testing/virtual-environment.ts'
import { QemuHypervisor } from './hypervisor.ts'
import { probeQemu, QEMU_PROGRAM } from './probe.ts'
import type { StartProgram } from './qemu-process.ts'
import { simulatedQemu } from './simulated/program.ts'

const DEBIAN = /apt install qemu-system-x86 \(Debian\)/
const FEDORA = /dnf install qemu-system-x86-core \(Fedora\)/
/** How QEMU ends when the trial's guest says that its processor is Intel's. */
const RUNS = { code: ('G'.charCodeAt(0) * 2 + 1) % 256 }
const HANGS = 'hangs'
const NO_KVM = 'qemu-system-x86_64: failed to initialize kvm: Permission denied'

type Played = Partial<CommandExit> | typeof HANGS

/** A QEMU of this version, whose trials come to this. */
function played(version: Played, trial: (accelerator: string, cpu: string) => Played = () => RUNS) {
  const { env: virtual, until } = createVirtualEnvironment(1)
  const warnings: string[] = []
  const written = new Set<string>()
  const killed: string[] = []
  const files = {
    makeDirectory: async () => undefined,
    writeAtomic: async (path: string) => void written.add(path),
    remove: async (path: string) => void written.delete(path),
    locate: (path: string) => `/state/${path}`,
  }
  const log = {
    ...virtual.log,
    warn: (fields: object, text: string) => warnings.push(`${JSON.stringify(fields)} ${text}`),
  }
  const env = { ...virtual, files, log } as unknown as Environment
  const start: StartProgram = async (vm, { program, args }: CommandSpec) => {
    expect([vm, program]).toEqual([null, QEMU_PROGRAM])
    const after = (word: string) => args[args.indexOf(word) + 1] ?? ''
    const accelerator = after('-accel').split(',')[0] ?? ''
    const how = args.includes('--version') ? version : trial(accelerator, after('-cpu'))
    const { promise, resolve } = Promise.withResolvers<CommandExit>()
    const end = (more: Partial<CommandExit>) => resolve({ code: 0, signal: null, output: '', errors: '', ...more })
    if (how !== HANGS) end(how)
    return {
      onExit: f => void promise.then(f),
      kill: () => {
        killed.push(accelerator)
        end({ code: null, signal: 'SIGKILL' })
      },
    }
  }
  const probe = async (with_: StartProgram = start) => {
    let answer: unknown = null
    probeQemu(env, with_).then(
      facts => {
        answer = facts
      },
      (error: unknown) => {
        answer = error
      },
    )
    await until(() => answer !== null, 60_000)
    return answer
  }
  return { probe, warnings, written, killed }
}

const tells = (version: string) => ({
  output: `QEMU emulator version ${version}\nCopyright (c) 2003-2022 Fabrice Bellard\n`,
})

/** One line, of this code, with what to do on Debian and on Fedora. */
function expectLine(error: unknown, code: string, what: RegExp): void {
  expect(error).toBeInstanceOf(StellwerkError)
  expect(error).toMatchObject({ code, where: QEMU_PROGRAM })
  const line = describeError(error)
  expect(line).not.toMatch(/\n/)
  for (const part of [what, DEBIAN, FEDORA]) expect(line).toMatch(part)
}

describe('a host without QEMU', () => {
  it('says so, and what to install', async () => {
    const { probe } = played(tells('7.2.0'))
    const missing: StartProgram = async () => {
      throw new StellwerkError('no-program', `there is no program ${QEMU_PROGRAM}`)
    }
    expectLine(await probe(missing), 'no-program', /^QEMU is not installed \(qemu-system-x86_64\); /)
  })

  it.each([
    ['no-program', `there is no program 'setpriv' on this machine`, 'it comes with util-linux, from version 2.33 on'],
    ['spawn-failed', `the system did not start ${QEMU_PROGRAM}`, "see this machine's limits for processes and memory"],
  ])('or where something else keeps it from being started (%s): what', async (code, message, hint) => {
    const { probe } = played(tells('7.2.0'))
    const refused: StartProgram = async () => {
      throw new StellwerkError(code, message, { where: 'qemu-probe', hint })
    }
    expect(await probe(refused)).toMatchObject({ code, message, hint })
  })
})

describe('a QEMU that is too old', () => {
  it.each([
    ['7.1.0', /^QEMU 7\.1 is here, and 7\.2 is needed/],
    ['6.2.0 (Debian 1:6.2+dfsg-2ubuntu6)', /^QEMU 6\.2 is here/],
    ['2.12.1', /^QEMU 2\.12 is here/],
  ])('%s: is named with what is needed, and nothing of it is tried', async (version, what) => {
    const { probe, written } = played(tells(version), () => {
      throw new Error('it is tried')
    })
    expectLine(await probe(), 'old-program', what)
    expect([...written]).toEqual([])
  })

  it.each(['7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)', '8.0.0', '10.1.0', '9.2.4 (qemu-9.2.4-2.fc42)'])(
    '%s is not one',
    async version => {
      const { probe } = played(tells(version))
      expect(await probe()).toMatchObject({ version: version.split(' ')[0], accelerator: 'kvm' })
    },
  )
})

describe('a QEMU that does not tell its version', () => {
  it.each([
    ['says nothing', { output: '' }],
    ['says something else', { output: 'hello\n' }],
    ['fails', { ...tells('7.2.0'), code: 127, errors: 'error while loading shared libraries: libpixman-1.so.0' }],
    ['hangs', HANGS],
  ] satisfies [string, Played][])('it %s: that is said, in time', async (_, version) => {
    const { probe } = played(version)
    expectLine(await probe(), 'qemu-failed', /^QEMU does not tell its version/)
  })
})

describe('KVM', () => {
  const broken: [string, Played, RegExp][] = [
    ['hangs its guests', HANGS, /its guest hung: it was ended after 5000 ms/],
    [
      'is refused',
      { code: 1, errors: `Could not access KVM kernel module: Permission denied\n${NO_KVM}\n` },
      /Permission denied/,
    ],
    ['ends guests in another way', { code: 0 }, /QEMU ended with status 0/],
  ]
  it.each(broken)(
    'that %s: machines run in software, and the log has one line of why and what to do',
    async (_, kvm, why) => {
      const { probe, warnings, written } = played(tells('7.2.0'), accelerator => (accelerator === 'kvm' ? kvm : RUNS))
      expect(await probe()).toEqual({ version: '7.2.0', accelerator: 'tcg', cpu: { family: 'TCG', level: 2 } })
      expect(warnings).toEqual([expect.stringMatching(why)])
      expect(warnings[0]).toMatch(/chgrp kvm \/dev\/kvm; chmod 660 \/dev\/kvm/)
      expect([...written]).toEqual([])
    },
  )

  it('that hangs is ended, and so is TCG: then no guest runs here, and what to do is said', async () => {
    const { probe, killed, written } = played(tells('7.2.0'), () => HANGS)
    expectLine(await probe(), 'qemu-failed', /runs no guest here, neither by KVM nor by TCG: its guest hung/)
    expect(killed).toEqual(['kvm', 'tcg'])
    expect([...written]).toEqual([])
  })

  it('and TCG that both lack the machine: QEMU’s own last word is passed on', async () => {
    const errors = 'qemu-system-x86_64: unsupported machine type\nUse -machine help to list supported machines\n'
    const { probe } = played(tells('7.2.0'), () => ({ code: 1, errors }))
    expectLine(await probe(), 'qemu-failed', /Use -machine help to list supported machines/)
  })

  it('that works has the highest level that a guest runs with, and the maker of its processor', async () => {
    const { probe, warnings } = played(tells('9.0.0'), (accelerator, cpu) =>
      accelerator === 'kvm' && !cpu.includes('+avx512f') ? RUNS : { code: 1, errors: 'not supported' },
    )
    expect(await probe()).toEqual({ version: '9.0.0', accelerator: 'kvm', cpu: { family: 'KVM Intel', level: 3 } })
    expect(warnings).toEqual([])
  })
})

describe('the hypervisor’s word of a host', () => {
  async function capabilities(install: (sim: Simulation) => void): Promise<Capabilities> {
    const sim = new Simulation({ seed: 'probe' })
    install(sim)
    let said: Capabilities | null = null
    sim.program('agent', async env => {
      const options = { env, mayExecute: () => true, until: () => 0, evidence: () => undefined }
      const hypervisor = new QemuHypervisor(options, { start: async (_vm, spec) => env.processes.command(spec) })
      said = await hypervisor.probe()
    })
    sim.host('host-a').spawn('agent', 'host-a/agent')
    await sim.runUntil(() => said !== null, 60_000)
    return said as unknown as Capabilities
  }

  const unavailable = { kind: 'qemu', available: false }

  it('is that line, where QEMU is not installed', async () => {
    const { why, ...rest } = await capabilities(() => undefined)
    expect(rest).toEqual(unavailable)
    for (const part of [/QEMU is not installed/, DEBIAN, FEDORA]) expect(why).toMatch(part)
  })

  it('is that line, where it is too old', async () => {
    const old = simulatedQemu({ pagesPerMs: () => 1, version: '5.2.0' })
    const { why, ...rest } = await capabilities(sim => sim.command(QEMU_PROGRAM, old))
    expect(rest).toEqual(unavailable)
    for (const part of [/QEMU 5\.2 is here, and 7\.2 is needed/, DEBIAN, FEDORA]) expect(why).toMatch(part)
  })

  it('is what it gives its machines, where it works', async () => {
    const good = simulatedQemu({ pagesPerMs: () => 1 })
    const said = await capabilities(sim => sim.command(QEMU_PROGRAM, good))
    expect(said).toEqual({ kind: 'qemu', available: true, cpu: { family: 'TCG', level: 2 } })
  })
})
