// What a coordinator refuses a host for that will not pass by itself: a configuration that names the wrong cluster, token,
// host or version. Whoever started the host is to be told, instead of an agent that asks for ever and serves nobody.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'

const HINTS: ReadonlyMap<string, string> = new Map([
  ['wrong-cluster', "name the coordinator's cluster in the configuration, or the address of the right coordinator"],
  ['bad-credential', "put the cluster's join token (the coordinator's `token`) into the configuration"],
  ['version-mismatch', 'run the same version of Stellwerk on all machines'],
  ['wrong-role', "the address is not a coordinator's: correct `coordinator` in the configuration"],
  ['bad-host-name', 'give it another name: `host` in the configuration'],
  ['foreign-guardian', 'nothing was started under this name; see: stellwerk host list'],
])

/** The same error with what to do about it, or null where trying again may help. */
export function finalRefusal(error: StellwerkError): StellwerkError | null {
  const hint = HINTS.get(error.code)
  if (hint === undefined) return null
  return new StellwerkError(error.code, error.message, {
    ...(error.where === undefined ? {} : { where: error.where }),
    hint,
    cause: error,
  })
}
