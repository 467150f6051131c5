// Orders about a guest's file systems, which its agent freezes for a snapshot.

import type { FreezeAnswer } from '@stellwerk/protocol/messages/guest-agent.ts'
import type { Message } from '@stellwerk/runtime/actors/message.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { FreezeOrder, GuestFiles, Machine } from '../hypervisor/hypervisor.ts'

interface Order extends FreezeOrder {
  readonly vm: string
  readonly epoch: number
}

/** Rejects with `stale-order`, and with `no-guest-agent` where there can be none. */
export async function obeyFileOrder(
  { kind, body }: Pick<Message, 'kind' | 'body'>,
  machine: Pick<Machine, 'files'> | null,
  epoch: number,
): Promise<FreezeAnswer | { readonly held: boolean }> {
  const order = body as Order
  const files: GuestFiles | undefined = machine?.files
  if (order.epoch !== epoch) {
    throw new StellwerkError('stale-order', `VM "${order.vm}" is here at placement epoch ${epoch}`, {
      hint: 'try again',
    })
  }
  if (files === undefined) {
    throw new StellwerkError('no-guest-agent', `VM "${order.vm}" has no port for an agent in its guest here`, {
      hint: `see: stellwerk vm show ${order.vm}`,
    })
  }
  return kind === 'vm.freeze-files' ? files.freeze(order) : { held: await files.thaw(order.freeze) }
}
