// `stellwerk coordinator|agent|storage serve`: one process of a cluster by itself, from a configuration file.

import { startGuardian } from '@stellwerk/agent/guardian/guardian.ts'
import type { Address, Environment, Json } from '@stellwerk/runtime/environment.ts'
import type { LogLevel } from '@stellwerk/runtime/node/log.ts'
import { API_TOKEN_FILE, takeToken } from '../cluster/cluster-file.ts'
import { filesOf } from '../cluster/directory.ts'
import { FABRICS } from '../cluster/layout.ts'
import type { CommandSpec, Input, OptionSpec, Terminal } from '../command-line/command.ts'
import {
  AgentFile,
  type ConfigFile,
  CoordinatorFile,
  checkStorage,
  checkStorages,
  readConfig,
  StorageFile,
} from '../programs/config-file.ts'
import { runCoordinator } from '../programs/coordinator.ts'
import { type OpenedProcess, openProcess } from '../programs/process.ts'
import { keep, runStorage, STORAGE_FILES } from '../programs/run.ts'

const OPTIONS: { readonly [name: string]: OptionSpec } = {
  config: { type: 'string', value: 'FILE', help: 'YAML or JSON (default: NAME.yaml in the current directory)' },
}

function open(
  name: string,
  { value, directory }: ConfigFile<{ cluster: string; logLevel?: LogLevel }>,
  stateNeededBy?: string,
): OpenedProcess {
  const { cluster, logLevel = 'info' } = value
  return openProcess(name, { root: directory, cluster, logLevel, config: null }, stateNeededBy)
}

/** Resolves never: the process ends by a signal. */
function serving(terminal: Terminal, name: string, info: Json): Promise<number> {
  terminal.out(`${name} serves: ${JSON.stringify(info)}`)
  return untilSignal()
}

const untilSignal = () => new Promise<number>(() => undefined)

const fileOf = (input: Input, name: string): string => input.text('config') ?? `${name}.yaml`

const coordinator: CommandSpec = {
  words: 'coordinator serve',
  args: [],
  options: OPTIONS,
  summary: 'One coordinator with its HTTP API',
  run: async ({ terminal }, input) => {
    const config = await readConfig(fileOf(input, 'coordinator'), CoordinatorFile)
    const { cluster, token, profile, settings, listen, api, storages } = config.value
    checkStorages(storages, fileOf(input, 'coordinator'))
    const opened = open('coordinator', config)
    const files = filesOf(config.directory)
    const running = await runCoordinator(opened, {
      coordinator: {
        cluster,
        token,
        profile,
        listen,
        storages: storages.map(storage => ({ ...storage, control: storage.control ?? [] })),
        ...(settings === undefined ? {} : { settings }),
      },
      api: { host: api.host ?? '127.0.0.1', port: api.port },
      apiToken: await takeToken(files, API_TOKEN_FILE, opened.env.random),
      startsHosts: false,
    })
    keep(opened, running)
    return serving(terminal, 'coordinator', running.info)
  },
}

const agent: CommandSpec = {
  words: 'agent serve',
  args: [],
  options: OPTIONS,
  summary: 'One host: its guardian, which starts its agent',
  run: async ({ terminal }, input) => {
    const config = await readConfig(fileOf(input, 'agent'), AgentFile)
    const { cluster, token, host, coordinator: address, listen, memoryBytes } = config.value
    const opened = open(`${host}/guardian`, config)
    const refused = Promise.withResolvers<never>()
    await checkListen(opened.env, listen)
    const parts = {
      cluster,
      token,
      host,
      coordinator: address,
      supervise: config.value.supervise ?? true,
      agent: {
        listen,
        ...(config.value.guest === undefined ? {} : { guest: config.value.guest }),
        ...(config.value.bridges === undefined ? {} : { bridges: config.value.bridges }),
        ...(config.value.forwardAddress === undefined ? {} : { forwardAddress: config.value.forwardAddress }),
        memoryBytes,
        hbas: config.value.hbas ?? FABRICS,
        hypervisors: config.value.hypervisors ?? (['wasm', 'model', 'qemu'] as const),
      },
    }
    await startGuardian(opened.env, parts, error => refused.reject(error))
    // Whether it will serve is for the coordinator to say, and it may refuse it.
    terminal.out(`${host} starts: ${JSON.stringify({ listen })}`)
    return Promise.race([untilSignal(), refused.promise])
  },
}

const storage: CommandSpec = {
  words: 'storage serve',
  args: [],
  options: OPTIONS,
  summary: 'One storage subsystem: LUNs over NBD',
  run: async ({ terminal }, input) => {
    const config = await readConfig(fileOf(input, 'storage'), StorageFile)
    const { cluster, token, name, portals, control } = config.value
    checkStorage({ name, portals, control }, fileOf(input, 'storage'))
    const opened = open(name, config, STORAGE_FILES)
    const running = await runStorage(opened.env, { cluster, credential: token, name, portals, control })
    keep(opened, running)
    return serving(terminal, name, running.info)
  },
}

/** The agent is a process of its own, started again when it ends: an address that it can't have is better said at once. */
async function checkListen(env: Environment, listen: Address): Promise<void> {
  // One of the last run's agents may be about to give it back.
  await env.processes.killLeftovers()
  const listener = await env.network.listen(listen, link =>
    link.close('closed', 'it only looked whether it can listen here'),
  )
  await listener.close()
}

export const commands: readonly CommandSpec[] = [coordinator, agent, storage]
