// A storage without epochs refuses nothing: nothing takes the place of who might still write there (FEN1, CSV1).

import { describe, expect, it } from 'vitest'
import { canLose } from '../view/can-lose.ts'
import { vmView } from '../view/vms.ts'
import { whyOf } from '../view/why.ts'
import { judgeMarks } from './leg-verification.ts'
import type { VolumeRecord } from './state.ts'
import { Bench } from './testing.ts'

/** Three hosts, and a VM on a volume of these legs. */
function cluster(...storages: string[]): Bench {
  const bench = new Bench(['nas'])
  for (const host of ['host-a', 'host-b', 'host-c']) bench.join(host)
  bench.round(2)
  bench.command({ kind: 'volume-create', name: 'csv1', id: 'v1', sizeBytes: 2 ** 30, storages })
  bench.round(6)
  bench.createVm('web')
  bench.round(4)
  expect(bench.placement('web')?.phase).toBe('running')
  return bench
}

const volume = (bench: Bench): VolumeRecord => bench.state.volumes.get('csv1')!
const hostOf = (bench: Bench): string => bench.placement('web')?.host ?? ''
const roles = (bench: Bench): string[] => volume(bench).legs.map(({ storage, role }) => `${storage} ${role}`)
const decisions = (bench: Bench, kind: string) =>
  bench.traces.filter(event => event.kind === `decision.${kind}`).map(({ body }) => body as Record<string, unknown>)

function attest(bench: Bench, host: string): void {
  bench.ask(request => ({ kind: 'attest', request, host, incarnation: bench.hosts.get(host)?.incarnation ?? 1 }))
}

function die(bench: Bench, host: string): void {
  bench.hosts.get(host)!.beating = false
  bench.input({ kind: 'agent-down', host, incarnation: 1 })
}

