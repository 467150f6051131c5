import { canaries } from '@stellwerk/runtime/canary.ts'
import { describe, expect, it } from 'vitest'
import { Bench, CLOSED_LUN, claimOf, codeOf, kinds } from './testing.ts'

describe('epochs', () => {
  it('a host works at the admitted epoch, and at no other', () => {
    const bench = new Bench().with('a')
    expect(kinds(bench.connect('csv1', claimOf('a')).effects)).toEqual(['evidence', 'welcome'])
    expect(codeOf(bench.connect('csv1', claimOf('a', { epoch: 2 })).effects)).toBe('not-admitted')
    expect(codeOf(bench.connect('csv1', claimOf('b')).effects)).toBe('not-admitted')
    bench.order({ kind: 'admit', host: 'a', epoch: 3, term: 1 })
    expect(codeOf(bench.connect('csv1', claimOf('a')).effects)).toBe('epoch-refused')
    expect(codeOf(bench.connect('csv1', claimOf('a', { epoch: 3 })).effects)).toBe(null)
  })

  it('a fence is answered only when every connection of the host has drained', () => {
    const bench = new Bench().with('a', 'b')
    const first = bench.connect('csv1', claimOf('a'))
    const relayed = bench.connect('csv1', claimOf('a', { via: 'b' }))
    const other = bench.connect('csv1', claimOf('b'))
    const fenced = bench.order({ kind: 'fence', host: 'a', epoch: 1, term: 1 })
    expect(fenced).toMatchObject([
      { kind: 'drain', connection: first.id, refusal: { code: 'epoch-refused' } },
      { kind: 'drain', connection: relayed.id, refusal: { code: 'epoch-refused' } },
    ])
    // Durable at once, whatever becomes of the drain.
    expect(bench.store.get('host/a')).toEqual({ admitted: 1, fenced: 1 })
    expect(bench.drained(first.id)).toEqual([])
    expect(bench.drained(relayed.id)).toMatchObject([
      { kind: 'evidence', event: { kind: 'storage.fenced', host: 'a', epoch: 1, term: 1 } },
      { kind: 'answer' },
    ])
    expect(bench.state.connections.has(other.id)).toBe(true)
  })

  it('a repeated fence waits for the same drain', () => {
    const bench = new Bench().with('a')
    const { id } = bench.connect('csv1', claimOf('a'))
    bench.order({ kind: 'fence', host: 'a', epoch: 1, term: 1 })
    expect(bench.order({ kind: 'fence', host: 'a', epoch: 1, term: 1 })).toEqual([])
    expect(kinds(bench.drained(id))).toEqual(['evidence', 'answer', 'evidence', 'answer'])
  })

  it('a fence during a handshake that waits refuses it', () => {
    const bench = new Bench().with('a')
    const old = bench.connect('csv1', claimOf('a'))
    const raised = bench.connect('csv1', claimOf('a', { session: [1, 1] }))
    expect(kinds(raised.effects)).toEqual(['drain'])
    expect(bench.order({ kind: 'fence', host: 'a', epoch: 1, term: 1 })).toMatchObject([
      { kind: 'refuse', connection: raised.id, refusal: { code: 'epoch-refused' } },
    ])
    expect(kinds(bench.drained(old.id))).toEqual(['evidence', 'answer'])
    expect(bench.state.waits).toEqual([])
    expect(bench.state.connections.size).toBe(0)
  })

  it('an epoch opened during the drain of the last one waits for it at the same LUN', () => {
    const bench = new Bench().with('a')
    const old = bench.connect('csv1', claimOf('a'))
    bench.order({ kind: 'fence', host: 'a', epoch: 1, term: 1 })
    expect(bench.order({ kind: 'admit', host: 'a', epoch: 2, term: 1 })).toEqual([])
    const { effects } = bench.connect('csv1', claimOf('a', { epoch: 2, session: [2, 0] }))
    expect(effects).toEqual([])
    expect(kinds(bench.drained(old.id))).toEqual(['evidence', 'answer', 'evidence', 'answer', 'evidence', 'welcome'])
  })

  it('late and repeated orders change nothing', () => {
    const bench = new Bench().with('a')
    bench.order({ kind: 'fence', host: 'a', epoch: 1, term: 1 })
    bench.order({ kind: 'admit', host: 'a', epoch: 2, term: 1 })
    const { id } = bench.connect('csv1', claimOf('a', { epoch: 2 }))
    const before = bench.store.get('host/a')
    for (const kind of ['fence', 'admit'])
      expect(kinds(bench.order({ kind, host: 'a', epoch: 1, term: 1 }))).not.toContain('drain')
    expect(bench.store.get('host/a')).toEqual(before)
    expect(bench.state.connections.get(id)?.phase).toBe('open')
  })

  it('an admission that comes after a fence of its epoch opens nothing', () => {
    const bench = new Bench().with('a')
    bench.order({ kind: 'fence', host: 'a', epoch: 5, term: 1 })
    expect(bench.order({ kind: 'admit', host: 'a', epoch: 5, term: 1 })).toMatchObject([{ kind: 'answer' }])
    expect(codeOf(bench.connect('csv1', claimOf('a', { epoch: 5 })).effects)).toBe('epoch-refused')
  })

  it('a coordinator that was replaced is not obeyed', () => {
    const bench = new Bench().with('a')
    bench.order({ kind: 'fence', host: 'b', epoch: 1, term: 7 })
    expect(codeOf(bench.order({ kind: 'fence', host: 'a', epoch: 1, term: 6 }))).toBe('stale-term')
    expect(codeOf(bench.order({ kind: 'admit', host: 'a', epoch: 9, term: 6 }))).toBe('stale-term')
    expect(codeOf(bench.order({ kind: 'generation', lun: 'csv1', generation: 3, id: null, legs: {}, term: 6 }))).toBe(
      'stale-term',
    )
    expect(bench.store.get('term')).toBe(7)
    expect(bench.state.hosts.get('a')).toEqual({ admitted: 1, fenced: 0 })
  })
})

