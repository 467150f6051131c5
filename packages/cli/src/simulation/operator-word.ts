// An operator's word that must be taken, the coordinator away or not: what it takes back is durable.

import type { Command } from '@stellwerk/coordinator/core/commands.ts'
import type { World } from './world.ts'

/** A command that is refused, or not heard, is given again after this. */
const AGAIN_MS = 500

/** `done`: the refusal that says that it is so already. */
export function insist(world: World, command: Command, done: string): void {
  world.command(command, ({ ok, code }) => {
    if (!ok && code !== done) world.sim.after(AGAIN_MS, () => insist(world, command, done))
  })
}
