import { Bench } from '@stellwerk/coordinator/core/testing.ts'
import type { MigrationView, Status } from '@stellwerk/coordinator/view/schemas.ts'
import { statusOf } from '@stellwerk/coordinator/view/status.ts'
import { describe, expect, it } from 'vitest'
import type { AgentsView } from '../cluster/agents-view.ts'
import { type Line, textOf } from '../render/styled.ts'
import { agentsSaid, heard, heardAnew, type Known, NOTHING_KNOWN, wentAway } from './known.ts'
import { PLAIN_LOOK, picture, UNBOUNDED } from './picture.ts'

const MIB = 2 ** 20
const text = (lines: readonly Line[]) => lines.map(textOf)
const show = (known: Known, columns = 120, rows = 30, now = known.statusAt, look = PLAIN_LOOK) =>
  text(picture(known, { columns, rows }, now, look))

/** A cluster of three hosts and a VM, as its coordinator tells of it. */
function told(change: (status: Status) => object = () => ({})): Status {
  const bench = Bench.cluster()
  const status = statusOf(bench.state, bench.now)
  return { ...status, ...change(status) } as Status
}
const knownOf = (status: Status) => heard(NOTHING_KNOWN, status, 1_000)

const COPY: NonNullable<MigrationView['progress']> = {
  round: 2,
  percent: 62,
  totalBytes: 64 * MIB,
  leftBytes: 24 * MIB,
  sentBytes: 70 * MIB,
  bytesPerSecond: 40 * MIB,
  dirtyBytesPerSecond: 8 * MIB,
  leftMs: 750,
  pauseMs: 12,
}

function migrating(progress: MigrationView['progress']): Status {
  return told(({ vms }) => {
    const vm = vms['web']!
    const migration = { id: 'm1', vm: 'web', from: 'host-a', to: 'host-b', phase: 'precopy', epoch: 4, reason: null }
    const more = { requestedWallMs: 0, phaseMs: 1_200, progress, statistics: {} }
    return { vms: { web: { ...vm, state: 'migrating', migration: { ...migration, ...more } } } }
  })
}

