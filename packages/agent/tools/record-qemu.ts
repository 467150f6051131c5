// Records what a QEMU answers to what the agent asks of one: the words of the probe (probe.ts) and, by its monitor, which features
// every level's processor has there and which its accelerator can give. The recordings stand in testing/recorded/,
// and are played to it by tests. A QEMU that is not this machine's may be any program, say a script that starts it from the
// tree of another distribution. Run: node packages/agent/tools/record-qemu.ts 'DISTRIBUTION: PACKAGE' [PROGRAM] > FILE

import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { HIGHEST_LEVEL } from '@stellwerk/protocol/cpu-levels.ts'
import type { CommandExit, CommandSpec, Json } from '@stellwerk/runtime/environment.ts'
import { describeError } from '@stellwerk/runtime/errors.ts'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { cpuModel, MACHINE_TYPE } from '../src/hypervisor/qemu/command-line.ts'
import { probeQemu, QEMU_PROGRAM } from '../src/hypervisor/qemu/probe.ts'
import { type CpuProperties, keyOf, type Recording } from '../src/hypervisor/qemu/testing/recording.ts'

const [system = '', program = QEMU_PROGRAM] = process.argv.slice(2)

async function recordProbe(): Promise<Pick<Recording, 'exits' | 'outcome'>> {
  const directory = mkdtempSync(join(tmpdir(), 'record-'))
  const env = createEnvironment({ name: 'record', directory, store: memoryStore(), logLevel: 'error' })
  const exits: { [key: string]: CommandExit } = {}
  const start = async (_vm: string | null, spec: CommandSpec) => {
    const command = env.processes.command({ ...spec, program })
    const onExit = (told: (exit: CommandExit) => void): void =>
      command.onExit(exit => {
        exits[keyOf(spec.args)] = exit
        told(exit)
      })
    return { onExit, kill: () => command.kill() }
  }
  try {
    const outcome = await probeQemu(env, start).catch(describeError)
    return { exits, outcome: outcome as unknown as Json }
  } finally {
    await env.close()
    rmSync(directory, { recursive: true })
  }
}

interface Asked {
  readonly name: string
  readonly props?: { readonly [feature: string]: boolean }
}

/** The answers to `query-cpu-model-expansion`, and QEMU's greeting before them. */
async function askMonitor(models: readonly Asked[]): Promise<{ greeting: Json; answers: CpuProperties[] }> {
  const words = ['-nodefaults', '-no-user-config', '-display', 'none', '-machine', MACHINE_TYPE, '-accel', 'tcg', '-S']
  const qemu = spawn(program, [...words, '-qmp', 'stdio'], { stdio: ['pipe', 'pipe', 'inherit'] })
  const say = (execute: string, args: object = {}) =>
    qemu.stdin.write(`${JSON.stringify({ execute, arguments: args })}\n`)
  say('qmp_capabilities')
  for (const model of models) say('query-cpu-model-expansion', { type: 'full', model })
  say('quit')
  const lines: { [key: string]: Json }[] = []
  for await (const line of createInterface(qemu.stdout)) lines.push(JSON.parse(line) as { [key: string]: Json })
  const answers = lines.flatMap(({ return: value }) => {
    const { model } = (value ?? {}) as { model?: { props: { [name: string]: Json } } }
    return model === undefined ? [] : [shortened(model.props)]
  })
  return { greeting: lines[0]?.['QMP'] ?? null, answers }
}

/** Of the hundreds of features the ones that are there; QEMU repeats some of them under older names, with a `_`. */
function shortened(props: { readonly [name: string]: Json }): CpuProperties {
  const names = Object.keys(props).filter(name => !name.includes('_'))
  const values = ['vendor', 'family', 'model', 'stepping', 'level', 'xlevel', 'model-id']
  return {
    on: names
      .filter(name => props[name] === true)
      .sort()
      .join(' '),
    values: Object.fromEntries(values.map(name => [name, props[name] ?? null])),
  }
}

/** As the command line has it: `qemu64,-svm,+sse4.2,enforce`. */
function askedBy(model: string): Asked {
  const [name = '', ...features] = model.split(',').filter(word => word !== 'enforce')
  return { name, props: Object.fromEntries(features.map(feature => [feature.slice(1), feature.startsWith('+')])) }
}

const probed = await recordProbe()
const isOld = typeof probed.outcome === 'string'
const levels = Array.from({ length: HIGHEST_LEVEL }, (_, index) => askedBy(cpuModel(index + 1)))
const said = isOld ? null : await askMonitor([{ name: 'max' }, ...levels])
const recording: Recording = {
  system,
  ...probed,
  greeting: said?.greeting ?? null,
  tcg: said?.answers[0] ?? null,
  levels: said?.answers.slice(1) ?? [],
}
console.log(JSON.stringify(recording, null, 2))
