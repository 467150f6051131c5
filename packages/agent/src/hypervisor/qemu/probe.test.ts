// The probe with the recorded answers of QEMUs of several distributions, on hosts with several processors.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { HIGHEST_LEVEL } from '@stellwerk/protocol/cpu-levels.ts'
import { describeError } from '@stellwerk/runtime/errors.ts'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { afterAll, describe, expect, it } from 'vitest'
import { cpuFeatures } from './command-line.ts'
import { probeQemu } from './probe.ts'
import { playedQemu, RECORDED_PROCESSORS, RECORDINGS } from './testing/recording.ts'

const directory = mkdtempSync(join(tmpdir(), 'probe-'))
const env = createEnvironment({ name: 'test', directory, store: memoryStore(), logLevel: 'error' })
afterAll(async () => {
  await env.close()
  rmSync(directory, { recursive: true })
})

const TOO_OLD = ['debian-11']
const USABLE = [...RECORDINGS].filter(([name]) => !TOO_OLD.includes(name))
/** The level of each processor, by the psABI and its maker's word. */
const LEVELS: { readonly [model: string]: readonly [family: string, level: number] } = {
  'Quad-Core AMD Opteron 2350': ['KVM AMD', 1],
  'AMD EPYC 7502': ['KVM AMD', 3],
  'AMD EPYC 9334': ['KVM AMD', 4],
  'Hygon C86 7185': ['KVM Hygon', 3],
  'Intel Core i7-2600': ['KVM Intel', 2],
  'Intel Xeon E5-2650 v3': ['KVM Intel', 3],
  'Intel Xeon Gold 6148': ['KVM Intel', 4],
}

describe.each([...RECORDINGS])('the QEMU of %s', (name, recording) => {
  const probed = (processor = null as Parameters<typeof playedQemu>[1]) =>
    probeQemu(env, playedQemu(recording, processor)).catch(describeError)

  it('is what it was on the machine of the recording', async () => {
    expect(await probed()).toEqual(recording.outcome)
  })

  if (TOO_OLD.includes(name)) {
    it('is refused in one line that says what to install', async () => {
      for (const processor of [null, ...RECORDED_PROCESSORS.values()]) {
        expect(await probed(processor)).toMatch(
          /^QEMU 5\.2 is here, and 7\.2 is needed .*apt install qemu-system-x86 \(Debian\), dnf install qemu-system-x86-core \(Fedora\)$/,
        )
      }
    })
    return
  }

  it.each([...RECORDED_PROCESSORS])('gives what an %s has', async (model, processor) => {
    const [family, level] = LEVELS[model] ?? []
    const { version } = recording.outcome as { version: string }
    expect(await probed(processor)).toEqual({ version, accelerator: 'kvm', cpu: { family, level } })
  })

  it('knows all features of every level, gives the level these and no others, and has more by TCG than is taken', () => {
    const all = new Set(cpuFeatures(HIGHEST_LEVEL))
    expect(
      recording.levels.map(({ on }) =>
        on
          .split(' ')
          .filter(each => all.has(each))
          .sort(),
      ),
    ).toEqual(
      // The model has three of the second level's by itself: they came with the first processors of 64 bits.
      recording.levels.map((_, i) => [...new Set([...cpuFeatures(i + 1), 'cx16', 'lahf-lm', 'pni'])].sort()),
    )
    expect(cpuFeatures(2).filter(each => !recording.tcg?.on.split(' ').includes(each))).toEqual([])
  })
})

/** A switch by which a newer QEMU does as an older machine type did. */
const AS_BEFORE = ['legacy-multi-node']

it('a level’s processor is the same in every QEMU, so that a machine may move from each to each', () => {
  const [, first] = USABLE[0] ?? []
  expect(USABLE.length).toBeGreaterThan(3)
  for (const [name, { levels, greeting }] of USABLE) {
    expect([name, levels.map(({ values }) => values)]).toEqual([name, first?.levels.map(({ values }) => values)])
    const features = levels.map(({ on }) => on.split(' ').filter(each => !AS_BEFORE.includes(each)))
    expect([name, features]).toEqual([name, first?.levels.map(({ on }) => on.split(' '))])
    expect(features.flat()).not.toContain('svm')
    expect(greeting).toMatchObject({ version: { qemu: { major: expect.any(Number) } } })
  }
})