describe('the picture', () => {
  it('begins with what can be lost, then has the tables', () => {
    expect(show(knownOf(told()), 120, 16)).toMatchInlineSnapshot(`
      [
        "can lose: 1 host yes · 1 storage NO (csv1: one leg)",
        "test · 3 of 3 hosts up · 1 of 1 VMs running · 0 of 0 paths up · term 1, up 3.5 s",
        "HOST    STATE  HEARD  EPOCH  MEMORY           PATHS UP  VMS  OWNS",
        "host-a  up     0 ms   1      64 MiB of 1 GiB  0 of 0    web  csv1",
        "host-b  up     0 ms   1      0 B of 1 GiB     0 of 0    -    -",
        "host-c  up     0 ms   1      0 B of 1 GiB     0 of 0    -    -",
        "",
        "VM   STATE    WANTED   HOST    EPOCH  MEMORY",
        "web  running  running  host-a  5      64 MiB",
        "",
        "VOLUME  STATE    SIZE   USED     OWNER   EPOCH  LEGS",
        "csv1    serving  1 GiB  unknown  host-a  1      san-a up",
      ]
    `)
  })

  it('has a bar for each migration, with what is left and for how long', () => {
    expect(show(knownOf(migrating(COPY)), 140, 12).slice(0, 5)).toMatchInlineSnapshot(`
      [
        "can lose: 1 host yes · 1 storage NO (csv1: one leg)",
        "test · 3 of 3 hosts up · 1 of 1 VMs running · 0 of 0 paths up · term 1, up 3.5 s",
        "MOVING  FROM → TO        PHASE",
        "web     host-a → host-b  precopy 1.2 s  ██████████████░░░░░░░░░   62 %  about 750 ms left, 24 MiB of 64 MiB at 40 MiB/s, round 2, 70 MiB se…",
        "",
      ]
    `)
    const sections = show(knownOf(migrating({ ...COPY, round: 1, dirtyBytesPerSecond: 0 })), 140)
    expect(sections.join('\n')).toContain('at least 750 ms left')
  })

  it('says of a migration that gets no nearer why that is, and nothing of what is not known', () => {
    const losing = { ...COPY, leftMs: null, dirtyBytesPerSecond: 50 * MIB }
    expect(show(knownOf(migrating(losing)), 140).join('\n')).toContain('the guest changes 50 MiB/s meanwhile')
    const [, , , , row] = show(knownOf(migrating(null)))
    expect(row).toBe('web     host-a → host-b  precopy 1.2 s')
  })

  it('has a bar for each leg that is resynced, says why one is not, and tells scrubs', () => {
    const status = told(({ volumes }) => {
      const volume = volumes['csv1']!
      const [leg] = volume.legs
      const resync = { copiedBytes: 512 * MIB, totalBytes: 2048 * MIB, bytesPerSecond: 64 * MIB, leftMs: 24_000 }
      const scrub = { scrub: 's1', state: 'running', percent: 40, wallMs: null, repaired: 1, unresolved: 0, skipped: 2 }
      const syncing = { ...leg!, leg: 'b', storage: 'san-b', role: 'syncing', percent: 25, resync }
      const stale = { ...leg!, leg: 'b', storage: 'san-b', role: 'stale', why: 'its storage is away' }
      return {
        volumes: {
          csv1: { ...volume, legs: [leg!, syncing], scrub },
          csv2: { ...volume, name: 'csv2', legs: [leg!, stale] },
        },
      }
    })
    expect(show(knownOf(status), 110, 40).slice(3, 7)).toMatchInlineSnapshot(`
      [
        "MIRROR  LEG",
        "csv1    san-b  resyncing  ████░░░░░░░░░░░░░░   25 %  512 MiB of 2 GiB at 64 MiB/s, about 24.0 s left",
        "csv1    -      scrubbing  ███████░░░░░░░░░░░   40 %  1 repaired, 0 undecided, 2 not compared",
        "csv2    san-b  stale                                 its storage is away",
      ]
    `)
  })

  it('has the paths that are not up, and who is redirected', () => {
    const status = told(({ hosts }) => {
      const path = { host: 'host-a', fabric: 'fabric-0', storage: 'san-a', ageMs: 0, latencyMs: 0.4, queue: 3 }
      const rest = { requests: 9, errors: 1, via: null, epochs: true }
      const access = {
        storage: 'san-a',
        state: 'redirected',
        via: 'host-b',
        why: 'no path of its own',
        sinceMs: 12_000,
      }
      return {
        hosts: { ...hosts, [path.host]: { ...hosts[path.host]!, access: [{ volume: 'csv1', ...access }] } },
        paths: {
          'host-a/fabric-0/san-a': { ...path, ...rest, state: 'failed', why: 'connection reset', sinceMs: 12_000 },
          'host-a/fabric-1/san-a': { ...path, ...rest, fabric: 'fabric-1', state: 'up', why: '', sinceMs: 12_000 },
        },
      }
    })
    expect(show(knownOf(status), 120, 40).slice(3, 6)).toMatchInlineSnapshot(`
      [
        "PATH                   STATE   FOR     LATENCY  IN FLIGHT",
        "host-a/fabric-0/san-a  failed  12.0 s  0.40 ms  3          connection reset",
        "host-a: volume csv1 is redirected via host-b to san-a for 12.0 s (no path of its own)",
      ]
    `)
  })

  it('fits: no line is longer, none too many; tables leave out what tells least', () => {
    const status = told(({ vms }) => {
      const many = Array.from({ length: 60 }, (_, n) => [`web-${n}`, { ...vms['web']!, name: `web-${n}` }])
      return { vms: { ...migrating(COPY).vms, ...Object.fromEntries(many) } }
    })
    const known = heardAnew(
      knownOf(status),
      Array.from({ length: 30 }, (_, n) => ({
        seq: n + 1,
        wallMs: n,
        kind: 'vm.x',
        subject: null,
        text: `event ${n}`,
      })),
    )
    for (const columns of [40, 60, 80, 200]) {
      for (const rows of [10, 15, 24, 60]) {
        const lines = show(known, columns, rows, 1_000, { ...PLAIN_LOOK, footer: 'q ends' })
        expect([lines.length, lines.at(-1)]).toEqual([rows, 'q ends'])
        expect(Math.max(...lines.map(each => each.length))).toBeLessThanOrEqual(columns)
        expect(lines[0]).toMatch(/^can lose: /)
        expect(lines.join('\n')).toContain('MOVING')
      }
    }
    const head = (columns: number) => show(known, columns, 40).find(each => each.startsWith('HOST'))
    expect(head(60)).not.toMatch(/EPOCH|MEMORY/)
    expect(head(200)).toMatch(/HOST +STATE +HEARD +EPOCH +MEMORY +PATHS UP/)
    expect(text(picture(known, UNBOUNDED, 1_000))).toContain('00:00:00.029  event 29')
  })

  it('says so where the terminal is too small', () => {
    expect(show(knownOf(told()), 39, 24)).toEqual([
      'can lose: 1 host yes · 1 storage NO (c…',
      '39 × 24 is too small, 40 × 10 will do',
    ])
    expect(show(knownOf(told()), 80, 1)).toHaveLength(1)
    expect(show(knownOf(told()), 0, 0)).toEqual([])
  })

  it('shows only what has the text that is looked for, and VMs from the one that was scrolled to', () => {
    const status = told(({ vms }) => ({ vms: { db: { ...vms['web']!, name: 'db' }, web: vms['web']! } }))
    const of = (look: object) => show(knownOf(status), 120, 30, 1_000, { ...PLAIN_LOOK, ...look })
    expect(of({ filter: 'db' }).filter(each => /^(web|host-|csv)/.test(each))).toEqual([])
    expect(of({ filter: 'db' })).toContainEqual(expect.stringMatching(/^db /))
    expect(of({ skipped: 1 }).filter(each => /^(web|db) /.test(each))).toEqual([expect.stringMatching(/^web /)])
  })

  it('calls what it knows by its age when no answer comes, and never takes it for the present', () => {
    const known = knownOf(told())
    expect(show(known, 120, 30, 9_000).slice(0, 2)).toEqual([
      expect.stringMatching(/^can lose: not known now; 8\.0 s ago: 1 host yes/),
      expect.stringMatching(/^no answer for 8\.0 s: as of then: /),
    ])
  })

  it('has what the agents say while the coordinator is away', () => {
    const view: AgentsView = {
      coordinator: 'away',
      hosts: {
        'host-a': { name: 'host-a', state: 'up', vms: ['web'] },
        'host-b': { name: 'host-b', state: 'unknown', vms: [] },
      },
      vms: { web: { name: 'web', state: 'running', host: 'host-a' } },
      volumes: {},
      paths: {},
    }
    const away = agentsSaid(wentAway(knownOf(told()), 'nothing listens there', 3_000), view, 4_000)
    expect(show(away, 120, 30, 5_000).slice(0, 9)).toMatchInlineSnapshot(`
      [
        "can lose: not known now; 4.0 s ago: 1 host yes · 1 storage NO (csv1: one leg)",
        "the coordinator is away for 2.0 s (nothing listens there); hosts and VMs below: as the agents say, the rest as known th…",
        "",
        "HOST    STATE    VMS",
        "host-a  up       web",
        "host-b  unknown  -",
        "",
        "VM   STATE    HOST",
        "web  running  host-a",
      ]
    `)
    // Nothing else is known of a cluster that was never heard.
    const never = agentsSaid(wentAway(NOTHING_KNOWN, 'nothing listens there', 3_000), view, 4_000)
    expect(show(never, 120, 30, 5_000).join('\n')).not.toMatch(/VOLUME|as known then/)
    expect(heard(away, told(), 6_000)).toMatchObject({ away: null, agents: null })
  })

  it('has what came to be in another state stand out for a while', () => {
    const before = told()
    const after = told(({ vms }) => ({ vms: { web: { ...vms['web']!, state: 'frozen' } } }))
    const known = heard(knownOf(before), after, 2_000)
    const row = (now: number) =>
      picture(known, { columns: 120, rows: 30 }, now).find(each => textOf(each).startsWith('web '))
    expect(row(2_500)?.[0]).toEqual({ text: 'web', tone: 'bold' })
    expect(row(8_000)?.[0]).toEqual({ text: 'web', tone: 'plain' })
    expect(row(2_500)?.find(({ text: word }) => word === 'frozen')?.tone).toBe('bad')
  })

  it('never passes on what would move a terminal’s cursor', () => {
    const known = heardAnew(knownOf(told()), [
      { seq: 1, wallMs: 0, kind: 'vm.x', subject: null, text: 'web: \u001b[2Jhere\r\n\u0007' },
    ])
    expect(show(known).join('\n')).toContain('web: ?[2Jhere???')
  })
})