describe('a storage that is any NBD server', () => {
  it('is sent no order, and its export is looked at before the volume is laid out', () => {
    const bench = new Bench(['nas'])
    const sent: string[] = []
    bench.holdBack = key => {
      sent.push(key)
      return key.startsWith('lun/')
    }
    bench.join('host-a')
    bench.round(2)
    bench.command({ kind: 'volume-create', name: 'csv1', id: 'v1', sizeBytes: 2 ** 30, storages: ['nas'] })
    bench.round(2)
    expect(volume(bench).phase).toBe('creating')
    const [order] = bench.orders.filter(({ message }) => message === 'storage.check-export')
    expect(order?.body).toEqual({ storage: 'nas', lun: 'csv1', sizeBytes: 2 ** 30, volumeId: 'v1', legs: [] })
    bench.answer(order?.key ?? '', { sizeBytes: 2 ** 30 })
    bench.round(4)
    expect(volume(bench)).toMatchObject({ phase: 'ready', generation: 0, owner: { host: 'host-a' } })
    expect(sent.filter(key => key.includes('nas'))).toEqual([])
  })

  it('has no export that two volumes have, whichever names they give it', () => {
    const bench = cluster('nas')
    const nas = bench.state.storages.get('nas')!
    const create = (name: string) =>
      bench.command({ kind: 'volume-create', name, id: name, sizeBytes: 2 ** 30, storages: ['nas'] }).refused
    bench.state.storages.set('nas', { ...nas, external: { exports: [{ lun: 'csv2', export: 'csv1' }] } })
    expect(create('csv2')).toBe('export-in-use')
    expect(bench.state.volumes.has('csv2')).toBe(false)
    expect(create('csv3')).toBeUndefined()
    bench.command({ kind: 'volume-create', name: 'csv2', id: 'v2', sizeBytes: 2 ** 30, storages: ['san-a'] })
    bench.round(4)
    expect(bench.command({ kind: 'volume-mirror', name: 'csv2', storage: 'nas' }).refused).toBe('export-in-use')
  })

  it('starts a VM again when its host is attested dead and what it sent has had its time, and says what that rests on', () => {
    const bench = cluster('nas')
    const host = hostOf(bench)
    const { ioDeadlineMs } = bench.state.cluster.settings
    die(bench, host)
    attest(bench, host)
    const at = bench.now
    while (hostOf(bench) === host && bench.now < at + 20_000) bench.round()
    expect(bench.now - at).toBeGreaterThanOrEqual(ioDeadlineMs)
    expect(bench.now - at).toBeLessThan(ioDeadlineMs + 2_000)
    bench.round(6)
    expect(bench.placement('web')?.phase).toBe('running')
    expect(decisions(bench, 'fenced')[0]?.['chose']).toBe('nothing of this epoch can be written any more, but on nas')
    expect(decisions(bench, 'silent')[0]).toMatchObject({
      saw: { withoutEpochs: ['nas'], attestedBy: 'its guardian', waitedMs: ioDeadlineMs },
      why: expect.stringMatching(/dead, attested by its guardian, .* a storage without epochs refuses nothing/),
    })
    expect(decisions(bench, 'vm-lost')[0]).toMatchObject({ saw: { attested: true, withoutEpochs: ['nas'] } })
    const start = bench.traces.find(event => event.kind === 'failover.start')
    expect(start?.body).toMatchObject({ legs: [], withoutEpochs: ['nas'], attested: true })
  })

  it('starts it nowhere while nobody has attested that, however long; the leases’ end is not enough', () => {
    const bench = cluster('nas')
    const host = hostOf(bench)
    die(bench, host)
    bench.round(200)
    expect(hostOf(bench)).toBe(host)
    expect(bench.state.hosts.get(host)?.phase).toBe('fenced')
    expect(volume(bench).owner?.host).not.toBe(host)
    const waits = `nas has no epochs and would take late writes of ${host}, whose death nobody has attested`
    expect(vmView(bench.state, bench.state.vms.get('web')!, bench.now).why).toContain(waits)
    expect(whyOf(bench.state, 'vm', 'web', [], bench.now)?.now.join(' ')).toContain(`confirm-dead ${host}`)
    bench.command({ kind: 'host-confirm-dead', name: host })
    bench.round(12)
    expect(hostOf(bench)).not.toBe(host)
  })

  it('a host that was removed and then lost power can be confirmed dead, so that its volume has an owner again', () => {
    const bench = cluster('nas')
    const owner = volume(bench).owner?.host ?? ''
    bench.endsOwning = () => false
    bench.command({ kind: 'vm-stop', name: 'web' })
    bench.round(4)
    bench.command({ kind: 'host-remove', name: owner })
    die(bench, owner)
    bench.round(40)
    expect(volume(bench).owner).toBeNull()
    expect(bench.command({ kind: 'host-confirm-dead', name: owner }).refused).toBeUndefined()
    bench.round(12)
    expect(volume(bench).owner?.host).not.toBe(owner)
    expect(volume(bench).owner).not.toBeNull()
  })

  it('does not believe an attestation of an older agent than the newest that had the epoch', () => {
    const bench = cluster('nas')
    const host = hostOf(bench)
    die(bench, host)
    bench.round(20)
    const record = bench.state.hosts.get(host)!
    bench.state.hosts.set(host, { ...record, fence: { ...record.fence!, newestIncarnation: 2 } })
    attest(bench, host)
    bench.round(20)
    expect(hostOf(bench)).toBe(host)
  })

  it('lets a fenced host that is back and has ended all take part again, after the same time', () => {
    const bench = cluster('nas')
    const host = hostOf(bench)
    bench.hosts.get(host)!.beating = false
    bench.round(30)
    bench.join(host)
    bench.hosts.get(host)!.beating = true
    bench.round(14)
    expect(bench.state.hosts.get(host)).toMatchObject({ phase: 'admitted', epoch: 2 })
    expect(bench.placement('web')?.epoch).toBeGreaterThan(0)
    expect(decisions(bench, 'silent')[0]?.['why']).toMatch(/its agent has ended all it had/)
  })

  it('holds up no VM of the same host on other storages', () => {
    const bench = cluster('nas')
    bench.command({ kind: 'volume-create', name: 'csv2', id: 'v2', sizeBytes: 2 ** 30, storages: ['san-a'] })
    bench.round(6)
    const host = hostOf(bench)
    bench.command({
      kind: 'vm-create',
      name: 'other',
      spec: { hypervisor: 'model', guest: 'ledger', memoryBytes: 2 ** 26, parameters: {} },
      disks: [{ volume: 'csv2', sizeBytes: 2 ** 20 }],
      start: true,
      priority: 0,
      host,
    })
    bench.round(4)
    expect(bench.placement('other')?.host).toBe(host)
    die(bench, host)
    bench.round(40)
    expect(hostOf(bench)).toBe(host)
    expect(bench.placement('other')?.host).not.toBe(host)
  })

  it('gets its next owner when the former one has said that it has ended', () => {
    const bench = cluster('nas')
    const former = volume(bench).owner!
    const to = ['host-a', 'host-b', 'host-c'].find(name => name !== former.host)!
    bench.endsOwning = () => false
    bench.command({ kind: 'volume-own', name: 'csv1', host: to })
    bench.round(6)
    expect(volume(bench)).toMatchObject({ owner: null, leaving: { host: former.host, epoch: former.epoch, to } })
    bench.endsOwning = () => true
    bench.state.mapVersion += 1
    bench.round(4)
    expect(volume(bench)).toMatchObject({ owner: { host: to, epoch: former.epoch + 1 }, leaving: null })
    expect(decisions(bench, 'owner-leaves')[0]?.['why']).toMatch(/nas would take writes of both/)
  })

  it('is not counted on when a host is lost, and says so', () => {
    const bench = cluster('nas')
    expect(canLose(bench.state).host).toMatchObject({
      ok: false,
      why: [expect.stringMatching(/web waits for confirm-dead, nas has no epochs/)],
    })
    expect(canLose(cluster('san-a', 'nas').state).host.ok).toBe(true)
  })
})

