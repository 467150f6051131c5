// A port of this host that leads viewers to the screen of a machine. Only bytes are passed on: the machine's own server speaks
// with the viewers (RFB, RFC 6143).

import type { ByteStream, Environment } from '@stellwerk/runtime/environment.ts'
import { describeError, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { joinStreams } from '../join-streams.ts'
import type { Listening } from './gateway.ts'

/** Of one way at once. */
export const VIEWERS_MAX = 16

export interface ScreenRelayOptions {
  readonly env: Pick<Environment, 'network' | 'timers' | 'log'>
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
  /** With what ends each. */
  const viewers = new Map<ByteStream, () => void>()
  let isOver = false
  /** One after the other: QEMU lets few wait. */
  let admitting: Promise<unknown> = Promise.resolve()
  const admit = async (viewer: ByteStream): Promise<void> => {
    const screen = await dial()
    // It, or the way, has gone meanwhile.
    if (!viewers.has(viewer) || isOver) {
      screen.destroy()
      return
    }
    const { drop } = joinStreams(viewer, screen, env.timers, () => viewers.delete(viewer))
    viewers.set(viewer, drop)
    viewer.resume()
  }
  const turnAway = (viewer: ByteStream, error: unknown): void => {
    env.log.info({ vm }, `a viewer is turned away: ${describeError(error)}`)
    viewers.delete(viewer)
    viewer.destroy()
  }
  const address = { network: 'cluster', ...listen } as const
  const listener = await env.network.listenStream(address, viewer => {
    if (viewers.size >= VIEWERS_MAX) {
      turnAway(viewer, new StellwerkError('busy', `${VIEWERS_MAX} look at it already`))
      return
    }
    viewers.set(viewer, () => viewer.destroy())
    viewer.onClose(() => viewers.delete(viewer))
    // What it says before the screen is there waits.
    viewer.pause()
    admitting = admitting.then(() => admit(viewer)).catch((error: unknown) => turnAway(viewer, error))
  })
  return {
    listening: { host: listen.host, port: listener.address.port },
    close: async () => {
      isOver = true
      for (const end of [...viewers.values()]) end()
      await listener.close()
    },
  }
}
