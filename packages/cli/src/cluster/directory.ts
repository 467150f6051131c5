// A cluster's directory on this machine: whether it is one, whether it may become one, and how to reach what runs there.
// Looking changes nothing.

import { join } from 'node:path'
import type { Files, Logger } from '@stellwerk/runtime/environment.ts'
import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { createFiles } from '@stellwerk/runtime/node/files.ts'
import { ApiClient } from '../api-client/client.ts'
import {
  API_TOKEN_FILE,
  CLUSTER_FILE,
  type ClusterFile,
  JOIN_TOKEN_FILE,
  readClusterFile,
  readToken,
} from './cluster-file.ts'
import { CHAOS_DIRECTORY } from './fault-seam.ts'

export const DEFAULT_DIRECTORY = '.stellwerk'
export const UP_FILE = 'up.json'
/** What a start that was cut short before it wrote the cluster file may have left. */
const BEGINNINGS = new Set([
  'lock',
  'lock.holder',
  'log',
  'launch',
  'output',
  'children.json',
  JOIN_TOKEN_FILE,
  API_TOKEN_FILE,
])

/** What else `up` has in the directory beside those of its processes, each named as its process is. */
const OWN_NAMES = new Set([...BEGINNINGS, CLUSTER_FILE, UP_FILE, CHAOS_DIRECTORY, 'lock-journal'])

/** A host's directory is called as the host is. Throws `bad-name`. */
export function checkHostDirectory(name: string, directory: string): void {
  if (!OWN_NAMES.has(name)) return
  throw new StellwerkError('bad-name', `no host can be called "${name}": the cluster's directory has its own ${name}`, {
    where: directory,
    hint: 'choose another name',
  })
}

const silent: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
}

export function filesOf(directory: string): Files {
  return createFiles(directory, 'stellwerk', silent)
}

/** The cluster there, or null for a directory that is empty or missing. Throws `foreign-state`, `corrupt-state`. */
export async function lookInto(directory: string): Promise<ClusterFile | null> {
  const files = filesOf(directory)
  let names: string[]
  try {
    names = await files.list('.')
  } catch (error) {
    if (errorCode(error) !== 'ENOTDIR') throw unreadable(directory, error)
    throw new StellwerkError('foreign-state', 'that is a file, not a directory', {
      where: directory,
      hint: 'name another directory with --dir',
    })
  }
  if (names.includes(CLUSTER_FILE)) return readClusterFile(files, directory)
  const foreign = names.find(name => !BEGINNINGS.has(name))
  if (foreign === undefined) return null
  throw new StellwerkError(
    'foreign-state',
    `the directory is not a cluster's: it has "${foreign}", but no ${CLUSTER_FILE}`,
    {
      where: directory,
      hint: 'name another directory with --dir',
    },
  )
}

function unreadable(directory: string, error: unknown): StellwerkError {
  const code = errorCode(error)
  return new StellwerkError(code, `the directory can't be looked into: ${code}`, {
    where: directory,
    hint: 'name another directory with --dir, or see who may read it',
    cause: error,
  })
}

/** The cluster there. Throws `no-cluster` too. */
export async function clusterIn(directory: string): Promise<ClusterFile> {
  const cluster = await lookInto(directory)
  if (cluster !== null) return cluster
  throw new StellwerkError('no-cluster', 'there is no cluster', {
    where: directory,
    hint: 'start one: npx stellwerk up; or name its directory with --dir or STELLWERK_DIR',
  })
}

export async function tokenIn(directory: string, file: string): Promise<string> {
  const token = await readToken(filesOf(directory), file)
  if (token !== null) return token
  throw new StellwerkError('no-cluster', 'the cluster has no such token: it was never started', {
    where: join(directory, file),
    hint: 'start it: npx stellwerk up',
  })
}

export async function apiOf(directory: string): Promise<ApiClient> {
  const cluster = await clusterIn(directory)
  const token = await tokenIn(directory, API_TOKEN_FILE)
  return new ApiClient({ host: cluster.address, port: cluster.coordinator.apiPort, token })
}
