// Faults of what lies between hosts and storage: HBAs, portals, whole fabrics, the link that carries others' blocks, and the
// host that carries them. They last long enough that redirection is not just begun but lived with.

import type { FaultContext, FaultKind } from './faults.ts'
import { insist } from './operator-word.ts'
import { FABRICS, PORT } from './world.ts'

/** How often one that is aimed looks whether its moment has come: some phases are over within a millisecond. */
const LOOK_MS = 0.25

/** A cable is pulled: nothing passes any more, and what was connected is reset at once or notices in time. */
function pulled(
  { world, host, random }: FaultContext,
  storages: readonly string[],
  fabrics: typeof FABRICS,
): () => void {
  const cut = world.sim.network.cut(host, storages, { network: fabrics })
  const match = { from: host, to: storages, bothWays: true, network: fabrics }
  if (random.chance(0.5)) world.sim.network.reset(match)
  return () => cut.heal()
}

const giveBack = ({ world, host }: FaultContext, fabric: string): void =>
  insist(world, { kind: 'path-enable', host, fabric }, 'not-disabled')

export const PATH_FAULTS: readonly FaultKind[] = [
  {
    name: 'hba-dead',
    lasts: [2_000, 30_000],
    begin: context => pulled(context, context.world.options.storages, [FABRICS[context.random.int(2)]!]),
  },
  {
    name: 'hbas-dead',
    lasts: [4_000, 35_000],
    begin: context => pulled(context, context.world.options.storages, FABRICS),
  },
  {
    name: 'paths-lost',
    lasts: [4_000, 35_000],
    begin: context => pulled(context, [context.storage], FABRICS),
  },
  {
    // All paths are black holes: nobody is told anything.
    name: 'paths-clogged',
    lasts: [3_000, 25_000],
    begin: ({ world, host, storage }) => {
      const clog = world.sim.network.clog({ from: host, to: storage, bothWays: true, network: FABRICS })
      return () => clog.heal()
    },
  },
  {
    // Answers, but late; mostly on one fabric, so that its sibling shows it.
    name: 'path-slow',
    lasts: [3_000, 25_000],
    begin: ({ world, host, storage, random }) => {
      const network = random.chance(0.7) ? [FABRICS[random.int(2)]!] : FABRICS
      const match = { from: host, to: storage, bothWays: true, network, class: 'stream' } as const
      const slow = world.sim.network.slow(match, { delayMs: 20 + random.int(400), jitterMs: 20 })
      return () => slow.heal()
    },
  },
  {
    name: 'portal-down',
    lasts: [2_000, 20_000],
    begin: ({ world, storage, random }) => {
      const network = FABRICS[random.int(2)]!
      const match = { to: storage, network, port: PORT.nbd, class: 'stream' } as const
      const refused = world.sim.network.refuseDials(match)
      world.sim.network.reset({ ...match, bothWays: true })
      return () => refused.heal()
    },
  },
  {
    name: 'fabric-down',
    lasts: [2_000, 20_000],
    begin: ({ world, random }) => {
      const { hosts, storages } = world.options
      const cut = world.sim.network.cut(hosts, storages, { network: FABRICS[random.int(2)]! })
      return () => cut.heal()
    },
  },
  {
    name: 'fabrics-disabled',
    lasts: [3_000, 25_000],
    mayMiss: true,
    begin: context => {
      const { world, host, random, struck } = context
      if (world.coordinator !== null) struck()
      const fabrics = random.chance(0.7) ? FABRICS : [FABRICS[random.int(2)]!]
      for (const fabric of fabrics) world.command({ kind: 'path-disable', host, fabric })
      return () => {
        for (const fabric of fabrics) giveBack(context, fabric)
      }
    },
  },
  {
    name: 'io-links-slow',
    lasts: [3_000, 20_000],
    begin: ({ world, host, random }) => {
      const match = { from: host, bothWays: true, class: 'io' } as const
      const fault = random.chance(0.3)
        ? world.sim.network.clog(match)
        : world.sim.network.slow(match, { delayMs: 5 + random.int(200), jitterMs: 50, loss: random.float() * 0.2 })
      return () => fault.heal()
    },
  },
  {
    name: 'io-links-reset',
    lasts: [1, 50],
    begin: ({ world, host }) => {
      world.sim.network.reset({ from: host, bothWays: true, class: 'io' })
      return () => undefined
    },
  },
  {
    // A host loses its paths, and then whoever carries its requests loses his life, his wits, or his own paths.
    name: 'carrier-lost',
    lasts: [5_000, 25_000],
    mayMiss: true,
    waits: true,
    begin: context => {
      const { world, host, storage, random, struck, inPhase } = context
      const mend = [pulled(context, [storage], FABRICS)]
      let over = false
      const strike = (): void => {
        if (over) return
        const carrier =
          inPhase?.() === false
            ? undefined
            : world.options.hosts.find(name => world.agent(name)?.carried.some(each => each.host === host))
        if (carrier === undefined) {
          if (inPhase !== null) world.sim.after(LOOK_MS, strike)
          return
        }
        struck()
        const how = random.int(4)
        if (how === 0) world.sim.host(carrier).process(`${carrier}/agent`)?.kill()
        else if (how === 1) world.sim.host(carrier).crash({ unsynced: 'torn' })
        else if (how === 2) mend.push(pulled({ ...context, host: carrier }, [storage], FABRICS))
        else {
          const agent = world.sim.host(carrier).process(`${carrier}/agent`)
          agent?.pause()
          mend.push(() => agent?.resume())
        }
        mend.push(() => world.startHost(carrier))
      }
      world.sim.after(500 + random.float() * 2_500, strike)
      return () => {
        over = true
        for (const each of mend) each()
      }
    },
  },
]
