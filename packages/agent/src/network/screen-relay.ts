// A port of this host that leads viewers to the screen of a machine. Only bytes are passed on: the machine's own server speaks
// with the viewers (RFB, RFC 6143).

import type { ByteStream, Environment } from '@stellwerk/runtime/environment.ts'
import { describeError } from '@stellwerk/runtime/errors.ts'
import { joinStreams } from '../redirect/join-streams.ts'
import type { Listening } from './gateway.ts'

export interface ScreenRelayOptions {
  readonly env: Environment
  readonly vm: string
  /** Port 0: any. */
  readonly listen: Listening
  /** Once for each viewer. */
  readonly dial: () => Promise<ByteStream>
}

export interface ScreenRelay {
  readonly listening: Listening
  /** Ends it, and every viewer with it. */
  close(): Promise<void>
}

/** Rejects when there is no screen, or the host's port is taken. */
export async function relayScreen({ env, vm, listen, dial }: ScreenRelayOptions): Promise<ScreenRelay> {
  // Whoever asks for a screen that is not there hears so, and not first his viewer.
  const probe = await dial()
  probe.destroy()
  const viewers = new Set<{ drop(): void }>()
  const admit = async (viewer: ByteStream): Promise<void> => {
    // What it says before the screen is there waits.
    viewer.pause()
    const screen = await dial()
    const joined = joinStreams(viewer, screen, env.timers, () => viewers.delete(joined))
    viewers.add(joined)
    viewer.resume()
  }
  const address = { network: 'cluster', ...listen } as const
  const listener = await env.network.listenStream(address, viewer => {
    admit(viewer).catch((error: unknown) => {
      env.log.info({ vm }, `a viewer finds no screen: ${describeError(error)}`)
      viewer.destroy()
    })
  })
  return {
    listening: { host: listen.host, port: listener.address.port },
    close: async () => {
      for (const viewer of viewers) viewer.drop()
      await listener.close()
    },
  }
}
