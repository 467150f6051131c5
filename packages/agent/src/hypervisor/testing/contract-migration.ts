// The contract of live migration: everything arrives or nothing runs, and an abort leaves the source as it was.

import type { ByteStream } from '@stellwerk/runtime/environment.ts'
import { expect, test } from 'vitest'
import type { CopyProgress, MigrationPolicy, RoundProgress } from '../hypervisor.ts'
import { PAGE_BYTES } from '../precopy/state-checksum.ts'
import { type ContractBench, consecutive } from './contract-bench.ts'
import { changed, paced } from './streams.ts'

const POLICY: MigrationPolicy = { downtimeMs: 100, maxRounds: 10, whenDiverging: 'abort' }

/** `on`: the bench of the test that runs. */
export function migrationContract(on: () => ContractBench, hopelessBytesPerEntry: number): void {
  test('MIG3 VM2: a busy guest moves with its state exactly, and its ledger goes on without a gap or a double', async () => {
    const source = await on().running(5, 'heavy')
    const incoming = await on().receive('heavy')
    const outgoing = source.machine.send({ ...POLICY, whenDiverging: 'pause' })
    const rounds: RoundProgress[] = []
    const copies: (CopyProgress | null)[] = []
    outgoing.onProgress(progress => {
      rounds.push(progress)
      copies.push(outgoing.progress())
    })
    const loading = incoming.load(outgoing.stream)
    await on().settle(outgoing.converged)
    let inFlightAtTrailer = -1
    const released = await on().settle(
      outgoing.release(async () => {
        inFlightAtTrailer = on().disk.inFlight
        return { generation: 4 }
      }),
    )
    expect(source.machine.state).toBe('frozen')
    const [steps, said] = [on().evidence.length, source.lines.length]
    const loaded = await on().settle(loading)
    expect(inFlightAtTrailer).toBe(0)
    expect(loaded.stateChecksum).toBe(released.stateChecksum)
    expect(loaded.trailer).toEqual({ generation: 4 })
    expect(rounds.length).toBeGreaterThanOrEqual(1)
    copies.forEach((copy, n) => {
      expect(copy?.leftBytes).toBe((rounds[n]?.dirtyPages ?? 0) * PAGE_BYTES)
      expect(copy?.totalBytes).toBeGreaterThan(copy?.leftBytes ?? 0)
      expect(copy?.sentBytes).toBeGreaterThan(copies[n - 1]?.sentBytes ?? 0)
    })
    expect(released.bytesSent).toBeGreaterThanOrEqual(copies.at(-1)?.sentBytes ?? 0)
    // The last round, and perhaps one that the release cut short.
    expect(released.rounds - rounds.length).toBeOneOf([1, 2])
    await on().pass(100)
    expect([on().evidence.length, source.lines.length]).toEqual([steps, said])

    const target = on().watch(await on().settle(incoming.run(on().commit())))
    await on().until('it goes on there', () => target.acks.length >= 10)
    expect(target.acks[0]).toBe(source.acks.at(-1)! + 1)
    expect(consecutive(target.acks)).toBe(true)
    expect(target.lines.filter(line => /damaged|boot|recovered/.test(line))).toEqual([])
    expect(source.lines.length).toBe(said)
    expect(on().evidence.at(-1)).toMatchObject({ body: { epoch: 7 } })
    await on().settle(source.machine.kill())
    await on().settle(target.machine.kill())
    expect(on().entriesOnDisk()).toBeGreaterThanOrEqual(target.acks.at(-1)!)
  })

  test('MIG1: what was received runs only against a commit for it, and only whole', async () => {
    const source = await on().running()
    const incoming = await on().receive()
    expect(await on().failure(incoming.run(on().commit()))).toBe('bad-migration-state')
    const outgoing = source.machine.send(POLICY)
    const loading = incoming.load(outgoing.stream)
    await on().settle(outgoing.converged)
    expect(await on().failure(incoming.run(on().commit()))).toBe('bad-migration-state')
    await on().settle(outgoing.release(async () => null))
    await on().settle(loading)
    const [steps, writes] = [on().evidence.length, on().disk.taken.write]
    await on().pass(200)
    expect([on().evidence.length, on().disk.taken.write]).toEqual([steps, writes])
    expect(await on().failure(incoming.run(on().commit('vm-2')))).toBe('wrong-commit')
    await on().settle(incoming.discard())
    expect(await on().failure(incoming.run(on().commit()))).toBe('bad-migration-state')
    await on().settle(outgoing.abort())
  })

  for (const phase of ['at once', 'in the rounds', 'converged', 'released', 'loaded'] as const) {
    test(`MIG2: aborted ${phase}, the source runs on unchanged`, async () => {
      const source = await on().running(5, 'heavy')
      const incoming = await on().receive('heavy')
      const outgoing = source.machine.send({ ...POLICY, whenDiverging: 'pause' })
      let rounds = 0
      outgoing.onProgress(() => rounds++)
      const loading = incoming.load(outgoing.stream)
      loading.catch(() => undefined)
      let releasedChecksum: number | null = null
      if (phase === 'in the rounds') await on().until('a round', () => rounds >= 1)
      if (phase === 'converged') await on().settle(outgoing.converged)
      if (phase === 'released' || phase === 'loaded') {
        await on().settle(outgoing.converged)
        releasedChecksum = (await on().settle(outgoing.release(async () => 'trailer'))).stateChecksum
        if (phase === 'loaded') await on().settle(loading)
      }
      const resumedWith: number[] = []
      const steps = on().evidence.length
      await on().settle(
        outgoing.abort(checksum => {
          expect(on().evidence.length).toBe(steps)
          resumedWith.push(checksum)
        }),
      )
      expect(resumedWith).toEqual(releasedChecksum === null ? [] : [releasedChecksum])
      await on().settle(incoming.discard())
      expect(source.machine.state).toBe('running')
      const acknowledged = source.acks.length
      await on().until('it goes on', () => source.acks.length >= acknowledged + 10)
      expect(consecutive(source.acks)).toBe(true)
      expect(source.lines.filter(line => /damaged/.test(line))).toEqual([])
      if (phase !== 'loaded') expect(await on().failure(outgoing.release(async () => null))).not.toBe('no failure')
      // Nothing of the aborted one stands in the way of the next.
      const again = await on().receive('heavy')
      const second = source.machine.send({ ...POLICY, whenDiverging: 'pause' })
      const secondLoading = again.load(second.stream)
      await on().settle(second.converged)
      const released = await on().settle(second.release(async () => null))
      expect((await on().settle(secondLoading)).stateChecksum).toBe(released.stateChecksum)
      await on().settle(again.discard())
    })
  }

  test('MIG2: a release that waits for a held disk can be aborted, and a frozen machine stays frozen', async () => {
    const source = await on().running()
    const outgoing = source.machine.send(POLICY)
    outgoing.stream.onData(() => undefined)
    await on().settle(outgoing.converged)
    on().disk.hold()
    await on().until('a request is in flight', () => on().disk.inFlight > 0)
    const release = on().outcome(outgoing.release(async () => null))
    await on().pass(100)
    await on().settle(source.machine.freeze('test'))
    await on().settle(outgoing.abort())
    expect(source.machine.state).toBe('frozen')
    on().disk.go()
    // Held up by its disk and then frozen, it may have failed before it was aborted.
    expect(await on().settle(release)).toBeOneOf(['aborted', 'stream-lost'])
    source.machine.thaw()
    const acknowledged = source.acks.length
    await on().until('it goes on', () => source.acks.length >= acknowledged + 5)
    expect(consecutive(source.acks)).toBe(true)
  })

  test('a trailer that cannot be made durable fails the release, and the source can go on', async () => {
    const source = await on().running()
    const incoming = await on().receive()
    const outgoing = source.machine.send(POLICY)
    const loading = on().outcome(incoming.load(outgoing.stream))
    await on().settle(outgoing.converged)
    const release = outgoing.release(() => Promise.reject(new Error('disk full')))
    await expect(on().settle(release)).rejects.toThrow('disk full')
    await on().settle(outgoing.abort())
    expect(await on().settle(loading)).toBe('stream-lost')
    const acknowledged = source.acks.length
    await on().until('it goes on', () => source.acks.length >= acknowledged + 5)
  })

  test('a stream damaged anywhere is refused', async () => {
    const source = await on().running()
    for (const at of [3, 17, 40, 52, 60, 5000, 40_000]) {
      const incoming = await on().receive()
      const outgoing = source.machine.send(POLICY)
      const damaged = changed(outgoing.stream, (chunk, from) => {
        if (at < from || at >= from + chunk.length) return chunk
        const copy = Uint8Array.from(chunk)
        copy[at - from]! ^= 0x10
        return copy
      })
      const loading = on().outcome(incoming.load(damaged))
      const release = on().outcome(outgoing.converged.then(() => outgoing.release(async () => null)))
      expect(['corrupt-data', 'stream-lost']).toContain(await on().settle(loading))
      expect(await on().failure(incoming.run(on().commit()))).toBe('bad-migration-state')
      await on().settle(outgoing.abort())
      await on().settle(release)
      await on().settle(incoming.discard())
    }
    await on().until('the source goes on', () => source.acks.length >= 15)
  })

  test('a stream cut short is refused', async () => {
    const source = await on().running()
    for (const at of [0, 20, 45, 10_000]) {
      const incoming = await on().receive()
      const outgoing = source.machine.send(POLICY)
      const short = changed(outgoing.stream, (chunk, from) => (from + chunk.length > at ? null : chunk))
      const loading = on().outcome(incoming.load(short))
      expect(await on().settle(loading)).toBe('stream-lost')
      await on().settle(outgoing.abort())
      await on().settle(incoming.discard())
    }
  })

  test('a guest that dirties faster than the link carries is given up or paused, as its policy says', async () => {
    const source = await on().running(5, 'heavy')
    const policy: MigrationPolicy = { downtimeMs: 3, maxRounds: 3, whenDiverging: 'abort' }
    const incoming = await on().receive('heavy')
    const outgoing = source.machine.send(policy)
    let throttled = 0
    outgoing.onProgress(progress => {
      throttled = Math.max(throttled, progress.throttle)
    })
    // Paced by what the guest does, not by the clock: a busy machine starves the guest as well as the link.
    let standing = false
    const hopeless = (stream: ByteStream): ByteStream => {
      const before = source.acks.length
      const entries = () => (standing ? Number.POSITIVE_INFINITY : source.acks.length - before)
      return paced(on().world.env.timers, stream, () => entries() * hopelessBytesPerEntry)
    }
    const slow = hopeless(outgoing.stream)
    const loading = on().outcome(incoming.load(slow))
    expect(await on().failure(outgoing.converged)).toBe('not-converging')
    expect(throttled).toBeGreaterThan(0)
    await on().settle(outgoing.abort())
    expect(await on().settle(loading)).toBe('stream-lost')
    const acknowledged = source.acks.length
    await on().until('the source goes on', () => source.acks.length >= acknowledged + 5)

    const patient = await on().receive('heavy')
    const second = source.machine.send({ ...policy, whenDiverging: 'pause' })
    const loaded = patient.load(hopeless(second.stream))
    await on().settle(second.converged)
    standing = true
    const released = await on().settle(second.release(async () => null))
    expect((await on().settle(loaded)).stateChecksum).toBe(released.stateChecksum)
    await on().settle(patient.discard())
  })

  test('a reader that stops reading stops the source, not the guest', async () => {
    const source = await on().running(5, 'heavy')
    const outgoing = source.machine.send(POLICY)
    let got = 0
    outgoing.stream.onData(chunk => {
      got += chunk.length
      outgoing.stream.pause()
    })
    const acknowledged = source.acks.length
    await on().until('the guest goes on', () => source.acks.length >= acknowledged + 10)
    expect(got).toBeLessThan(1 << 20)
    await on().settle(outgoing.abort())
  })

  test('the death of the source ends its stream', async () => {
    const source = await on().running()
    const incoming = await on().receive()
    const outgoing = source.machine.send(POLICY)
    const loading = on().outcome(incoming.load(outgoing.stream))
    await on().settle(outgoing.converged)
    await on().settle(source.machine.kill())
    expect(await on().settle(loading)).toBe('stream-lost')
    expect(await on().failure(outgoing.release(async () => null))).not.toBe('no failure')
    await on().settle(incoming.discard())
  })
}
