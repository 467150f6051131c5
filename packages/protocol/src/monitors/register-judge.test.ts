// IO1, one sector: the streaming judge must agree with the search of linearizability.ts on every history, and that
// search must give the known verdicts of 102 recorded histories.

import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isLinearizable, type Model, type Operation, REFUSED, type RegisterCall, register } from './linearizability.ts'
import { RegisterJudge, type RegisterOp } from './register-judge.ts'

// --- the 102 histories -----------------------------------------------------------------------------------------------

type HistoryEvent = readonly [process: number, event: string, kind: 'read' | 'write' | 'cas', value: unknown]

interface RecordedHistory {
  readonly id: string
  readonly linearizable: boolean
  readonly events: readonly HistoryEvent[]
}

function toOperations(events: readonly HistoryEvent[]): Operation<RegisterCall<unknown>>[] {
  const operations: { call: RegisterCall<unknown>; invoked: number; returned: number | null; failed: boolean }[] = []
  const open = new Map<number, number>()
  for (const [at, [process, event, kind, value]] of events.entries()) {
    if (event === 'invoke') {
      open.set(process, operations.length)
      const call: RegisterCall<unknown> =
        kind === 'cas'
          ? { kind, expected: (value as unknown[])[0], value: (value as unknown[])[1] }
          : { kind, value: kind === 'read' ? undefined : value }
      operations.push({ call, invoked: at, returned: null, failed: false })
      continue
    }
    const operation = operations[open.get(process)!]!
    open.delete(process)
    if (event === 'ok') {
      operation.returned = at
      if (kind === 'read') operation.call = { kind, value }
    } else operation.failed = event === 'fail'
  }
  return operations.filter(each => !each.failed)
}

describe('IO1: known verdicts', () => {
  const url = new URL('./data/register-histories.json', import.meta.url)
  const { histories } = JSON.parse(readFileSync(url, 'utf8')) as { histories: readonly RecordedHistory[] }

  test('there are 102 histories, 23 of them linearizable', () => {
    expect(histories.length).toBe(102)
    expect(histories.filter(each => each.linearizable).length).toBe(23)
  })

  test.each(histories.map(each => [each.id, each] as const))('%s', (_id, history) => {
    expect(isLinearizable(toOperations(history.events), register<unknown>(null))).toBe(history.linearizable)
  })
})

// --- the streaming judge against the search --------------------------------------------------------------------------

interface Drawn {
  readonly op: RegisterOp
  readonly value: number
  readonly invoked: number
  readonly completed: number
  readonly outcome: 'ok' | 'fail' | 'lost' | 'pending'
}

/** A sector with trims: value × 2, plus 1 while it reads as its value or zero. */
const sector: Model<number, { op: RegisterOp; value: number }> = {
  initial: 0,
  apply(state, { op, value }) {
    if (op === 'write') return value * 2
    if (op === 'trim') return state | 1
    return state >> 1 === value || ((state & 1) === 1 && value === 0) ? state : REFUSED
  },
  isRead: ({ op }) => op === 'read',
}

function bySearch(drawn: readonly Drawn[]): boolean {
  const kept = drawn.filter(each => each.outcome !== 'fail')
  return isLinearizable(
    kept.map(({ op, value, invoked, completed, outcome }) => ({
      call: { op, value },
      invoked,
      returned: outcome === 'ok' ? completed : null,
    })),
    sector,
  )
}

function byJudge(drawn: readonly Drawn[]): boolean {
  const judge = new RegisterJudge([0])
  const events: { at: number; run: () => boolean }[] = []
  for (const each of drawn) {
    if (each.op === 'read' && each.outcome !== 'ok') continue
    const { op, value, invoked, completed, outcome } = each
    const invoke = () => {
      judge.invoke(each, op, value, invoked)
      return true
    }
    events.push({ at: invoked, run: invoke })
    if (outcome === 'ok') events.push({ at: completed, run: () => judge.complete(each, completed) })
    if (outcome === 'fail') events.push({ at: completed, run: () => judge.fail(each) })
    if (outcome === 'lost') {
      const lose = () => {
        judge.lose(each)
        return true
      }
      events.push({ at: completed, run: lose })
    }
  }
  events.sort((a, b) => a.at - b.at)
  for (const { run } of events) if (!run()) return false
  expect(judge.givenUp).toBe(false)
  return true
}

/** Intervals drawn at random; a read's value is drawn too, so about half of the histories are wrong. */
const anyHistory = (values: number, operations: number) =>
  fc
    .array(
      fc.record({
        op: fc.constantFrom<RegisterOp>('read', 'read', 'read', 'write', 'write', 'write', 'trim'),
        value: fc.integer({ min: 0, max: values }),
        start: fc.integer({ min: 0, max: 3 * operations }),
        length: fc.integer({ min: 1, max: operations }),
        outcome: fc.constantFrom<Drawn['outcome']>('ok', 'ok', 'ok', 'ok', 'ok', 'fail', 'lost', 'pending'),
      }),
      { minLength: 1, maxLength: operations },
    )
    .map(all =>
      all.map(({ op, value, start, length, outcome }, index): Drawn => {
        const at = start + index / 1000
        return { op, value: op === 'trim' ? 0 : value, invoked: at, completed: at + length + 0.0005, outcome }
      }),
    )

