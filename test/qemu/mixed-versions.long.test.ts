// The contract of live migration between two QEMUs of different versions, there and back: this machine's, and that of the next
// Debian, which debootstrap puts into a directory. STELLWERK_OTHER_QEMU names another program instead.

import { execFileSync } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ContractBench } from '@stellwerk/agent/hypervisor/testing/contract-bench.ts'
import { migrationContract } from '@stellwerk/agent/hypervisor/testing/contract-migration.ts'
import { present } from '@stellwerk/runtime/assert.ts'
import type { CommandSpec } from '@stellwerk/runtime/environment.ts'
import { peer, peers } from '@stellwerk/runtime/testing/peers.ts'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { qemuSubject, TEST_MS } from './contract-subject.ts'
import { qemu } from './tiny-image.ts'

vi.setConfig({ testTimeout: TEST_MS, hookTimeout: TEST_MS })

const SUITE = 'trixie'
const named = process.env['STELLWERK_OTHER_QEMU']
const tools = peers(peer('debootstrap', 'debootstrap'))
const mayMake = named !== undefined || (!tools.missing && process.getuid?.() === 0)

const versionOf = (program: string): string =>
  present(/version (\d+\.\d+)/.exec(execFileSync(program, ['--version'], { encoding: 'utf8' }))?.[1], 'its version')

/** A script that starts the QEMU of that tree, by its own loader and with its own libraries and firmware. */
function installOther(directory: string): string {
  const root = join(directory, 'root')
  execFileSync('debootstrap', ['--variant=minbase', '--include=qemu-system-x86', SUITE, root], { stdio: 'pipe' })
  const libraries = `${root}/usr/lib/x86_64-linux-gnu`
  const firmware = ['qemu', 'seabios'].map(each => `-L ${root}/usr/share/${each}`).join(' ')
  const loader = `${libraries}/ld-linux-x86-64.so.2 --library-path ${libraries}`
  const script = join(directory, 'qemu')
  writeFileSync(script, `#!/bin/sh\nexec ${loader} ${root}/usr/bin/qemu-system-x86_64 ${firmware} "$@"\n`)
  // For the users of machines, too.
  chmodSync(directory, 0o755)
  chmodSync(script, 0o755)
  return script
}

describe.skipIf(qemu.missing || !mayMake)(`${qemu.note} and another (${named ?? `${tools.note}, for root`})`, () => {
  let directory = ''
  let other = ''

  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'other-qemu-'))
    other = named ?? installOther(directory)
  })
  afterAll(() => rmSync(directory, { recursive: true }))

  it('are of two versions', () => {
    const versions = [versionOf('qemu-system-x86_64'), versionOf(other)]
    console.log(`migrations between QEMU ${versions.join(' and ')}`)
    expect(new Set(versions).size).toBe(2)
  })

  const isTarget = ({ args }: CommandSpec): boolean => args.includes('-incoming')
  const directions: [string, (spec: CommandSpec) => string][] = [
    ['to the other', spec => (isTarget(spec) ? other : spec.program)],
    ['from the other', spec => (isTarget(spec) ? spec.program : other)],
  ]
  describe.each(directions)('%s', (name, programOf) => {
    const subject = qemuSubject(name, programOf)
    let bench: ContractBench | null = null
    beforeEach(async () => {
      bench = new ContractBench(subject, await subject.open())
    })
    afterEach(() => present(bench, 'the bench of this test').close())
    migrationContract(() => present(bench, 'the bench of this test'), subject.hopelessBytesPerEntry)
  })
})