describe('runs of the coordinator', () => {
  const say = (bench: Bench, term: number, run: string, revision = 0) =>
    bench.order({ kind: 'coordinator', term, run, revision })

  it('a term is one run’s: another that gives it out again, or a lower one, hears so and has not taken it', () => {
    const bench = new Bench()
    expect(kinds(say(bench, 4, 'first'))).toEqual(['answer'])
    expect(kinds(say(bench, 4, 'first'))).toEqual(['answer'])
    expect(kinds(say(bench, 4, 'another', 3))).toEqual(['answer'])
    expect(kinds(say(bench, 3, 'first', 3))).toEqual(['answer'])
    expect(bench.recovered()).toMatchObject({ term: 4, run: 'first', revision: 0 })
    expect(kinds(say(bench, 5, 'next'))).toEqual(['answer'])
    expect(bench.recovered()).toMatchObject({ term: 5, run: 'next' })
  })

  it('a later run that begins with a lower revision has a copy of an earlier moment: it is refused, and its term does not count', () => {
    const bench = new Bench().with('a')
    say(bench, 4, 'first', 10)
    expect(kinds(say(bench, 4, 'first', 17))).toEqual(['answer'])
    // Late, of the same run.
    expect(kinds(say(bench, 4, 'first', 12))).toEqual(['answer'])
    expect(codeOf(say(bench, 5, 'copy', 16))).toBe('older-state')
    expect(bench.recovered()).toMatchObject({ term: 4, run: 'first', revision: 17 })
    expect(kinds(bench.order({ kind: 'fence', host: 'a', epoch: 1, term: 4 }))).toContain('answer')
    expect(kinds(say(bench, 5, 'newest', 17))).toEqual(['answer'])
    expect(codeOf(say(bench, 6, 'copy', 16))).toBe('older-state')
    expect(bench.recovered()).toMatchObject({ term: 5, run: 'newest', revision: 17 })
  })

  it('an order of a higher term is its run’s, which may say later who it is', () => {
    const bench = new Bench().with('a')
    say(bench, 1, 'first')
    bench.order({ kind: 'fence', host: 'a', epoch: 1, term: 2 })
    expect(bench.recovered()).toMatchObject({ term: 2, run: null })
    expect(kinds(say(bench, 2, 'next'))).toEqual(['answer'])
  })
})

