// What a guest's agent says of its guest, as it is told on: trimmed to what is understood, since anything may stand there.

import { ADDRESSES_MAX, type GuestFacts, INTERFACES_MAX } from '@stellwerk/protocol/messages/guest-agent.ts'
import type { Json } from '@stellwerk/runtime/environment.ts'
import { isRecord } from './agent-channel.ts'

const WORD_MAX = 64
const WORDS_MAX = 128
/** Looked at: one with hundreds of interfaces may have what leads somewhere at the end. */
const LOOKED_AT_MAX = 1_024
const MAC = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/
const ADDRESS = /^(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f:.]*:[0-9a-f:.]*)$/
/** Of the guest to itself, and of every interface to its own wire. */
const LEADS_NOWHERE = /^(?:127\.|::1$|::$|0\.0\.0\.0$|fe[89ab][0-9a-f]:)/
/** What a terminal would obey, or show otherwise than it stands there. */
const UNSEEN = /[\p{C}\p{Zl}\p{Zp}]/gu

/** Each as the agent has answered; null: it has refused. */
export interface AgentAnswers {
  /** guest-info */
  readonly info: Json
  /** guest-get-host-name */
  readonly hostName: Json
  /** guest-get-osinfo */
  readonly os: Json
  /** guest-network-get-interfaces */
  readonly interfaces: Json
}

export function guestFacts({ info, hostName, os, interfaces }: AgentAnswers): GuestFacts {
  return {
    version: field(info, 'version', WORD_MAX),
    hostName: field(hostName, 'host-name', WORDS_MAX),
    os: osOf(os),
    interfaces: (Array.isArray(interfaces) ? interfaces : [])
      .slice(0, LOOKED_AT_MAX)
      .flatMap(interfaceOf)
      .slice(0, INTERFACES_MAX),
  }
}

function osOf(os: Json): string | null {
  const name = field(os, 'pretty-name', WORDS_MAX) ?? field(os, 'name', WORDS_MAX)
  const kernel = field(os, 'kernel-release', WORDS_MAX)
  return name ?? (kernel === null ? null : `kernel ${kernel}`.slice(0, WORDS_MAX))
}

function interfaceOf(told: Json): GuestFacts['interfaces'] {
  const name = field(told, 'name', WORD_MAX)
  if (name === null || !isRecord(told)) return []
  const mac = field(told, 'hardware-address', WORD_MAX)?.toLowerCase() ?? ''
  const list = told['ip-addresses']
  const addresses = (Array.isArray(list) ? list.slice(0, LOOKED_AT_MAX) : []).flatMap(each => {
    const address = field(each, 'ip-address', WORD_MAX)?.toLowerCase() ?? ''
    return ADDRESS.test(address) && !LEADS_NOWHERE.test(address) ? [address] : []
  })
  if (addresses.length === 0) return []
  return [{ name, mac: MAC.test(mac) ? mac : null, addresses: addresses.slice(0, ADDRESSES_MAX) }]
}

function field(of: Json, name: string, max: number): string | null {
  const value = isRecord(of) ? of[name] : undefined
  if (typeof value !== 'string') return null
  const text = seen(value, max)
  return text === '' ? null : text
}

/** As much of what a guest says, without what a terminal would obey. */
export function seen(text: string, max: number): string {
  return text.slice(0, max).replace(UNSEEN, '').trim()
}
