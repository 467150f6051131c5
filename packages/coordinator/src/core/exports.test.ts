import { describe, expect, it } from 'vitest'
import type { Command } from './commands.ts'
import { exportOf } from './exports.ts'
import { Bench } from './testing.ts'

const DISK = { volume: 'csv1', disk: 'web-0' }

function exporting(more: Partial<Extract<Command, { kind: 'disk-export' }>> = {}): Command {
  return { kind: 'disk-export', id: 'e1', ...DISK, readOnly: false, host: null, socket: null, port: 0, ...more }
}

/** A cluster whose VM is stopped, so that its disk may be exported. */
function stopped(): Bench {
  const bench = Bench.cluster()
  bench.command({ kind: 'vm-stop', name: 'web' })
  bench.round(3)
  expect(bench.placement('web')).toBe(null)
  return bench
}

const held = (bench: Bench) => exportOf(bench.state, DISK.volume, DISK.disk)

describe('an export of a disk', () => {
  it('is refused while a VM holds the disk, and changes nothing', () => {
    const bench = Bench.cluster()
    expect(bench.command(exporting())).toMatchObject({ refused: 'disk-in-use', hint: expect.stringMatching(/vm stop/) })
    expect(held(bench)).toBe(null)
  })

  it('is placed as a VM is, above every epoch its disk was attached with, and holds the disk alone', () => {
    const bench = stopped()
    expect(bench.command(exporting()).body).toEqual({ export: 'export-e1' })
    bench.round(2)
    const placement = bench.placement('export-e1')
    expect(placement?.phase).toBe('running')
    expect(placement?.epoch).toBeGreaterThan(bench.firstEpoch)
    expect(bench.command(exporting({ id: 'e2' }))).toMatchObject({ refused: 'already-exported' })
    const start = bench.command({ kind: 'vm-start', name: 'web', host: null })
    expect(start).toMatchObject({
      refused: 'disk-exported',
      hint: 'end that first: stellwerk disk unexport csv1 web-0',
    })
    expect(bench.command({ kind: 'vm-delete', name: 'web' })).toMatchObject({ refused: 'disk-exported' })
    for (const kind of ['vm-stop', 'vm-delete'] as const) {
      expect(bench.command({ kind, name: 'export-e1' })).toMatchObject({ refused: 'unknown-vm' })
    }
    const migrate = bench.command({ kind: 'vm-migrate', name: 'export-e1', to: null, id: 'm' })
    expect(migrate).toMatchObject({ refused: 'unknown-vm' })
  })

  it('goes to the host that was named, if that fits', () => {
    const bench = stopped()
    expect(bench.command(exporting({ host: 'nowhere' }))).toMatchObject({ refused: 'unknown-host' })
    bench.hosts.get('host-c')!.storages = []
    bench.round()
    expect(bench.command(exporting({ host: 'host-c' }))).toMatchObject({
      refused: 'host-unfit',
      message: expect.stringMatching(/does not reach san-a/),
    })
    bench.command(exporting({ host: 'host-b' }))
    bench.round(2)
    expect(bench.placement('export-e1')?.host).toBe('host-b')
  })

  it('survives the coordinator, and gives its disk back in order: its VM starts above its epoch', () => {
    const bench = stopped()
    bench.command(exporting())
    bench.round(2)
    const epoch = bench.placement('export-e1')?.epoch ?? 0
    bench.restart()
    bench.round(2)
    expect(bench.placement('export-e1')?.phase).toBe('running')
    expect(bench.command({ kind: 'disk-unexport', ...DISK }).body).toEqual({ export: 'export-e1' })
    bench.round(2)
    expect(held(bench)).toBe(null)
    expect(bench.orders.some(order => order.key.startsWith('disk-delete/'))).toBe(false)
    expect(bench.command({ kind: 'vm-start', name: 'web', host: null }).refused).toBe(undefined)
    bench.round(2)
    expect(bench.placement('web')?.epoch).toBeGreaterThan(epoch)
    expect(bench.command({ kind: 'disk-unexport', ...DISK })).toMatchObject({ refused: 'unknown-export' })
  })

  it('ends when its host reports that nothing of it is left, and is not tried again', () => {
    const bench = stopped()
    bench.command(exporting())
    bench.round(2)
    const host = bench.hosts.get(bench.placement('export-e1')?.host ?? '')!
    host.machines = host.machines.map(machine =>
      machine.vm === 'export-e1' ? { ...machine, state: 'failed', why: 'its port is taken' } : machine,
    )
    bench.round(2)
    expect(held(bench)).toBe(null)
    const ended = bench.traces.find(event => event.kind === 'decision.export-ended')
    expect(ended?.body).toMatchObject({ why: 'its port is taken', saw: { source: 'csv1/web-0' } })
  })

  it('is freed only when its host is fenced and waited out, and never started elsewhere (FEN1)', () => {
    const bench = stopped()
    bench.command(exporting())
    bench.round(2)
    const from = bench.placement('export-e1')?.host ?? ''
    const silentAt = bench.now
    bench.hosts.get(from)!.beating = false
    while (held(bench) !== null) {
      expect(bench.placement('export-e1')?.host).toBe(from)
      bench.round()
      if (bench.now > silentAt + 20_000) throw new Error('never freed')
    }
    expect(bench.state.hosts.get(from)?.phase).toBe('fenced')
    expect(bench.now - silentAt).toBeGreaterThanOrEqual(3_000 * 1.04)
    expect(bench.command({ kind: 'vm-start', name: 'web', host: null }).refused).toBe(undefined)
    bench.round(3)
    expect(bench.placement('web')?.host).not.toBe(from)
  })
})