describe('sessions', () => {
  it('a higher session drains the lower ones of its host and LUN before it is let in', () => {
    const bench = new Bench().with('a', 'b')
    const first = bench.connect('csv1', claimOf('a'))
    const second = bench.connect('csv1', claimOf('a', { via: 'b' }))
    bench.connect('csv1', claimOf('b'))
    const third = bench.connect('csv1', claimOf('a', { session: [1, 1] }))
    expect(third.effects).toMatchObject([
      { kind: 'drain', connection: first.id, refusal: { code: 'session-superseded' } },
      { kind: 'drain', connection: second.id, refusal: { code: 'session-superseded' } },
    ])
    expect(bench.store.get('session/csv1/a')).toEqual([1, 1])
    expect(bench.drained(second.id)).toEqual([])
    expect(bench.drained(first.id)).toMatchObject([
      { kind: 'evidence', event: { kind: 'storage.session', session: [1, 1] } },
      { kind: 'welcome', connection: third.id },
    ])
  })

  it('the siblings of a session share it', () => {
    const bench = new Bench().with('a', 'b')
    bench.connect('csv1', claimOf('a'))
    expect(kinds(bench.connect('csv1', claimOf('a')).effects)).toEqual(['welcome'])
    expect(kinds(bench.connect('csv1', claimOf('a', { via: 'b' })).effects)).toEqual(['welcome'])
  })

  it('a host counts the sessions of its owner connections apart from its own', () => {
    const bench = new Bench().with('a')
    const plain = bench.connect('csv1', claimOf('a', { session: [1, 5] }))
    const owner = bench.connect('csv1', claimOf('a', { session: [1, 0], owner: 1 }))
    expect(owner.effects.at(-1)).toMatchObject({ kind: 'welcome' })
    const raised = bench.connect('csv1', claimOf('a', { session: [1, 1], owner: 1 }))
    expect(raised.effects).toMatchObject([{ kind: 'drain', connection: owner.id }])
    expect(bench.drained(owner.id)).toMatchObject([
      { kind: 'evidence', event: { session: [1, 1], owner: true } },
      { kind: 'welcome' },
    ])
    expect(bench.state.connections.get(plain.id)?.phase).toBe('open')
  })

  it('a lower session is refused, also while the higher one still waits', () => {
    const bench = new Bench().with('a')
    bench.connect('csv1', claimOf('a', { session: [2, 0] }))
    expect(codeOf(bench.connect('csv1', claimOf('a', { session: [1, 9] })).effects)).toBe('session-superseded')
    bench.connect('csv1', claimOf('a', { session: [2, 1] }))
    expect(codeOf(bench.connect('csv1', claimOf('a', { session: [2, 0] })).effects)).toBe('session-superseded')
  })

  it('of two handshakes that wait, the lower one is refused by the higher one', () => {
    const bench = new Bench().with('a')
    const old = bench.connect('csv1', claimOf('a'))
    const middle = bench.connect('csv1', claimOf('a', { session: [1, 1] }))
    const newest = bench.connect('csv1', claimOf('a', { session: [1, 2] }))
    expect(newest.effects).toMatchObject([
      { kind: 'refuse', connection: middle.id, refusal: { code: 'session-superseded' } },
    ])
    expect(bench.drained(old.id)).toMatchObject([{ kind: 'evidence' }, { kind: 'welcome', connection: newest.id }])
  })

  it('sessions count within an epoch: another machine under the name of the host begins anew', () => {
    const bench = new Bench().with('a', 'b')
    const old = bench.connect('csv1', claimOf('a', { session: [7, 3] }))
    bench.connect('csv1', claimOf('b', { session: [7, 3] }))
    bench.order({ kind: 'fence', host: 'a', epoch: 1, term: 1 })
    bench.order({ kind: 'admit', host: 'a', epoch: 2, term: 1 })
    const fresh = bench.connect('csv1', claimOf('a', { epoch: 2, session: [1, 1] }))
    expect(fresh.effects).toEqual([])
    expect(kinds(bench.drained(old.id))).toContain('welcome')
    expect(bench.store.get('session/csv1/a')).toEqual([1, 1])
    expect(bench.store.get('session/csv1/b')).toEqual([7, 3])
    // The same admission again forgets nothing.
    bench.order({ kind: 'admit', host: 'a', epoch: 2, term: 1 })
    expect(codeOf(bench.connect('csv1', claimOf('a', { epoch: 2, session: [1, 0] })).effects)).toBe(
      'session-superseded',
    )
  })

  it('a handshake whose client leaves waits for nothing any more', () => {
    const bench = new Bench().with('a')
    const old = bench.connect('csv1', claimOf('a'))
    const left = bench.connect('csv1', claimOf('a', { session: [1, 1] }))
    bench.drained(left.id)
    expect(bench.state.waits).toEqual([])
    expect(bench.drained(old.id)).toEqual([])
    expect(bench.state.connections.size).toBe(0)
  })
})

