// What plans can be run on. A target is made for one run; making it starts nothing.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { ChaosCluster, ChaosTarget } from './target.ts'

export interface TargetOptions {
  /** Asked at the end, of real processes: whether their logs and traces stay where they are. */
  readonly keep: () => boolean
  readonly say: (line: string) => void
}

type Maker = (cluster: ChaosCluster, options: TargetOptions) => Promise<ChaosTarget>

/** Loaded when asked for: who runs a plan in the simulator needs no containers. */
export const TARGETS: { readonly [kind in ChaosTarget['kind']]: Maker } = {
  sim: async cluster => new (await import('./sim/sim-target.ts')).SimTarget(cluster),
  local: async (_, options) => new (await import('./local/local-target.ts')).LocalTarget(options),
  compose: async (_, options) => (await import('./compose/compose-target.ts')).ComposeTarget.open(options),
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
