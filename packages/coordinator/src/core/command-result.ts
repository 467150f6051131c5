// What a command of an operator comes to: accepted with an answer, or refused with a code, what is wrong, and what to do.

import { NAME_PATTERN } from '@stellwerk/protocol/messages/fields.ts'
import type { Refusal } from './migration.ts'

export type CommandResult =
  | { readonly ok: true; readonly body: object }
  | { readonly ok: false; readonly refusal: Refusal }

export const refuse = (code: string, message: string, hint: string): CommandResult => ({
  ok: false,
  refusal: { code, message, hint },
})

export const accept = (body: object): CommandResult => ({ ok: true, body })

export function badName(what: string, name: string): CommandResult | null {
  if (new RegExp(NAME_PATTERN).test(name)) return null
  return refuse('bad-name', `"${name}" is no name for a ${what}`, 'use letters, digits, ".", "_" and "-", at most 63')
}
