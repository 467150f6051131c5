// Which of a set's connections are black holes though the probes, which go another way, are answered: a firewall or a cable that
// lets one of them through. A request that takes long is no sign of it. So where one is past its time a small read is sent after it,
// there and on each other connection. A stream keeps its order: one on which the read is answered still leads to the storage, and
// the request is with its disk. A direct path has failed when its read is not answered within the deadline of a request, and another
// connection's, which was sent no earlier, was. Where none is answered it is the storage. Pure, a part of path-core.ts.

import { canary } from '@stellwerk/runtime/canary.ts'
import type { Path, PathConfig } from './path-state.ts'

/**
 * Keeps what each was asked, by what has been answered: `answered` is, per path, when the last sent of the requests that were
 * answered on its connection was sent; null: none was. Gives those who are to be asked now, of the `usable` ones.
 */
export function whomToAsk(
  paths: readonly Path[],
  answered: readonly (number | null)[],
  usable: (path: Path) => boolean,
  now: number,
): number[] {
  const canTell = (path: Path): boolean => usable(path) && path.badProbes === 0
  const isNeeded = paths.some(path => !path.standby && path.overdue && canTell(path))
  const asked: number[] = []
  paths.forEach((path, index) => {
    if (!isNeeded || !canTell(path)) {
      path.askedAt = null
      return
    }
    if (path.askedAt === null || hasAnswered(path.askedAt, answered[index])) path.askedAt = now
    asked.push(index)
  })
  return asked
}

/** A direct path on which nothing comes back while it does on another; -1: there is none. */
export function findSilent(
  paths: readonly Path[],
  answered: readonly (number | null)[],
  config: PathConfig,
  now: number,
): number {
  return paths.findIndex((path, index) => {
    const since = path.askedAt
    if (canary('silent-path-kept')) return false
    if (path.standby || since === null || !isSilent(path, config, now) || hasAnswered(since, answered[index]))
      return false
    return paths.some(
      (other, at) => at !== index && other.line.kind === 'connected' && hasAnswered(since, answered[at]),
    )
  })
}

/** It was asked, and has not answered in time. */
export function isSilent({ line, askedAt }: Path, { requestDeadlineMs }: PathConfig, now: number): boolean {
  return line.kind === 'connected' && askedAt !== null && now - askedAt > requestDeadlineMs
}

function hasAnswered(askedAt: number, answered: number | null | undefined): boolean {
  return answered != null && answered >= askedAt
}
