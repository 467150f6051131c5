// What to do about a process of `up`'s cluster that can't start, where the process itself can't know it: which value of the
// cluster file it is about, and how this cluster gets a state back. Pure.

import { join } from 'node:path'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { CLUSTER_FILE, type ClusterFile } from './cluster-file.ts'

/** The same error with the way out, or as it is where there is none to add. */
export function withOwnHint(
  error: StellwerkError,
  process: string,
  directory: string,
  file: ClusterFile,
): StellwerkError {
  const hint = ownHint(error, process, directory, file)
  if (hint === null) return error
  return new StellwerkError(error.code, error.message, {
    ...(error.where === undefined ? {} : { where: error.where }),
    hint,
    retryable: error.retryable,
    cause: error,
  })
}

function ownHint(
  { code, where }: StellwerkError,
  process: string,
  directory: string,
  file: ClusterFile,
): string | null {
  if (code === 'address-in-use') {
    const { coordinator, hosts, storages } = file
    const port = Number(/:(\d+)$/.exec(where ?? '')?.[1])
    const key = keyOf(port, { coordinator, hosts, storages })
    return key === null ? null : `stop that process, or use another port: ${key} in ${join(directory, CLUSTER_FILE)}`
  }
  if (code === 'corrupt-state' && process === 'coordinator') {
    const whole = join(directory, process)
    return `restore it from a backup; or move ${whole} away, and say: npx stellwerk cluster restore VOLUME`
  }
  return null
}

/** Where the cluster file says this port: `coordinator.apiPort`, `hosts[1].port`. */
function keyOf(port: number, value: unknown): string | null {
  if (typeof value !== 'object' || value === null) return null
  for (const [name, inner] of Object.entries(value)) {
    const key = Array.isArray(value) ? `[${name}]` : name
    if (inner === port) return key
    const below = keyOf(port, inner)
    if (below !== null) return `${key}${below.startsWith('[') ? '' : '.'}${below}`
  }
  return null
}
