// The faults of one process's environment, all by the rules of one file. Only a process started with the switch has them.

import type { Logger, Random } from '../../environment.ts'
import { DiskFaults } from './disk-faults.ts'
import { FaultFile } from './fault-file.ts'
import { NetworkFaults, type Repeating } from './network-faults.ts'

/** How a process is started with faults. */
export interface FaultSwitch {
  /** The file of the rules, absolute; it need not be there. */
  readonly file: string
  /** An address of this machine that only this node dials from. */
  readonly source: string
}

export interface EnvironmentFaults {
  readonly network: NetworkFaults
  readonly disk: DiskFaults
  /** By how much the wall clock is wrong. */
  wallJumpMs(): number
  close(): void
}

/** `host-a/agent` and `host-a/guardian` are parts of one node: `host-a`. */
export function openFaults(
  name: string,
  { file: path, source }: FaultSwitch,
  { random, log, repeating }: { readonly random: Random; readonly log: Logger; readonly repeating?: Repeating },
): EnvironmentFaults {
  const node = name.split('/')[0] ?? name
  const file = new FaultFile(path, log)
  return {
    network: new NetworkFaults({
      node,
      source,
      file,
      random: random.fork('network-faults'),
      ...(repeating === undefined ? {} : { repeating }),
    }),
    disk: new DiskFaults({ node, file, random: random.fork('disk-faults') }),
    wallJumpMs: () => {
      const { clock } = file.rules
      return clock.length === 0 ? 0 : clock.reduce((sum, rule) => (rule.node === node ? sum + rule.byMs : sum), 0)
    },
    close: () => file.close(),
  }
}
