// What every hypervisor must do, as one suite of tests run by each implementation on its own kind of world.

import type { Environment, TraceEvent } from '@stellwerk/runtime/environment.ts'
import { errorCode } from '@stellwerk/runtime/errors.ts'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { checkEntry, LOG_START, ledgerTag, unitOffset, unitsOf } from '../../guests/ledger-format.ts'
import type {
  Commit,
  Hypervisor,
  Machine,
  MachineEvent,
  MachineSpec,
  MigrationPolicy,
  RoundProgress,
} from '../hypervisor.ts'
import type { HypervisorOptions } from '../options.ts'
import { MemoryDisk } from './memory-disk.ts'
import { changed, slowed } from './streams.ts'

export interface ContractWorld {
  readonly env: Environment
  /** Lets time pass until the predicate holds; says whether it did within the limit. */
  until(predicate: () => boolean, limitMs: number): Promise<boolean>
  close(): Promise<void>
}

export interface ContractSubject {
  readonly name: string
  open(): Promise<ContractWorld>
  hypervisor(options: HypervisorOptions): Hypervisor
  /** A self-checking guest of this hypervisor: moderately busy, or dirtying memory as fast as it can. */
  spec(vm: string, load: 'moderate' | 'heavy'): MachineSpec
  /** A link this slow (bytes/ms) cannot keep up with the heavy guest. */
  readonly hopelessBytesPerMs: number
}

const POLICY: MigrationPolicy = { downtimeMs: 100, maxRounds: 10, whenDiverging: 'abort' }
const DISK_BYTES = 4 << 20
const LIMIT_MS = 20_000

/** A machine with what it said. */
interface Watched {
  readonly machine: Machine
  readonly lines: string[]
  readonly events: MachineEvent[]
  readonly acks: number[]
}

function watch(machine: Machine): Watched {
  const watched: Watched = { machine, lines: [], events: [], acks: [] }
  machine.onEvent(event => {
    watched.events.push(event)
    if (event.kind !== 'console') return
    watched.lines.push(event.line)
    if (event.line.startsWith('ack ')) watched.acks.push(Number(event.line.slice(4)))
  })
  return watched
}

/** How many entries stand on the disk, each once and in order. */
function entriesOn(disk: MemoryDisk, vm: string): number {
  let entries = 0
  let previous = 0
  for (;;) {
    const start = LOG_START + unitOffset(entries + 1) * 512
    const bytes = disk.bytes.subarray(start, start + unitsOf(entries + 1) * 512)
    const crc = checkEntry(bytes, entries + 1, ledgerTag(vm), previous)
    if (crc === null) return entries
    entries++
    previous = crc
  }
}

function consecutive(numbers: readonly number[]): boolean {
  return numbers.every((number, n) => n === 0 || number === numbers[n - 1]! + 1)
}

