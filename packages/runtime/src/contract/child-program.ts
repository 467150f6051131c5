// The program that children run in the processes contract: it does what its parent tells it.

import type { Address, Environment, Json } from '../environment.ts'

export type Order =
  | { readonly do: 'echo'; readonly value: Json }
  | { readonly do: 'exit'; readonly code: number; readonly words: readonly Json[] }
  /** Starts a child of its own, which listens at the address. */
  | { readonly do: 'spawn'; readonly address: Address }

export interface ChildConfig {
  readonly greeting: string
  readonly listen?: Address
}

/** What a child whose parent is gone exits with. */
export const ORPHAN_EXIT_CODE = 3

export async function childProgram(env: Environment, config: Json): Promise<void> {
  const { parent } = env.processes
  if (parent === null) throw new Error('this program is spawned')
  const { greeting, listen } = config as unknown as ChildConfig
  parent.onGone(() => env.processes.exit(ORPHAN_EXIT_CODE))
  parent.onMessage(message => obey(env, message as unknown as Order))
  if (listen !== undefined) await env.network.listen(listen, () => undefined)
  parent.send({ greeting, name: env.name })
}

function obey(env: Environment, order: Order): void {
  const { parent } = env.processes
  switch (order.do) {
    case 'echo':
      parent?.send(order.value)
      return
    case 'exit':
      for (const word of order.words) parent?.send(word)
      env.processes.exit(order.code)
      return
    case 'spawn': {
      const config = { greeting: 'hello', listen: { ...order.address } }
      const child = env.processes.spawn({ program: 'contract-child', name: 'grandchild', config })
      child.onMessage(() => parent?.send({ grandchild: child.pid }))
    }
  }
}
