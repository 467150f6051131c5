// The program `coordinator`: the coordinator with its HTTP API.

import { checkDefinition, checkGuestFile } from '@stellwerk/agent/hypervisor/definition.ts'
import { EventLog } from '@stellwerk/coordinator/api/event-log.ts'
import type { Hooks } from '@stellwerk/coordinator/api/route.ts'
import { startApi } from '@stellwerk/coordinator/api/server.ts'
import { type CoordinatorConfig, startCoordinator } from '@stellwerk/coordinator/coordinator.ts'
import { COORDINATOR_CORE } from '@stellwerk/coordinator/replay/replay.ts'
import { snapshotOf } from '@stellwerk/coordinator/snapshot.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { OpenedProcess } from './process.ts'
import type { Running } from './running.ts'

export interface CoordinatorProgram {
  readonly coordinator: CoordinatorConfig
  readonly api: { readonly host: string; readonly port: number }
  readonly apiToken: string
  /** Whether the parent process starts hosts when it is asked to. */
  readonly startsHosts: boolean
}

const ADD_HOST_MS = 10_000

export async function runCoordinator(opened: OpenedProcess, config: CoordinatorProgram): Promise<Running> {
  const events = new EventLog()
  const env = events.watch(opened.env)
  const coordinator = await startCoordinator(env, config.coordinator)
  opened.onSegment = () => env.trace.snapshot(COORDINATOR_CORE, snapshotOf(coordinator.state))
  const asked = new Map<number, { resolve: (body: object) => void; reject: (error: Error) => void }>()
  let seq = 0
  const addHost = (name: string) =>
    new Promise<object>((resolve, reject) => {
      seq += 1
      const id = seq
      asked.set(id, { resolve, reject })
      env.processes.parent?.send({ kind: 'add-host', seq: id, name })
      env.timers.after(ADD_HOST_MS, () => {
        if (!asked.delete(id)) return
        reject(new StellwerkError('deadline', `host "${name}" was not started in time`, { hint: 'see its log' }))
      })
    })
  const hooks: Hooks = {
    ...(config.startsHosts && env.processes.parent !== null ? { addHost } : {}),
    checkDefinition: (vm, spec, disks, nics) => checkDefinition({ vm, ...spec }, disks, nics),
    checkGuest: (module, vm, spec) => checkGuestFile('the guest', module, { vm, ...spec }),
  }
  const api = await startApi(env, coordinator, { listen: config.api, token: config.apiToken, events, hooks })
  return {
    info: { api: { host: api.host, port: api.port } },
    onMessage: message => {
      if (message.kind !== 'host-added') return
      const waiting = asked.get(message.seq)
      asked.delete(message.seq)
      if (message.error === null) waiting?.resolve({ host: message.name })
      else waiting?.reject(new StellwerkError(message.error.code, message.error.message, { hint: message.error.hint }))
    },
    stop: async () => {
      await api.close()
      await coordinator.stop()
    },
  }
}
