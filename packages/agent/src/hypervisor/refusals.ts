// Why a machine takes nothing for its guest at this moment. Nothing of it was taken: it may come again.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'

/** On the way to a switch: whatever came then would be lost where the guest does not go on. */
export function beingSwitched(vm: string): StellwerkError {
  const message = `VM "${vm}" is being switched over to another host`
  return new StellwerkError('migrating', message, { hint: 'try again', retryable: true })
}

export function standsStill(vm: string): StellwerkError {
  const message = `VM "${vm}" stands still and reads nothing`
  return new StellwerkError('standing-still', message, { hint: `see why: stellwerk why vm ${vm}`, retryable: true })
}

export function hasEnded(vm: string): StellwerkError {
  return new StellwerkError('not-running', `VM "${vm}" has just ended`, { hint: 'try again', retryable: true })
}

export function consoleBusy(vm: string): StellwerkError {
  const message = `the guest of VM "${vm}" does not read what is typed`
  return new StellwerkError('console-busy', message, { hint: 'try again', retryable: true })
}
