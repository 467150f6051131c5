// Whether an order to start or receive a VM is for this agent as it is now: what is late or meant for another is refused.

import type { VmOrder } from '@stellwerk/protocol/messages/cluster.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'

export interface Here {
  readonly host: string
  readonly incarnation: number
  /** Null: fenced. */
  readonly epoch: number | null
  /** The agent is being stopped. */
  readonly stopping: boolean
  /** The newest placement epoch seen of the VM. */
  readonly seen: number
  /** An instance of it is here. */
  readonly alive: boolean
}

/** An order is for one host epoch, one incarnation, and no older than what was seen of this VM. */
export function admitOrder(order: VmOrder, here: Here): void {
  const refuse = (code: string, why: string): never => {
    throw new StellwerkError(code, `VM "${order.vm}" at placement epoch ${order.epoch}: ${why}`, { where: here.host })
  }
  if (order.incarnation !== here.incarnation) refuse('wrong-incarnation', `meant for incarnation ${order.incarnation}`)
  if (order.hostEpoch !== here.epoch) refuse('wrong-epoch', `meant for epoch ${order.hostEpoch}`)
  if (here.stopping) refuse('stopping', 'this agent is being stopped')
  if (order.epoch <= here.seen) refuse('stale-order', 'a newer placement was seen here')
  if (here.alive) refuse('busy', 'an older instance is still here')
}