describe('generations', () => {
  const raise = {
    kind: 'generation',
    lun: 'csv1',
    lunId: null,
    generation: 5,
    id: 'x',
    legs: { one: 'in-sync', two: 'stale' },
    term: 1,
  }

  it('a raise is answered when what was lower has drained; the others are told the legs', () => {
    const bench = new Bench().with('a')
    const old = bench.connect('csv1', claimOf('a'))
    expect(bench.order(raise)).toMatchObject([
      { kind: 'drain', connection: old.id, refusal: { code: 'generation-refused' } },
    ])
    const refused = bench.connect('csv1', claimOf('a', { generation: 4 })).effects[0]
    expect(refused).toMatchObject({ refusal: { message: 'generation-refused 5 {"one":"in-sync","two":"stale"}' } })
    const fresh = bench.connect('csv1', claimOf('a', { generation: 5 }))
    expect(fresh.effects).toEqual([])
    expect(bench.drained(old.id)).toMatchObject([
      { kind: 'evidence', event: { kind: 'storage.generation', generation: 5 } },
      { kind: 'answer' },
      { kind: 'welcome', connection: fresh.id },
    ])
  })

  it('the same again changes nothing; a lower one, or another of the same number, is refused', () => {
    const bench = new Bench().with('a')
    bench.order(raise)
    const { id } = bench.connect('csv1', claimOf('a', { generation: 5 }))
    expect(kinds(bench.order(raise))).toEqual(['evidence', 'answer'])
    expect(codeOf(bench.order({ ...raise, generation: 4 }))).toBe('generation-refused')
    expect(codeOf(bench.order({ ...raise, id: 'y' }))).toBe('generation-refused')
    expect(codeOf(bench.order({ ...raise, legs: { one: 'stale', two: 'in-sync' } }))).toBe('generation-refused')
    expect(bench.state.connections.get(id)?.phase).toBe('open')
  })
})

