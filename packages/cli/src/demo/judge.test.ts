// The judge reads what processes and the observer put on record, and finds what they did wrong.

import { TraceFileWriter } from '@stellwerk/protocol/trace/file-writer.ts'
import type { Json, TraceEvent, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { makeScratchDirectory, removeScratchDirectory } from '@stellwerk/runtime/node/scratch-directory.ts'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { filesOf } from '../cluster/directory.ts'
import { judge } from './judge.ts'

let directory = ''
beforeEach(async () => {
  directory = await makeScratchDirectory('stellwerk-judge-')
})
afterEach(() => removeScratchDirectory(directory))

const PROCESS = 'host-a/agent'

/** What the agent of host-a records. */
async function recorded(events: readonly TraceEvent[]): Promise<void> {
  const writer = new TraceFileWriter({ process: PROCESS, level: 'io' })
  const env = createEnvironment({
    name: PROCESS,
    directory: `${directory}/${PROCESS}`,
    store: memoryStore(),
    logLevel: 'error',
    traceWriter: writer,
  })
  writer.attach(env)
  env.trace.emit({ level: 'message', kind: 'lease.granted', host: 'host-a', body: { epoch: 1, leaseMs: 3_000 } })
  for (const event of events) env.trace.emit(event)
  await writer.close()
  await env.close()
}

function ofGuest(kind: string, body: { readonly [key: string]: Json }): TraceEvent {
  return { level: 'io', kind, vm: 'web', host: 'host-a', body }
}

function heard(...entries: readonly number[]): TraceRecord[] {
  return entries.map((entry, i) => ({
    ...ofGuest('guest.acknowledged', { entry }),
    hlc: { wallMs: 1_000 + i, counter: 0 },
    at: i,
    process: 'observer',
    seq: i + 1,
  }))
}

async function broken(observed: readonly TraceRecord[]): Promise<string[]> {
  const files = filesOf(directory)
  const { violations } = await judge({ files, processes: [PROCESS], observed, leaseMs: 3_000 })
  return violations.map(({ rule }) => rule)
}

test('a guest that runs and is heard breaks nothing; what its host says it acknowledged is not asked', async () => {
  await recorded([
    ofGuest('vm.run', { epoch: 1, instance: 'i', how: 'start' }),
    ofGuest('guest.step', { epoch: 1, instance: 'i' }),
    ofGuest('guest.acknowledged', { entry: 1 }),
    ofGuest('guest.acknowledged', { entry: 1 }),
  ])
  expect(await broken(heard(1, 2, 3))).toEqual([])
})

test('a line that was not heard is forgiven, an entry heard twice is not', async () => {
  await recorded([])
  expect(await broken(heard(1, 2, 5))).toEqual([])
  expect(await broken(heard(1, 2, 2))).toEqual(['VM2'])
})

test('a guest that executes after it was halted breaks VM1', async () => {
  await recorded([
    ofGuest('vm.run', { epoch: 1, instance: 'i', how: 'start' }),
    ofGuest('guest.step', { epoch: 1, instance: 'i' }),
    ofGuest('vm.halt', { epoch: 1, instance: 'i', how: 'frozen' }),
    ofGuest('guest.step', { epoch: 1, instance: 'i' }),
  ])
  expect(await broken([])).toEqual(['VM1'])
})
