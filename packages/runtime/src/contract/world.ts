// What a contract suite asks of an implementation: two processes that can reach each other, and a way to run a test in
// them. The suites use nothing but the Environment, so that one text tests the real and the simulated one.

import { present } from '../assert.ts'
import type { Address, ByteStream, Environment, Link, NetworkName } from '../environment.ts'
import { errorCode } from '../errors.ts'

export interface World {
  /** Two processes; on `local` they are on one machine. */
  readonly left: Environment
  readonly right: Environment
  /** Where `left` can listen and `right` can dial it; a fresh one each time. */
  address(network: NetworkName): Address
}

/** Runs a test's body in a fresh world, to its end, and rejects as it does. */
export type RunInWorld = (body: (world: World) => Promise<void>) => Promise<void>

/** How long anything in a contract may take on the environment's clock. */
export const CONTRACT_TIMEOUT_MS = 20_000
const POLL_MS = 2

export function sleep(env: Environment, ms: number): Promise<void> {
  return new Promise(resolve => env.timers.after(ms, resolve))
}

/** Waits until the predicate holds. */
export async function until(env: Environment, what: string, predicate: () => boolean): Promise<void> {
  const end = env.clock.now() + CONTRACT_TIMEOUT_MS
  while (!predicate()) {
    if (env.clock.now() > end) throw new Error(`waited ${CONTRACT_TIMEOUT_MS} ms for: ${what}`)
    await sleep(env, POLL_MS)
  }
}

/** The code a promise rejects with, or `none`. */
export function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'none',
    error => errorCode(error),
  )
}

/** A connected pair of links; `left` listened. */
export async function linkPair(world: World, network: NetworkName = 'cluster') {
  const accepted: Link[] = []
  const listener = await world.left.network.listen(world.address(network), link => {
    accepted.push(link)
  })
  const right = await world.right.network.dial(listener.address, 'io')
  await until(world.left, 'the link is accepted', () => accepted.length === 1)
  return { listener, left: present(accepted[0], 'the link'), right }
}

/** A connected pair of streams; `left` listened. */
export async function streamPair(world: World, network: NetworkName = 'fabric-0') {
  const accepted: ByteStream[] = []
  const listener = await world.left.network.listenStream(world.address(network), stream => {
    accepted.push(stream)
  })
  const right = await world.right.network.dialStream(listener.address)
  await until(world.left, 'the stream is accepted', () => accepted.length === 1)
  return { listener, left: present(accepted[0], 'the stream'), right }
}
