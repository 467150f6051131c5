// What plans can be run on. A target is made for one run; making it starts nothing.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { ChaosCluster, ChaosTarget } from './target.ts'

type Maker = (cluster: ChaosCluster) => Promise<ChaosTarget>

/** Loaded when asked for: who runs a plan in the simulator needs no containers. */
export const TARGETS: { readonly [kind in ChaosTarget['kind']]?: Maker } = {
  sim: async cluster => new (await import('./sim/sim-target.ts')).SimTarget(cluster),
  local: async () => new (await import('./local/local-target.ts')).LocalTarget(),
}

/** Throws `unknown-target`. */
export function targetNamed(name: string): { readonly kind: ChaosTarget['kind']; readonly make: Maker } {
  const make = Object.hasOwn(TARGETS, name) ? TARGETS[name as ChaosTarget['kind']] : undefined
  if (make !== undefined) return { kind: name as ChaosTarget['kind'], make }
  throw new StellwerkError('unknown-target', `plans don’t run on "${name}"`, {
    where: '--on',
    hint: `say ${Object.keys(TARGETS).join(', ')}`,
  })
}