/** A real register served by random instants within each request: linearizable by construction. */
const trueHistory = (operations: number) =>
  anyHistory(operations, operations).chain(drawn =>
    fc
      .array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: drawn.length, maxLength: drawn.length })
      .map(spots => {
        const effects = drawn.map((each, index) => ({
          index,
          at: each.invoked + (each.completed - each.invoked) * (each.outcome === 'lost' ? 20 : 1) * spots[index]!,
        }))
        effects.sort((a, b) => a.at - b.at)
        const out = [...drawn]
        let value = 0
        for (const { index } of effects) {
          const each = drawn[index]!
          // Writes name themselves, but every fourth writes what others write too.
          const own = index % 4 === 0 ? 1 : index + 2
          if (each.outcome === 'fail') continue
          if (each.op === 'write') {
            value = own
            out[index] = { ...each, value }
          } else if (each.op === 'trim') value = index % 2 === 0 ? 0 : value
          else out[index] = { ...each, value }
        }
        return out
      }),
  )

describe('IO1: one sector', () => {
  test('the streaming judge agrees with the search on histories of all kinds', () => {
    let accepted = 0
    let rejected = 0
    for (const [values, operations] of [
      [1, 6],
      [2, 8],
      [3, 12],
    ] as const) {
      fc.assert(
        fc.property(anyHistory(values, operations), drawn => {
          const verdict = bySearch(drawn)
          if (verdict) accepted++
          else rejected++
          expect(byJudge(drawn)).toBe(verdict)
        }),
        { numRuns: 8_000, seed: 11 },
      )
    }
    // Both verdicts must really occur.
    expect(accepted).toBeGreaterThan(3_000)
    expect(rejected).toBeGreaterThan(3_000)
  })

  test('a write slips in before a trim only if no read after the trim has seen the value before', () => {
    const judge = (seen: number): boolean => {
      const register = new RegisterJudge([1])
      register.invoke('write', 'write', 4, 1)
      register.invoke('trim', 'trim', 0, 2)
      if (!register.complete('trim', 3)) return false
      register.invoke('read', 'read', seen, 4)
      if (!register.complete('read', 5) || !register.complete('write', 6)) return false
      register.invoke('last', 'read', 0, 7)
      return register.complete('last', 8)
    }
    // 1: the write came after the trim, so zero is gone. 0 or 4: it may have come before.
    expect([1, 0, 4, 7].map(judge)).toEqual([false, true, true, false])
  })

  test('histories of a real register are accepted', () => {
    fc.assert(
      fc.property(trueHistory(14), drawn => {
        expect(bySearch(drawn)).toBe(true)
        expect(byJudge(drawn)).toBe(true)
      }),
      { numRuns: 5_000, seed: 12 },
    )
  })

  test('a read changed to what was never written is rejected', () => {
    let changed = 0
    fc.assert(
      fc.property(trueHistory(14), fc.nat(), (drawn, pick) => {
        const reads = drawn.filter(each => each.op === 'read' && each.outcome === 'ok')
        const victim = reads[pick % Math.max(1, reads.length)]
        if (victim === undefined) return
        changed++
        expect(byJudge(drawn.map(each => (each === victim ? { ...each, value: 999 } : each)))).toBe(false)
      }),
      { numRuns: 2_000, seed: 13 },
    )
    expect(changed).toBeGreaterThan(1_000)
  })

  test('a read changed to any other value gets the verdict of the search', () => {
    fc.assert(
      fc.property(trueHistory(10), fc.nat(), fc.nat(12), (drawn, pick, value) => {
        const reads = drawn.filter(each => each.op === 'read' && each.outcome === 'ok')
        const victim = reads[pick % Math.max(1, reads.length)]
        const mutated = drawn.map(each => (each === victim ? { ...each, value } : each))
        expect(byJudge(mutated)).toBe(bySearch(mutated))
      }),
      { numRuns: 5_000, seed: 14 },
    )
  })

  test('many unknown writes: past the bound their values may come again, nothing else may', () => {
    const judge = new RegisterJudge([0])
    for (let value = 1; value <= 50; value++) {
      judge.invoke(value, 'write', value, value)
      judge.lose(value)
    }
    const read = (value: number, now: number): boolean => {
      const key = `read ${now}`
      judge.invoke(key, 'read', value, now)
      return judge.complete(key, now)
    }
    expect(read(7, 100)).toBe(true)
    expect(read(45, 101)).toBe(true)
    expect(judge.givenUp).toBe(false)
    expect(read(45, 102)).toBe(true)
    expect(read(51, 103)).toBe(false)
  })

  test('more concurrent writes than it has room for: it gives up and says so', () => {
    const judge = new RegisterJudge([0])
    for (let value = 1; value <= 31; value++) judge.invoke(value, 'write', value, value)
    expect(judge.givenUp).toBe(true)
    expect(judge.settled()).toBe(null)
  })

  test('30 concurrent writes are judged', () => {
    const judge = new RegisterJudge([0])
    for (let value = 1; value <= 29; value++) judge.invoke(value, 'write', value, value)
    for (let value = 1; value <= 29; value++) expect(judge.complete(value, 100 + value)).toBe(true)
    judge.invoke('read', 'read', 3, 200)
    expect(judge.complete('read', 201)).toBe(true)
    judge.invoke('again', 'read', 4, 202)
    expect(judge.complete('again', 203)).toBe(false)
  })
})