describe('owners', () => {
  it('a higher owner epoch drains the lower ones, and leaves the hosts own connections alone', () => {
    const bench = new Bench().with('a', 'b')
    const plain = bench.connect('csv1', claimOf('a'))
    const owner = bench.connect('csv1', claimOf('a', { owner: 3 }))
    const next = bench.connect('csv1', claimOf('b', { owner: 4 }))
    expect(next.effects).toMatchObject([{ kind: 'drain', connection: owner.id, refusal: { code: 'owner-superseded' } }])
    expect(bench.drained(owner.id)).toMatchObject([
      { kind: 'evidence', event: { kind: 'storage.session' } },
      { kind: 'evidence', event: { kind: 'storage.owner', owner: 4 } },
      { kind: 'welcome', connection: next.id },
    ])
    expect(bench.state.connections.get(plain.id)?.phase).toBe('open')
    expect(codeOf(bench.connect('csv1', claimOf('a', { owner: 3 })).effects)).toBe('owner-superseded')
    expect(bench.store.get('lun/csv1')).toMatchObject({ owner: 4, ownerHost: 'b' })
  })

  it('an owner epoch belongs to one host', () => {
    const bench = new Bench().with('a', 'b')
    bench.connect('csv1', claimOf('a', { owner: 3 }))
    expect(codeOf(bench.connect('csv1', claimOf('b', { owner: 3 })).effects)).toBe('owner-superseded')
  })

  it('a layout raises the owner epoch, drains lower owners, and is refused to a deposed or fenced one', () => {
    const bench = new Bench().with('a', 'b')
    const layout = { metadata: { offset: 0, length: 4096 }, slots: [] }
    const old = bench.connect('csv1', claimOf('a', { owner: 3 }))
    const order = { kind: 'layout', lun: 'csv1', lunId: null, ownerEpoch: 4, host: 'b', epoch: 1, layout }
    expect(kinds(bench.order(order))).toEqual(['drain'])
    expect(kinds(bench.drained(old.id))).toEqual(['evidence', 'answer'])
    expect(codeOf(bench.order({ ...order, ownerEpoch: 3, host: 'a' }))).toBe('owner-superseded')
    // A connection raises what is let in; only a layout says that its owner's record is durable.
    bench.connect('csv1', claimOf('b', { owner: 5 }))
    expect(bench.state.luns.get('csv1')).toMatchObject({ owner: 5, opened: 4 })
    expect(codeOf(bench.order({ ...order, host: 'a' }))).toBe('owner-superseded')
    bench.order({ kind: 'fence', host: 'b', epoch: 1, term: 1 })
    expect(codeOf(bench.order(order))).toBe('epoch-refused')
    const far = { ...layout, metadata: { offset: 0, length: CLOSED_LUN.sizeBytes + 1 } }
    expect(codeOf(bench.order({ ...order, ownerEpoch: 5, host: null, epoch: null, layout: far }))).toBe('bad-layout')
    const slots = [
      { host: 'a', offset: 0, length: 100 },
      { host: 'b', offset: 50, length: 100 },
    ]
    expect(codeOf(bench.order({ ...order, ownerEpoch: 5, host: null, layout: { ...layout, slots } }))).toBe(
      'bad-layout',
    )
  })

  it('an owner’s earlier layout that comes late takes no slot back; a later owner’s layout stands as it is', () => {
    const bench = new Bench().with('a', 'b')
    const slotOf = (host: string, index: number) => ({ host, offset: 4096 * (1 + index), length: 4096 })
    const layoutOf = (...slots: ReturnType<typeof slotOf>[]) => ({ metadata: { offset: 0, length: 16384 }, slots })
    const order = { kind: 'layout', lun: 'csv1', lunId: null, ownerEpoch: 4, host: 'b', epoch: 1 }
    const one = layoutOf(slotOf('b', 0))
    const two = layoutOf(slotOf('b', 0), slotOf('a', 1))
    bench.order({ ...order, layout: one })
    expect(kinds(bench.order({ ...order, layout: two }))).toEqual(['answer'])
    const stored = bench.store.get('lun/csv1')
    expect(stored).toMatchObject({ layout: two })
    expect(kinds(bench.order({ ...order, layout: one }))).toEqual(['answer'])
    expect(bench.store.get('lun/csv1')).toEqual(stored)
    expect(bench.recovered().luns.get('csv1')).toMatchObject({ layout: two, owner: 4, opened: 4 })
    // It knows of no slot that its predecessor gave out: it began from a leg that had been forced.
    bench.connect('csv1', claimOf('b', { owner: 5 }))
    bench.order({ ...order, ownerEpoch: 5, layout: one })
    expect(bench.store.get('lun/csv1')).toMatchObject({ layout: one, owner: 5, opened: 5 })
  })
})