describe('a mirror with one leg that has epochs and one that has none', () => {
  it('tells its generation only to the one', () => {
    const bench = cluster('san-a', 'nas')
    expect(volume(bench)).toMatchObject({ generation: 1, generationOwed: [], phase: 'ready' })
    expect([...bench.marks.keys()]).toEqual(['san-a/csv1'])
  })

  it('keeps both when its host is attested dead in time', () => {
    const bench = cluster('san-a', 'nas')
    const host = hostOf(bench)
    die(bench, host)
    attest(bench, host)
    bench.round(12)
    expect(hostOf(bench)).not.toBe(host)
    expect(roles(bench)).toEqual(['san-a in-sync', 'nas in-sync'])
  })

  it('goes on without the other where nobody attests it, and takes that back only when somebody has', () => {
    const bench = cluster('san-a', 'nas')
    const host = hostOf(bench)
    die(bench, host)
    bench.round(40)
    expect(roles(bench)).toEqual(['san-a in-sync', 'nas stale'])
    expect(hostOf(bench)).not.toBe(host)
    bench.round(40)
    expect(roles(bench)).toEqual(['san-a in-sync', 'nas stale'])
    expect(bench.state.liveVolumes.get('csv1')?.why).toMatch(/nas has no epochs and would take late writes/)
    bench.sync = { done: true, disks: 1, synced: 1 }
    bench.join(host, 2)
    bench.round(40)
    expect(roles(bench)).toEqual(['san-a in-sync', 'nas in-sync'])
  })

  it('stays closed after a restore while only the one without marks could tell', () => {
    const bench = cluster('san-a', 'nas')
    const marks = new Map([
      ['san-a', { generation: 1, id: 'x', legs: { 'leg-0': 'in-sync', 'leg-1': 'in-sync' } }],
    ] as const)
    expect(judgeMarks({ ...volume(bench), unsure: true }, marks)).toMatch(
      /nas has not answered, whose leg is in sync in generation 1/,
    )
  })
})
