// What is asked of a running guest by the API: passed to the host that has it, or refused by what it lacks.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { describe, expect, it } from 'vitest'
import { benchApiEach } from './testing/bench-api-each.ts'

const api = benchApiEach()

/** A real machine, which runs. */
async function desk(): Promise<void> {
  for (const host of api().bench.hosts.values()) host.qemu = { why: null, cpu: { family: 'TCG', level: 2 } }
  api().bench.round()
  const body = { name: 'desk', guest: 'bios', hypervisor: 'qemu', memoryBytes: 2 ** 26 }
  expect((await api().call('POST', '/v1/vms', body)).status).toBe(201)
  api().bench.round(3)
}

describe('a reset', () => {
  const reset = (vm: string) => api().call('POST', `/v1/vms/${vm}/reset`)
  const resets = () => api().asked.filter(({ kind }) => kind === 'vm.reset')

  it('is asked of the host that has the machine, and stands among the decisions', async () => {
    await desk()
    const placement = api().bench.state.vms.get('desk')?.placement
    expect(await reset('desk')).toEqual({ status: 200, body: { vm: 'desk' } })
    const { host, epoch, incarnation } = placement!
    expect(resets()).toEqual([{ to: host, kind: 'vm.reset', body: { vm: 'desk', host, epoch, incarnation } }])
    const { body } = await api().call('GET', '/v1/why/vm/desk')
    expect(JSON.stringify(body)).toContain(`reset its guest on ${host}`)
  })

  it('that its host refuses is refused as that', async () => {
    await desk()
    api().answer = () => {
      throw new StellwerkError('migrating', 'VM "desk" is being switched over to another host')
    }
    expect((await reset('desk')).body).toMatchObject({
      code: 'migrating',
      message: expect.stringMatching(/switched over/),
    })
  })

  it.each([
    ['an embedded guest', 'web', 'no-reset', /vm stop web/],
    ['no VM', 'nobody', 'unknown-vm', /vm list/],
    ['one that is stopped', 'desk', 'not-running', /vm start desk/],
  ])('of %s is refused, and nobody is asked', async (_, vm, code, hint) => {
    await desk()
    await api().call('POST', '/v1/vms/desk/stop')
    api().bench.round(3)
    expect((await reset(vm)).body).toMatchObject({ code, hint: expect.stringMatching(hint) })
    expect(resets()).toEqual([])
  })
})

describe('a line for a guest', () => {
  const input = () => api().call('POST', '/v1/vms/web/input', { line: 'status' })

  it('is refused where the VM is stopped, or has no place yet, each by what it lacks', async () => {
    await api().call('POST', '/v1/vms/web/stop')
    api().bench.round(3)
    expect((await input()).body).toMatchObject({ code: 'not-running', hint: 'start it: stellwerk vm start web' })
    for (const host of api().bench.hosts.values()) host.beating = false
    api().bench.round(8)
    await api().call('POST', '/v1/vms/web/start', {})
    expect((await input()).body).toMatchObject({ code: 'not-placed', hint: 'see why: stellwerk why vm web' })
  })
})

describe('a migration', () => {
  const sent = () =>
    api().bench.orders.flatMap(order =>
      order.message === 'migration.send' ? [order.body as { migration: string }] : [],
    )

  it('aims at the pause, and does of a guest that does not converge, what was asked for; else what is set', async () => {
    const limits = { downtimeMs: 7, whenDiverging: 'abort' }
    const first = (await api().call('POST', '/v1/vms/web/migrate', limits)).body as { migration: string }
    api().bench.round(2)
    expect(sent().at(-1)).toMatchObject({ migration: first.migration, ...limits })
    expect((await api().call('GET', `/v1/migrations/${first.migration}`)).body).toMatchObject({ limits })
    await api().call('POST', '/v1/vms/web/cancel')
    api().bench.round(5)
    const second = (await api().call('POST', '/v1/vms/web/migrate', {})).body as { migration: string }
    api().bench.round(2)
    const { downtimeMs } = api().bench.state.cluster.settings
    expect(sent().at(-1)).toMatchObject({ migration: second.migration, downtimeMs })
    expect(sent().at(-1)).not.toHaveProperty('whenDiverging')
    expect(api().bench.state.migrations.get(second.migration)).not.toHaveProperty('limits')
  })

  it.each([{ downtimeMs: 0 }, { downtimeMs: 60_001 }, { downtimeMs: 1.5 }, { whenDiverging: 'hope' }])(
    'with %j is refused',
    async limits => {
      const { status, body } = await api().call('POST', '/v1/vms/web/migrate', limits)
      expect([status, body]).toMatchObject([400, { code: 'bad-request' }])
      expect(api().bench.state.migrations.size).toBe(0)
    },
  )
})