describe('LUNs', () => {
  it('a plain name opens an open LUN only', () => {
    const bench = new Bench().with('a')
    expect(codeOf(bench.connect('csv1', null).effects)).toBe('lun-masked')
    bench.order({ kind: 'expose-lun', lun: 'csv1', open: true, masked: false, hosts: null })
    const { id, effects } = bench.connect('csv1', null)
    expect(kinds(effects)).toEqual(['welcome'])
    expect(bench.order({ kind: 'expose-lun', lun: 'csv1', open: false, masked: false, hosts: null })).toMatchObject([
      { kind: 'drain', connection: id, refusal: { code: 'lun-masked' } },
    ])
    expect(kinds(bench.drained(id))).toEqual(['answer'])
  })

  it('masking shuts hosts out, all or all but some', () => {
    const bench = new Bench().with('a', 'b')
    const a = bench.connect('csv1', claimOf('a'))
    const b = bench.connect('csv1', claimOf('b'))
    bench.order({ kind: 'expose-lun', lun: 'csv1', open: false, masked: false, hosts: ['a'] })
    expect(bench.state.connections.get(a.id)?.phase).toBe('open')
    expect(bench.state.connections.get(b.id)?.phase).toBe('draining')
    expect(codeOf(bench.connect('csv1', claimOf('b')).effects)).toBe('lun-masked')
    bench.order({ kind: 'expose-lun', lun: 'csv1', open: true, masked: true, hosts: null })
    expect(codeOf(bench.connect('csv1', claimOf('a')).effects)).toBe('lun-masked')
    expect(codeOf(bench.connect('csv1', null).effects)).toBe('lun-masked')
  })

  it('an order that comes when the name is another LUN’s does nothing to that', () => {
    const bench = new Bench().with('a')
    const marks = bench.state.luns.get('csv1')
    const late = { kind: 'delete-lun', lun: 'csv1', id: 'of-the-one-before', force: true }
    const raise = { kind: 'generation', lun: 'csv1', generation: 7, id: 'x', legs: { one: 'in-sync' }, term: 1 }
    expect(codeOf(bench.order(late))).toBe('unknown-lun')
    expect(codeOf(bench.order({ ...raise, lunId: 'of-the-one-before' }))).toBe('unknown-lun')
    // Its owner epochs are another volume's: raised by one of these, the name's new LUN would shut its own owner out.
    const layout = { metadata: { offset: 0, length: 4096 }, slots: [] }
    const owner = { kind: 'layout', lun: 'csv1', ownerEpoch: 9, host: 'a', epoch: 1, layout }
    expect(codeOf(bench.order({ ...owner, lunId: 'of-the-one-before' }))).toBe('unknown-lun')
    expect(bench.state.luns.get('csv1')).toEqual(marks)
    canaries.add('late-lun-order-obeyed')
    bench.order(late)
    expect(bench.state.luns.has('csv1')).toBe(false)
    canaries.clear()
    const meant = new Bench().with('a')
    expect(kinds(meant.order({ ...raise, lunId: meant.state.luns.get('csv1')?.id }))).toEqual(['evidence', 'answer'])
    expect(kinds(meant.order({ ...owner, lunId: meant.state.luns.get('csv1')?.id }))).toEqual(['evidence', 'answer'])
    expect(kinds(meant.order({ ...late, id: meant.state.luns.get('csv1')?.id }))).toEqual(['evidence', 'answer'])
  })

  it('a LUN with connections is deleted only by force, and forgets its sessions', () => {
    const bench = new Bench().with('a')
    const { id } = bench.connect('csv1', claimOf('a', { session: [4, 2] }))
    expect(codeOf(bench.order({ kind: 'delete-lun', lun: 'csv1', id: null, force: false }))).toBe('lun-busy')
    expect(kinds(bench.order({ kind: 'delete-lun', lun: 'csv1', id: null, force: true }))).toEqual(['drain'])
    expect(kinds(bench.drained(id))).toEqual(['evidence', 'answer'])
    expect([...bench.store.keys()].filter(key => key.includes('csv1'))).toEqual([])
    expect(codeOf(bench.connect('csv1', claimOf('a')).effects)).toBe('unknown-lun')
    expect(codeOf(bench.order({ kind: 'delete-lun', lun: 'csv1', id: null, force: true }))).toBe('unknown-lun')
  })
})
