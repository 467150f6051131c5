// Before a volume is made on an external storage, one of the hosts that reach it looks at the export: what it lacks is said to
// whoever asked. The core has it looked at again before the volume is laid out.

import type { CheckExport } from '@stellwerk/protocol/messages/cluster.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { Coordinator } from '../coordinator.ts'
import { isExternal } from '../core/external.ts'
import { usableHosts } from '../core/hosts.ts'

/** Throws what keeps the export from being a leg. A storage that is not external is not looked at. */
export async function checkExport(
  { state, askAgent }: Pick<Coordinator, 'state' | 'askAgent'>,
  storage: string,
  wanted: Omit<CheckExport, 'storage'>,
): Promise<void> {
  if (!isExternal(state, storage)) return
  const hosts = usableHosts(state).map(({ name }) => name)
  const near = hosts.find(host => state.liveHosts.get(host)?.reachableStorages.includes(storage)) ?? hosts[0]
  if (near === undefined) {
    throw new StellwerkError('no-host', `no host is up that could look at storage "${storage}"`, {
      retryable: true,
      hint: 'see: stellwerk host list',
    })
  }
  await askAgent(near, 'storage.check-export', { storage, ...wanted } satisfies CheckExport)
}
