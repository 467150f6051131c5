// What a route of the HTTP API is: schemas and a handler. Server, checks and the OpenAPI document all come from these.

import type { Static, TObject, TSchema } from '@stellwerk/protocol/schema/typebox.js'
import type { Environment } from '@stellwerk/runtime/environment.ts'
import type { Coordinator } from '../coordinator.ts'
import type { VmSpec } from '../core/state.ts'
import type { EventLog } from './event-log.ts'
import type { UsageCache } from './usage-cache.ts'

/** What this coordinator's machine offers besides: `up` starts hosts here, a coordinator by itself does not. */
export interface Hooks {
  /** Starts the host on this machine, new or stopped. */
  readonly addHost?: (name: string) => Promise<object>
  /** Throws why no host could run it, as far as the definition shows. */
  readonly checkDefinition?: (vm: string, spec: VmSpec, disks: number, nics: number) => void
  /** Throws what is wrong with a guest's file, or with such a machine for it. */
  readonly checkGuest?: (module: Uint8Array, vm: string, spec: VmSpec) => Promise<void>
}

export interface ApiContext {
  readonly env: Environment
  readonly coordinator: Coordinator
  readonly events: EventLog
  readonly usage: UsageCache
  readonly hooks: Hooks
}

export interface Route {
  readonly method: 'GET' | 'POST' | 'DELETE'
  /** `/v1/vms/{name}`. */
  readonly path: string
  readonly summary: string
  /** Of the success; default 200. */
  readonly status?: number
  readonly query?: TObject
  readonly body?: TObject
  /** Of the request; without it the server's. */
  readonly bodyMaxBytes?: number
  readonly reply: TSchema
  /** The reply is a stream of events. */
  readonly stream?: true
  handle(context: ApiContext, request: RouteRequest): Promise<unknown> | unknown
}

export interface RouteRequest {
  readonly params: { readonly [name: string]: string }
  readonly query: { readonly [name: string]: string | undefined }
  readonly body: never
}

/** Types a route's body by its schema. */
export function route<B extends TObject>(
  spec: Omit<Route, 'handle' | 'body'> & {
    readonly body?: B
    readonly handle: (
      context: ApiContext,
      request: Omit<RouteRequest, 'body'> & { readonly body: Static<B> },
    ) => Promise<unknown> | unknown
  },
): Route {
  return spec as unknown as Route
}
