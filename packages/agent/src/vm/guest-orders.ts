// What operators ask of a guest: that it read a line or keys, and that it begin anew.

import type { Message } from '@stellwerk/runtime/actors/message.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { Machine } from '../hypervisor/hypervisor.ts'
import { beingSwitched, standsStill } from '../hypervisor/refusals.ts'
import type { Evidence } from './evidence.ts'
import { obeyFileOrder } from './file-orders.ts'
import type { Phase } from './vm-phase.ts'

export interface InputOrder {
  readonly vm: string
  readonly line: string
}

export interface KeysOrder {
  readonly vm: string
  /** For which life of the guest they were typed. */
  readonly life?: string
  readonly bytes: Uint8Array
}

/** For the guest's console. Throws `not-running`: nobody would read it, `migrating`, `console-busy`; of keys what `giveKeys` does. */
export function giveInput(order: InputOrder | KeysOrder, machine: Machine | null, phase: Phase): object {
  const { vm } = order
  // It is about to read here, and nobody does yet.
  if (phase === 'incoming') throw beingSwitched(vm)
  if (machine === null || phase === 'stopping') {
    throw new StellwerkError('not-running', `VM "${vm}" is ${phase} here`, { hint: `see: stellwerk vm show ${vm}` })
  }
  // It would read nothing of it if it went on elsewhere.
  if (phase === 'released') throw beingSwitched(vm)
  if ('bytes' in order) return giveKeys(order, machine, phase)
  machine.input(order.line)
  return {}
}

/** Throws `no-terminal`; `other-life`: they were typed for a guest that has ended; `standing-still`. */
function giveKeys({ vm, life, bytes }: KeysOrder, { port }: Machine, phase: Phase): object {
  if (port === undefined) {
    throw new StellwerkError('no-terminal', `VM "${vm}" has no serial port: it takes lines only`, {
      hint: `pipe them: echo LINE | stellwerk vm console ${vm}`,
    })
  }
  if (life !== undefined && life !== port.life) {
    throw new StellwerkError('other-life', `VM "${vm}" has begun anew since`, { hint: 'type it again' })
  }
  // Whoever types is there to hear of it, as whoever gives a line may not be.
  if (phase === 'frozen') throw standsStill(vm)
  port.type(bytes)
  return { life: port.life }
}

export interface ResetOrder {
  readonly vm: string
  readonly epoch: number
}

/** Resolves when its guest begins anew. Throws `stale-order`, `not-running`, `migrating`, `no-reset`. */
export async function resetGuest(
  order: ResetOrder,
  machine: Machine | null,
  is: { readonly epoch: number; readonly phase: Phase },
  evidence: Evidence,
): Promise<void> {
  const refuse = (code: string, why: string, hint: string): never => {
    throw new StellwerkError(code, `VM "${order.vm}" ${why}`, { hint })
  }
  if (order.epoch !== is.epoch) refuse('stale-order', `is here at placement epoch ${is.epoch}`, 'try again')
  if (is.phase === 'released') throw beingSwitched(order.vm)
  if (machine === null || (is.phase !== 'running' && is.phase !== 'frozen')) {
    return refuse('not-running', `is ${is.phase} here`, `see: stellwerk vm show ${order.vm}`)
  }
  if (machine.reset === undefined) {
    return refuse('no-reset', 'has no reset line', `stop and start it: stellwerk vm stop ${order.vm}`)
  }
  await machine.reset(() => evidence.reset())
}

/** An order that takes a while; gives its answer. */
export function obeyGuestOrder(
  message: Pick<Message, 'kind' | 'body'>,
  machine: Machine | null,
  is: { readonly epoch: number; readonly phase: Phase },
  evidence: Evidence,
): Promise<object> {
  if (message.kind !== 'vm.reset') return obeyFileOrder(message, machine, is.epoch)
  return resetGuest(message.body as ResetOrder, machine, is, evidence).then(() => ({}))
}
