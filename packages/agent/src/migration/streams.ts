// The bulk links of migrations. The target dials the source's agent, says which migration it is, and from then on the link
// is a byte stream.

import { bulkStream } from '@stellwerk/protocol/bulk-stream.ts'
import { migrationFamily } from '@stellwerk/protocol/messages/migration.ts'
import type { Identity, Session } from '@stellwerk/protocol/session.ts'
import { dialSession } from '@stellwerk/protocol/session-handshake.ts'
import type { Address, ByteStream, Environment } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { MigrationStreams } from '../vm/vm-parts.ts'

/** What the source may take to answer that it expects the migration. */
const OPEN_MS = 5_000

export class BulkStreams implements MigrationStreams {
  readonly #env: Environment
  readonly #identity: Identity
  readonly #expected = new Map<string, (stream: ByteStream) => void>()

  constructor(env: Environment, identity: Identity) {
    this.#env = env
    this.#identity = identity
  }

  expect(migration: string, linked: (stream: ByteStream) => void): void {
    this.#expected.set(migration, linked)
  }

  forget(migration: string): void {
    this.#expected.delete(migration)
  }

  async open(migration: string, source: Address): Promise<ByteStream> {
    const session = await dialSession(this.#env, source, 'bulk', this.#identity)
    const body = { migration, host: this.#identity.node }
    // With a callback: the first bytes may come right behind the answer, and are no message.
    return new Promise((resolve, reject) => {
      session.requestWith('migration.open', body, OPEN_MS, {}, error => {
        if (error === null) resolve(bulkStream(session))
        else {
          session.close('closed', 'the migration was not expected')
          reject(error)
        }
      })
    })
  }

  /** A bulk session that a target has opened. */
  accept(session: Session): void {
    session.onMessage((envelope, reply) => {
      if (envelope.kind !== 'migration.open') {
        reply.fail(new StellwerkError('protocol-error', `a bulk link begins with migration.open, not ${envelope.kind}`))
        return
      }
      const { migration } = migrationFamily.body('migration.open', envelope)
      const linked = this.#expected.get(migration)
      if (linked === undefined) {
        reply.fail(
          new StellwerkError('unknown-migration', `migration ${migration} is not expected here`, { retryable: true }),
        )
        return
      }
      this.#expected.delete(migration)
      reply.ok({})
      linked(bulkStream(session))
    })
  }
}
