// How a session comes to be: hello, then welcome or refused, within a deadline. Nobody who lacks the cluster's join token
// gets further than one small frame.
import { createHash, timingSafeEqual } from 'node:crypto'
import { LINK_FRAME_MAX_BYTES } from '@stellwerk/runtime/credited-link.ts'
import type { Address, Environment, Link, LinkClass, Listener } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { createCodec } from './codec.ts'
import type { Envelope } from './envelope.ts'
import { registry as sharedRegistry } from './messages/family.ts'
import { type Hello, handshake, type Refused } from './messages/handshake.ts'
import { type Identity, Session, type SessionOptions } from './session.ts'
import { SessionPort } from './session-port.ts'
import { negotiate, OUR_VERSIONS, type VersionRange } from './versions.ts'

export const HANDSHAKE_MS = 5000
/** A stranger's first frame is no larger than this. */
export const MAX_HANDSHAKE_BYTES = 8192

/** What the admitting side is asked: the hello without its secret. */
export type Introduction = Omit<Hello, 'credential'> & { readonly address: string; readonly class: LinkClass }

export type Admission =
  | { readonly ok: true }
  | { readonly ok: false; readonly code: string; readonly message: string; readonly retryable?: boolean }

export interface HandshakeOptions extends SessionOptions {
  readonly handshakeMs?: number
  /** How long the other machine may take to accept the connection; as long as the handshake, if nothing is said. */
  readonly connectMs?: number
  /** For tests of negotiation. */
  readonly versions?: VersionRange
}

/** Rejects with the dial's error, `handshake-timeout`, `link-lost`, or the code the other side refused with. */
export async function dialSession(
  env: Environment,
  address: Address,
  linkClass: LinkClass,
  identity: Identity,
  options: HandshakeOptions = {},
): Promise<Session> {
  const timeoutMs = options.handshakeMs ?? HANDSHAKE_MS
  const { connectMs = timeoutMs } = options
  const link = await env.network.dial(address, linkClass, { timeoutMs, connectMs })
  return greet(env, link, identity, options)
}

/** The dialling side's half, on a link that exists. */
export function greet(
  env: Environment,
  link: Link,
  identity: Identity,
  options: HandshakeOptions = {},
): Promise<Session> {
  const versions = options.versions ?? OUR_VERSIONS
  return exchange(env, link, options, {
    open: send => {
      const { cluster, node, role, incarnation, guardian, credential } = identity
      const who = { cluster, node, role, incarnation, ...(guardian === undefined ? {} : { guardian }) }
      send('session.hello', { ...who, versions, credential } satisfies Hello)
    },
    answer: envelope => {
      if (envelope.kind === 'session.refused') {
        const { code, message, retryable } = handshake.body('session.refused', envelope)
        throw new StellwerkError(code, `refused: ${message}`, { where: link.peer, retryable })
      }
      if (envelope.kind !== 'session.welcome') throw unexpected(envelope)
      const { cluster, node, role, incarnation, version } = handshake.body('session.welcome', envelope)
      if (cluster !== identity.cluster) throw wrongCluster(identity.cluster, cluster)
      if (version > versions.current || version < versions.minimum) {
        throw new StellwerkError('version-mismatch', `the other side chose version ${version}`, { where: link.peer })
      }
      env.trace.observe(envelope.hlc)
      return { self: identity.node, peer: { node, role, incarnation, address: link.peer }, version }
    },
  })
}

/**
 * The dialled side's half: call it before the listener's `accept` returns. `admit` decides on who has shown the token;
 * rejects when there will be no session, with why (the other side has been told).
 */
export function acceptSession(
  env: Environment,
  link: Link,
  identity: Identity,
  admit: (who: Introduction) => Admission,
  options: HandshakeOptions = {},
): Promise<Session> {
  return exchange(env, link, options, {
    open: () => undefined,
    answer: (envelope, send) => {
      if (envelope.kind !== 'session.hello') throw unexpected(envelope)
      const hello = handshake.body('session.hello', envelope)
      const decision = judge(hello, identity, link, admit, options.versions ?? OUR_VERSIONS)
      if (decision instanceof StellwerkError) {
        const { code, message, retryable } = decision
        send('session.refused', { code, message: message.slice(0, 2000), retryable } satisfies Refused)
        throw decision
      }
      // Only now: a stranger must not move our clock.
      env.trace.observe(envelope.hlc)
      const { cluster, node, role, incarnation } = identity
      send('session.welcome', { cluster, node, role, incarnation, version: decision.version })
      const peer = { node: hello.node, role: hello.role, incarnation: hello.incarnation, address: link.peer }
      return { self: identity.node, peer, version: decision.version }
    },
  })
}

