import type { Timer, Timers } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { describe, expect, it } from 'vitest'
import { type FetchOptions, fetchModule } from './module-fetch.ts'
import { digestOf, missingGuest } from './module-shelf.ts'

const PIECE = 1000
const module = Uint8Array.from({ length: 4500 }, (_, i) => (i * 7) % 251)
const digest = digestOf(module)

/** Time passes at once. */
const timers: Timers = {
  after: (_ms: number, f: () => void): Timer => {
    queueMicrotask(f)
    return { cancel: () => undefined }
  },
}

type Answer = Uint8Array | StellwerkError

/** Whoever has these bytes; `answers` says what the nth question gets instead. */
function source(bytes: Uint8Array, answers: { readonly [n: number]: Answer } = {}) {
  const offsets: number[] = []
  const read: FetchOptions['read'] = async offset => {
    offsets.push(offset)
    const answer = answers[offsets.length] ?? bytes
    if (answer instanceof StellwerkError) throw answer
    return { sizeBytes: answer.length, data: answer.subarray(offset, offset + PIECE) }
  }
  return { read, offsets }
}

const lost = new StellwerkError('link-lost', 'the link is gone')
const missing = missingGuest(digest, 'it is not here')

async function fetched(
  from: ReturnType<typeof source>,
  more: Partial<FetchOptions> = {},
): Promise<{ bytes: Uint8Array | null; code: string; said: string[] }> {
  const said: string[] = []
  const options = { digest, read: from.read, timers, signal: new AbortController().signal, ...more }
  try {
    const bytes = await fetchModule({ ...options, onTrouble: why => said.push(why) })
    return { bytes, code: '', said }
  } catch (error) {
    return { bytes: null, code: (error as StellwerkError).code, said }
  }
}

describe('a module that is fetched', () => {
  it('comes in pieces, each asked for once', async () => {
    const from = source(module)
    expect((await fetched(from)).bytes).toEqual(module)
    expect(from.offsets).toEqual([0, 1000, 2000, 3000, 4000])
  })

  it('goes on where it was when the link is lost in the middle, however often', async () => {
    const from = source(module, { 3: lost, 4: lost, 5: lost, 7: lost })
    const { bytes, said } = await fetched(from)
    expect(bytes).toEqual(module)
    expect(from.offsets).toEqual([0, 1000, 2000, 2000, 2000, 2000, 3000, 3000, 4000])
    expect(said).toHaveLength(4)
  })

  it('begins anew from a coordinator that restarted without it and got it back', async () => {
    const from = source(module, { 4: lost, 5: missing, 6: missing })
    const { bytes, said } = await fetched(from)
    expect(bytes).toEqual(module)
    expect(from.offsets).toEqual([0, 1000, 2000, 3000, 3000, 0, 0, 1000, 2000, 3000, 4000])
    expect(said.at(-1)).toMatch(/it is not here/)
  })

  it('is never what was not asked for: corrupt, cut short, or another', async () => {
    const corrupt = Uint8Array.from(module)
    corrupt[2500] = 255 - (corrupt[2500] ?? 0)
    for (const wrong of [corrupt, module.subarray(0, 4499), Uint8Array.from([...module, 1]), new Uint8Array(0)]) {
      const { bytes, code } = await fetched(source(wrong))
      expect([wrong.length, bytes, code]).toEqual([wrong.length, null, 'corrupt-guest'])
    }
  })

  it('whose one piece was wrong on the way comes right the second time', async () => {
    const corrupt = Uint8Array.from(module)
    corrupt[2500] = 255 - (corrupt[2500] ?? 0)
    expect((await fetched(source(module, { 3: corrupt }))).bytes).toEqual(module)
    expect((await fetched(source(module, { 3: module.subarray(0, 2999) }))).bytes).toEqual(module)
  })

  it('of an absurd length takes no memory', async () => {
    const read: FetchOptions['read'] = async () => ({ sizeBytes: 2 ** 40, data: new Uint8Array(10) })
    expect((await fetched({ read, offsets: [] })).code).toBe('corrupt-guest')
  })

  it('is given up when nobody waits, or patience is over', async () => {
    const abort = new AbortController()
    const from = source(module, { 2: lost })
    const read: FetchOptions['read'] = offset => {
      if (from.offsets.length === 1) abort.abort()
      return from.read(offset)
    }
    const { code } = await fetched({ ...from, read }, { signal: abort.signal })
    expect(code).toBe('cancelled')
    const patient = await fetched(source(module, { 2: lost, 3: lost, 4: lost }), { patience: 3 })
    expect([patient.code, patient.said.length]).toEqual(['link-lost', 2])
  })
})
