// What is asked of a running guest by the API: passed to the host that has it, or refused by what it lacks.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type BenchApi, benchApi } from './testing/bench-coordinator.ts'

let directory: string
let api: BenchApi

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'api-'))
  api = await benchApi(directory)
})

afterEach(async () => {
  await api.close()
  rmSync(directory, { recursive: true })
})

/** A real machine, which runs. */
async function desk(): Promise<void> {
  for (const host of api.bench.hosts.values()) host.qemu = { why: null, cpu: { family: 'TCG', level: 2 } }
  api.bench.round()
  const body = { name: 'desk', guest: 'bios', hypervisor: 'qemu', memoryBytes: 2 ** 26 }
  expect((await api.call('POST', '/v1/vms', body)).status).toBe(201)
  api.bench.round(3)
}

describe('a reset', () => {
  const reset = (vm: string) => api.call('POST', `/v1/vms/${vm}/reset`)
  const resets = () => api.asked.filter(({ kind }) => kind === 'vm.reset')

  it('is asked of the host that has the machine, and stands among the decisions', async () => {
    await desk()
    const placement = api.bench.state.vms.get('desk')?.placement
    expect(await reset('desk')).toEqual({ status: 200, body: { vm: 'desk' } })
    const { host, epoch, incarnation } = placement!
    expect(resets()).toEqual([{ to: host, kind: 'vm.reset', body: { vm: 'desk', host, epoch, incarnation } }])
    const { body } = await api.call('GET', '/v1/why/vm/desk')
    expect(JSON.stringify(body)).toContain(`reset its guest on ${host}`)
  })

  it('that its host refuses is refused as that', async () => {
    await desk()
    api.answer = () => {
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
    await api.call('POST', '/v1/vms/desk/stop')
    api.bench.round(3)
    expect((await reset(vm)).body).toMatchObject({ code, hint: expect.stringMatching(hint) })
    expect(resets()).toEqual([])
  })
})

describe('a line for a guest', () => {
  const input = () => api.call('POST', '/v1/vms/web/input', { line: 'status' })

  it('is refused where the VM is stopped, or has no place yet, each by what it lacks', async () => {
    await api.call('POST', '/v1/vms/web/stop')
    api.bench.round(3)
    expect((await input()).body).toMatchObject({ code: 'not-running', hint: 'start it: stellwerk vm start web' })
    for (const host of api.bench.hosts.values()) host.beating = false
    api.bench.round(8)
    await api.call('POST', '/v1/vms/web/start', {})
    expect((await input()).body).toMatchObject({ code: 'not-placed', hint: 'see why: stellwerk why vm web' })
  })
})
