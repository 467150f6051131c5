// What the owner is asked and what it answers: the message family's types, as unions the core can switch over.

import type { Body, ReplyBody } from '@stellwerk/protocol/messages/family.ts'
import type { volumeFamily } from '@stellwerk/protocol/messages/volume.ts'

type Messages = (typeof volumeFamily)['messages']
export type VolumeKind = keyof Messages & string
export type VolumeBody<K extends VolumeKind> = Body<Messages, K>
export type VolumeReply<K extends VolumeKind> = ReplyBody<Messages, K>
export type VolumeRequest = { [K in VolumeKind]: { readonly kind: K; readonly body: VolumeBody<K> } }[VolumeKind]

/**
 * How a host asks the owner of a volume, whoever that is by now. Rejects with a StellwerkError: one of the refusals
 * (refusal.ts), or whatever kept the answer away; then the same request may be sent again.
 */
export type OwnerCall = <K extends VolumeKind>(kind: K, body: VolumeBody<K>) => Promise<VolumeReply<K>>