/** Listens and greets: `onSession` gets each session before any of its messages is delivered. */
export function listenSessions(
  env: Environment,
  address: Address,
  identity: Identity,
  admit: (who: Introduction) => Admission,
  onSession: (session: Session) => void,
  options: HandshakeOptions = {},
): Promise<Listener> {
  return env.network.listen(address, link => {
    acceptSession(env, link, identity, admit, options).then(onSession, (error: unknown) => {
      if (!(error instanceof StellwerkError)) throw error
      env.log.warn({ peer: link.peer, code: errorCode(error) }, `no session: ${errorMessage(error)}`)
    })
  })
}

function judge(
  hello: Hello,
  identity: Identity,
  link: Link,
  admit: (who: Introduction) => Admission,
  versions: VersionRange,
): StellwerkError | { readonly version: number } {
  if (hello.cluster !== identity.cluster) return wrongCluster(identity.cluster, hello.cluster)
  if (!sameSecret(hello.credential, identity.credential)) {
    return new StellwerkError('bad-credential', 'the join token is not this cluster’s', { where: link.peer })
  }
  let version: number
  try {
    version = negotiate(versions, hello.versions)
  } catch (error) {
    if (error instanceof StellwerkError) return error
    throw error
  }
  const { credential: _secret, ...rest } = hello
  const admission = admit({ ...rest, address: link.peer, class: link.class })
  if (admission.ok) return { version }
  return new StellwerkError(admission.code, admission.message, {
    where: link.peer,
    retryable: admission.retryable ?? false,
  })
}

/** Takes the same time wherever the two differ, and whatever their lengths. */
function sameSecret(a: string, b: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(a), digest(b))
}

interface Half {
  open(send: (kind: string, body: unknown) => void): void
  answer(
    envelope: Envelope,
    send: (kind: string, body: unknown) => void,
  ): Pick<ConstructorParameters<typeof Session>[0], 'self' | 'peer' | 'version'>
}

function exchange(env: Environment, link: Link, options: HandshakeOptions, half: Half): Promise<Session> {
  return new Promise((resolve, reject) => {
    const registry = options.registry ?? sharedRegistry
    const codec = createCodec({ maxFrameBytes: MAX_HANDSHAKE_BYTES })
    const timeoutMs = options.handshakeMs ?? HANDSHAKE_MS
    let seq = 0
    const send = (kind: string, body: unknown): void => {
      seq += 1
      const { current } = options.versions ?? OUR_VERSIONS
      port.send(codec.encode({ v: current, kind, from: env.name, to: link.peer, seq, hlc: env.trace.stamp(), body }))
    }
    const fail = (error: unknown): void => {
      timer.cancel()
      port.onClose = () => undefined
      port.close(errorCode(error), errorMessage(error))
      reject(error)
    }
    const port = new SessionPort(
      link,
      frame => {
        try {
          const envelope = codec.decode(frame)
          const agreed = half.answer(envelope, send)
          timer.cancel()
          const sessionCodec = createCodec({ registry, maxFrameBytes: LINK_FRAME_MAX_BYTES[link.class] })
          const { seq: receivedSeq } = envelope
          const rest = { codec: sessionCodec, registry, terms: options.terms, sentSeq: seq, receivedSeq }
          resolve(new Session({ env, port, ...agreed, ...rest }))
        } catch (error) {
          fail(error)
        }
      },
      (code, reason) => {
        timer.cancel()
        reject(
          new StellwerkError('link-lost', `the link went away in the handshake: ${reason || code}`, {
            where: link.peer,
            retryable: true,
          }),
        )
      },
    )
    const timer = env.timers.after(timeoutMs, () => {
      fail(
        new StellwerkError('handshake-timeout', `no handshake within ${timeoutMs} ms`, {
          where: link.peer,
          retryable: true,
        }),
      )
    })
    half.open(send)
  })
}

const unexpected = (envelope: Envelope): StellwerkError =>
  new StellwerkError('protocol-error', `a handshake that begins with ${envelope.kind}`)

const wrongCluster = (ours: string, theirs: string): StellwerkError =>
  new StellwerkError('wrong-cluster', `this is cluster ${ours}, not ${theirs}`)