export function hypervisorContract(subject: ContractSubject): void {
  describe(`a hypervisor: ${subject.name}`, () => {
    let world: ContractWorld
    let hypervisor: Hypervisor
    let disk: MemoryDisk
    let allowed: boolean
    let evidence: TraceEvent[]
    const machines: Machine[] = []

    beforeEach(async () => {
      world = await subject.open()
      allowed = true
      evidence = []
      disk = new MemoryDisk(world.env.timers, DISK_BYTES)
      hypervisor = subject.hypervisor({
        env: world.env,
        mayExecute: () => allowed,
        evidence: event => evidence.push(event),
      })
    })

    afterEach(async () => {
      disk.failing = null
      disk.go()
      await settle(Promise.all(machines.splice(0).map(machine => machine.kill())))
      await world.close()
    })

    async function until(what: string, predicate: () => boolean): Promise<void> {
      if (!(await world.until(predicate, LIMIT_MS))) throw new Error(`did not happen in time: ${what}`)
    }

    async function settle<T>(promise: Promise<T>): Promise<T> {
      let settled = false
      const done = (): void => {
        settled = true
      }
      promise.then(done, done)
      await until('a promise settles', () => settled)
      return promise
    }

    /** How it ends, without waiting for it: only one at a time may let time pass. */
    function outcome(promise: Promise<unknown>): Promise<string> {
      return promise.then(
        () => 'no failure',
        error => errorCode(error),
      )
    }

    const failure = (promise: Promise<unknown>): Promise<string> => settle(outcome(promise))

    const pass = (ms: number) => world.until(() => false, ms)

    async function create(vm = 'vm-1', load: 'moderate' | 'heavy' = 'moderate'): Promise<Watched> {
      const watched = watch(await settle(hypervisor.create(subject.spec(vm, load), [disk], [])))
      machines.push(watched.machine)
      return watched
    }

    async function running(acks = 5, load: 'moderate' | 'heavy' = 'moderate'): Promise<Watched> {
      const watched = await create('vm-1', load)
      watched.machine.start()
      await until(`${acks} entries are acknowledged`, () => watched.acks.length >= acks)
      return watched
    }

    const commit = (vm = 'vm-1'): Commit => ({ migration: 'm-1', vm, placementEpoch: 7 })

    const receive = (load: 'moderate' | 'heavy' = 'moderate') =>
      settle(hypervisor.receive(subject.spec('vm-1', load), [disk], []))

    test('says what it can do', async () => {
      expect(await settle(hypervisor.probe())).toMatchObject({ available: true })
    })

    test('a created machine executes nothing before it is started', async () => {
      const { machine, lines } = await create()
      await pass(200)
      expect(machine.state).toBe('paused')
      expect(lines).toEqual([])
      expect(evidence).toEqual([])
    })

    test('a fresh guest boots, finds an empty log, and acknowledges entries in order, each on the disk before', async () => {
      const watched = await create()
      const missing: number[] = []
      watched.machine.onEvent(event => {
        if (event.kind !== 'console' || !event.line.startsWith('ack ')) return
        if (entriesOn(disk, 'vm-1') < Number(event.line.slice(4))) missing.push(Number(event.line.slice(4)))
      })
      watched.machine.start()
      expect(watched.machine.state).toBe('running')
      await until('ten entries', () => watched.acks.length >= 10)
      expect(watched.lines.slice(0, 2)).toEqual(['boot', 'recovered 0 intact'])
      expect(watched.acks[0]).toBe(1)
      expect(consecutive(watched.acks)).toBe(true)
      expect(missing).toEqual([])
      expect(evidence[0]).toMatchObject({
        level: 'io',
        kind: 'guest.step',
        vm: 'vm-1',
        body: { epoch: 3, instance: 'i-1' },
      })
    })

    test('a frozen guest executes nothing until it is thawed, then goes on', async () => {
      const { machine, lines, acks } = await running()
      await settle(machine.freeze('test'))
      expect(machine.state).toBe('frozen')
      const [said, steps] = [lines.length, evidence.length]
      await pass(300)
      expect([lines.length, evidence.length]).toEqual([said, steps])
      machine.thaw()
      expect(machine.state).toBe('running')
      await until('more entries', () => acks.length >= 15)
      expect(consecutive(acks)).toBe(true)
      expect(lines.filter(line => line === 'boot')).toHaveLength(1)
    })

    test('a completion that arrives while frozen is heard of only after the thaw', async () => {
      const { machine, acks } = await running()
      disk.hold()
      await until('a request is in flight', () => disk.inFlight > 0)
      await settle(machine.freeze('test'))
      const said = acks.length
      disk.go()
      await until('the disk is done', () => disk.inFlight === 0)
      await pass(100)
      expect(acks.length).toBe(said)
      machine.thaw()
      await until('it is acknowledged', () => acks.length > said)
      expect(consecutive(acks)).toBe(true)
    })

    test('FEN2: without the right to execute there is no step and no word, until a thaw with the right', async () => {
      const { machine, lines, acks, events } = await running()
      allowed = false
      await until('it froze by itself', () => events.some(event => event.kind === 'frozen'))
      expect(machine.state).toBe('frozen')
      const [said, steps] = [lines.length, evidence.length]
      await pass(300)
      expect([lines.length, evidence.length]).toEqual([said, steps])
      allowed = true
      await pass(100)
      expect(lines.length).toBe(said)
      machine.thaw()
      await until('it goes on', () => acks.length >= 15)
      expect(consecutive(acks)).toBe(true)
    })

    test('FEN2: a machine started without the right says nothing and touches no disk', async () => {
      allowed = false
      const { machine, lines } = await create()
      machine.start()
      await until('it froze by itself', () => machine.state === 'frozen')
      await pass(100)
      expect(lines).toEqual([])
      expect(evidence).toEqual([])
      expect(disk.taken).toMatchObject({ read: 0, write: 0 })
    })

    test('kill waits for requests in flight; nothing is said or written after', async () => {
      const { machine, lines } = await running()
      disk.hold()
      await until('a request is in flight', () => disk.inFlight > 0)
      let dead = false
      const killed = machine.kill().then(proof => {
        dead = true
        return proof
      })
      await pass(100)
      expect(machine.state).toBe('dead')
      expect(dead).toBe(false)
      const said = lines.length
      disk.go()
      expect(await settle(killed)).toEqual({ vm: 'vm-1' })
      expect(disk.inFlight).toBe(0)
      const { write } = disk.taken
      await pass(200)
      expect(lines.length).toBe(said)
      expect(disk.taken.write).toBe(write)
      expect(await settle(machine.kill())).toEqual({ vm: 'vm-1' })
    })

    test('VM2: after a kill the next life finds every acknowledged entry and continues behind', async () => {
      const first = await running(12)
      await settle(first.machine.kill())
      const last = first.acks.at(-1)!
      const second = await create()
      second.machine.start()
      await until('it goes on', () => second.acks.length >= 3)
      const recovered = /^recovered (\d+) intact$/.exec(second.lines[1] ?? '')
      expect(Number(recovered?.[1])).toBeGreaterThanOrEqual(last)
      expect(second.acks[0]).toBe(Number(recovered?.[1]) + 1)
    })

    test('a lost entry is found at boot', async () => {
      const first = await running(12)
      await settle(first.machine.kill())
      disk.bytes.fill(0, LOG_START + unitOffset(8) * 512, LOG_START + (unitOffset(8) + 1) * 512)
      const second = await create()
      second.machine.start()
      await until('it has recovered', () => second.lines.length >= 2)
      expect(second.lines[1]).toMatch(/^recovered 7 damaged /)
    })

    test('an entry torn by the death of its writer is no damage', async () => {
      const first = await running(12)
      await settle(first.machine.kill())
      // Number 9 has two sectors: the first of them is there, everything behind is not.
      disk.bytes.fill(0, LOG_START + (unitOffset(9) + 1) * 512)
      const second = await create()
      second.machine.start()
      await until('it goes on', () => second.acks.length >= 3)
      expect(second.lines[1]).toBe('recovered 8 intact')
      expect(second.acks[0]).toBe(9)
    })

    test('a failed write is tried again until it succeeds, and acknowledged once', async () => {
      const { lines, acks } = await running()
      disk.failing = 'write'
      await until('it complains', () => lines.some(line => line.startsWith('disk error')))
      disk.failing = null
      await until('it goes on', () => acks.length >= 15)
      expect(consecutive(acks)).toBe(true)
      expect(entriesOn(disk, 'vm-1')).toBeGreaterThanOrEqual(15)
    })

    test('answers on its console', async () => {
      const { machine, lines } = await running()
      machine.input('status')
      await until('it answers', () => lines.some(line => line.startsWith('status entries ')))
    })

    test('a guest that ends by itself is dead and says why', async () => {
      const { machine, events } = await running()
      machine.input('halt')
      await until('it halted', () => events.some(event => event.kind === 'halted'))
      expect(machine.state).toBe('dead')
      expect(await settle(machine.kill())).toEqual({ vm: 'vm-1' })
    })

    test('a guest that breaks its machine crashes, alone', async () => {
      const { machine, events, lines } = await running()
      machine.input('crash')
      await until('it crashed', () => events.some(event => event.kind === 'crashed'))
      expect(machine.state).toBe('dead')
      const said = lines.length
      await pass(200)
      expect(lines.length).toBe(said)
      await settle(machine.kill())
    })

    test('MIG3 VM2: a busy guest moves with its state exactly, and its ledger goes on without a gap or a double', async () => {
      const source = await running(5, 'heavy')
      const incoming = await receive('heavy')
      const outgoing = source.machine.send({ ...POLICY, whenDiverging: 'pause' })
      const rounds: RoundProgress[] = []
      outgoing.onProgress(progress => rounds.push(progress))
      const loading = incoming.load(outgoing.stream)
      await settle(outgoing.converged)
      let inFlightAtTrailer = -1
      const released = await settle(
        outgoing.release(async () => {
          inFlightAtTrailer = disk.inFlight
          return { generation: 4 }
        }),
      )
      expect(source.machine.state).toBe('frozen')
      const [steps, said] = [evidence.length, source.lines.length]
      const loaded = await settle(loading)
      expect(inFlightAtTrailer).toBe(0)
      expect(loaded.stateChecksum).toBe(released.stateChecksum)
      expect(loaded.trailer).toEqual({ generation: 4 })
      expect(rounds.length).toBeGreaterThanOrEqual(1)
      // The last round, and perhaps one that the release cut short.
      expect(released.rounds - rounds.length).toBeOneOf([1, 2])
      await pass(100)
      expect([evidence.length, source.lines.length]).toEqual([steps, said])

      const target = watch(await settle(incoming.run(commit())))
      machines.push(target.machine)
      await until('it goes on there', () => target.acks.length >= 10)
      expect(target.acks[0]).toBe(source.acks.at(-1)! + 1)
      expect(consecutive(target.acks)).toBe(true)
      expect(target.lines.filter(line => /damaged|boot|recovered/.test(line))).toEqual([])
      expect(source.lines.length).toBe(said)
      expect(evidence.at(-1)).toMatchObject({ body: { epoch: 7 } })
      await settle(source.machine.kill())
      await settle(target.machine.kill())
      expect(entriesOn(disk, 'vm-1')).toBeGreaterThanOrEqual(target.acks.at(-1)!)
    })

    test('MIG1: what was received runs only against a commit for it, and only whole', async () => {
      const source = await running()
      const incoming = await receive()
      expect(await failure(incoming.run(commit()))).toBe('bad-migration-state')
      const outgoing = source.machine.send(POLICY)
      const loading = incoming.load(outgoing.stream)
      await settle(outgoing.converged)
      expect(await failure(incoming.run(commit()))).toBe('bad-migration-state')
      await settle(outgoing.release(async () => null))
      await settle(loading)
      const [steps, writes] = [evidence.length, disk.taken.write]
      await pass(200)
      expect([evidence.length, disk.taken.write]).toEqual([steps, writes])
      expect(await failure(incoming.run(commit('vm-2')))).toBe('wrong-commit')
      await settle(incoming.discard())
      expect(await failure(incoming.run(commit()))).toBe('bad-migration-state')
      await settle(outgoing.abort())
    })

    for (const phase of ['at once', 'in the rounds', 'converged', 'released', 'loaded'] as const) {
      test(`MIG2: aborted ${phase}, the source runs on unchanged`, async () => {
        const source = await running(5, 'heavy')
        const incoming = await receive('heavy')
        const outgoing = source.machine.send({ ...POLICY, whenDiverging: 'pause' })
        let rounds = 0
        outgoing.onProgress(() => rounds++)
        const loading = incoming.load(outgoing.stream)
        loading.catch(() => undefined)
        let releasedChecksum: number | null = null
        if (phase === 'in the rounds') await until('a round', () => rounds >= 1)
        if (phase === 'converged') await settle(outgoing.converged)
        if (phase === 'released' || phase === 'loaded') {
          await settle(outgoing.converged)
          releasedChecksum = (await settle(outgoing.release(async () => 'trailer'))).stateChecksum
          if (phase === 'loaded') await settle(loading)
        }
        const resumedWith: number[] = []
        const steps = evidence.length
        await settle(
          outgoing.abort(checksum => {
            expect(evidence.length).toBe(steps)
            resumedWith.push(checksum)
          }),
        )
        expect(resumedWith).toEqual(releasedChecksum === null ? [] : [releasedChecksum])
        await settle(incoming.discard())
        expect(source.machine.state).toBe('running')
        const acknowledged = source.acks.length
        await until('it goes on', () => source.acks.length >= acknowledged + 10)
        expect(consecutive(source.acks)).toBe(true)
        expect(source.lines.filter(line => /damaged/.test(line))).toEqual([])
        if (phase !== 'loaded') expect(await failure(outgoing.release(async () => null))).not.toBe('no failure')
        // Nothing of the aborted one stands in the way of the next.
        const again = await receive('heavy')
        const second = source.machine.send({ ...POLICY, whenDiverging: 'pause' })
        const secondLoading = again.load(second.stream)
        await settle(second.converged)
        const released = await settle(second.release(async () => null))
        expect((await settle(secondLoading)).stateChecksum).toBe(released.stateChecksum)
        await settle(again.discard())
      })
    }

    test('MIG2: a release that waits for a held disk can be aborted, and a frozen machine stays frozen', async () => {
      const source = await running()
      const outgoing = source.machine.send(POLICY)
      outgoing.stream.onData(() => undefined)
      await settle(outgoing.converged)
      disk.hold()
      await until('a request is in flight', () => disk.inFlight > 0)
      const release = outcome(outgoing.release(async () => null))
      await pass(100)
      await settle(source.machine.freeze('test'))
      await settle(outgoing.abort())
      expect(source.machine.state).toBe('frozen')
      disk.go()
      expect(await settle(release)).toBe('aborted')
      source.machine.thaw()
      const acknowledged = source.acks.length
      await until('it goes on', () => source.acks.length >= acknowledged + 5)
      expect(consecutive(source.acks)).toBe(true)
    })

    test('a trailer that cannot be made durable fails the release, and the source can go on', async () => {
      const source = await running()
      const incoming = await receive()
      const outgoing = source.machine.send(POLICY)
      const loading = outcome(incoming.load(outgoing.stream))
      await settle(outgoing.converged)
      const release = outgoing.release(() => Promise.reject(new Error('disk full')))
      await expect(settle(release)).rejects.toThrow('disk full')
      await settle(outgoing.abort())
      expect(await settle(loading)).toBe('stream-lost')
      const acknowledged = source.acks.length
      await until('it goes on', () => source.acks.length >= acknowledged + 5)
    })

    test('a stream damaged anywhere is refused', async () => {
      const source = await running()
      for (const at of [3, 17, 40, 52, 60, 5000, 40_000]) {
        const incoming = await receive()
        const outgoing = source.machine.send(POLICY)
        const damaged = changed(outgoing.stream, (chunk, from) => {
          if (at < from || at >= from + chunk.length) return chunk
          const copy = Uint8Array.from(chunk)
          copy[at - from]! ^= 0x10
          return copy
        })
        const loading = outcome(incoming.load(damaged))
        const release = outcome(outgoing.converged.then(() => outgoing.release(async () => null)))
        expect(['corrupt-data', 'stream-lost']).toContain(await settle(loading))
        expect(await failure(incoming.run(commit()))).toBe('bad-migration-state')
        await settle(outgoing.abort())
        await settle(release)
        await settle(incoming.discard())
      }
      await until('the source goes on', () => source.acks.length >= 15)
    })

    test('a stream cut short is refused', async () => {
      const source = await running()
      for (const at of [0, 20, 45, 10_000]) {
        const incoming = await receive()
        const outgoing = source.machine.send(POLICY)
        const short = changed(outgoing.stream, (chunk, from) => (from + chunk.length > at ? null : chunk))
        const loading = outcome(incoming.load(short))
        expect(await settle(loading)).toBe('stream-lost')
        await settle(outgoing.abort())
        await settle(incoming.discard())
      }
    })

    test('a guest that dirties faster than the link carries is given up or paused, as its policy says', async () => {
      const source = await running(5, 'heavy')
      const policy: MigrationPolicy = { downtimeMs: 3, maxRounds: 3, whenDiverging: 'abort' }
      const incoming = await receive('heavy')
      const outgoing = source.machine.send(policy)
      let throttled = 0
      outgoing.onProgress(progress => {
        throttled = Math.max(throttled, progress.throttle)
      })
      const slow = slowed(world.env.timers, outgoing.stream, subject.hopelessBytesPerMs)
      const loading = outcome(incoming.load(slow))
      expect(await failure(outgoing.converged)).toBe('not-converging')
      expect(throttled).toBeGreaterThan(0)
      await settle(outgoing.abort())
      expect(await settle(loading)).toBe('stream-lost')
      const acknowledged = source.acks.length
      await until('the source goes on', () => source.acks.length >= acknowledged + 5)

      const patient = await receive('heavy')
      const second = source.machine.send({ ...policy, whenDiverging: 'pause' })
      const loaded = patient.load(slowed(world.env.timers, second.stream, subject.hopelessBytesPerMs))
      await settle(second.converged)
      const released = await settle(second.release(async () => null))
      expect((await settle(loaded)).stateChecksum).toBe(released.stateChecksum)
      await settle(patient.discard())
    })

    test('a reader that stops reading stops the source, not the guest', async () => {
      const source = await running(5, 'heavy')
      const outgoing = source.machine.send(POLICY)
      let got = 0
      outgoing.stream.onData(chunk => {
        got += chunk.length
        outgoing.stream.pause()
      })
      const acknowledged = source.acks.length
      await until('the guest goes on', () => source.acks.length >= acknowledged + 10)
      expect(got).toBeLessThan(1 << 20)
      await settle(outgoing.abort())
    })

    test('the death of the source ends its stream', async () => {
      const source = await running()
      const incoming = await receive()
      const outgoing = source.machine.send(POLICY)
      const loading = outcome(incoming.load(outgoing.stream))
      await settle(outgoing.converged)
      await settle(source.machine.kill())
      expect(await settle(loading)).toBe('stream-lost')
      expect(await failure(outgoing.release(async () => null))).not.toBe('no failure')
      await settle(incoming.discard())
    })
  })
}
