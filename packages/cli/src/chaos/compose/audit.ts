// A cluster that serves is looked at through its own words: every guest reads its ledger back from the first entry, and the owners
// of mirrors compare their legs.

import type { ScrubReport } from '@stellwerk/protocol/messages/volume-scrub.ts'
import type { Clock } from '@stellwerk/runtime/environment.ts'
import { errorMessage } from '@stellwerk/runtime/errors.ts'
import { type ApiClient, pathOf } from '../../api-client/client.ts'
import type { Observer } from '../../observer/observer.ts'

const PATIENCE_MS = 120_000
const POLL_MS = 200

interface Looking {
  readonly api: ApiClient
  readonly clock: Clock
  readonly sleep: (ms: number) => Promise<void>
}

/** Stops every guest and starts it again; gives what is missing or damaged, a line each. */
export async function readBackAll(
  looking: Looking & { readonly observer: Observer; readonly vms: readonly string[] },
): Promise<string[]> {
  const { api, observer, vms } = looking
  const boots = new Map(vms.map(vm => [vm, observer.ledger(vm).boots.length]))
  const highest = new Map(vms.map(vm => [vm, observer.ledger(vm).highest]))
  try {
    for (const vm of vms) await api.post(pathOf('vms', vm, 'stop'))
    if (!(await holds(looking, async () => everyVm(await api.status(), vms, 'stopped')))) return ['guests did not stop']
    for (const vm of vms) highest.set(vm, Math.max(highest.get(vm) ?? 0, observer.ledger(vm).highest))
    for (const vm of vms) await api.post(pathOf('vms', vm, 'start'))
    const read = (vm: string): boolean => observer.ledger(vm).boots.length > (boots.get(vm) ?? 0)
    await holds(looking, async () => vms.every(read))
    const found: string[] = []
    for (const vm of vms) {
      const ledger = observer.ledger(vm)
      const boot = ledger.boots.at(-1)
      if (!read(vm) || boot === undefined) found.push(`${vm} did not read its ledger back`)
      else {
        if (!boot.intact) found.push(`${vm} found its ledger damaged`)
        const lost = (highest.get(vm) ?? 0) - boot.entries
        if (lost > 0) found.push(`${vm}: ${lost} acknowledged entries are not on its disk`)
      }
      for (const damage of ledger.complaints) found.push(`${vm} found damage: ${damage}`)
      if (ledger.duplicated > 0) found.push(`${vm}: ${ledger.duplicated} entries came twice`)
    }
    return found
  } catch (error) {
    return [`the guests' ledgers were not read back: ${errorMessage(error)}`]
  }
}

/** Gives where legs differ, a line a volume. */
export async function scrubAll(looking: Looking): Promise<string[]> {
  const { api } = looking
  const found: string[] = []
  try {
    for (const { name, legs } of Object.values((await api.status()).volumes)) {
      if (legs.length < 2) continue
      const path = pathOf('volumes', name, 'scrub')
      const { scrub } = (await api.post(path, {})) as { scrub: string }
      let report: ScrubReport | null = null
      await holds(looking, async () => {
        report = (await api.get(path)) as ScrubReport
        return report.scrub === scrub && report.state !== 'running'
      })
      const seen = report as ScrubReport | null
      if (seen === null || seen.state !== 'done')
        found.push(`volume ${name} was not compared: ${seen?.why ?? 'no answer'}`)
      else if (seen.unresolved + seen.repaired > 0) {
        found.push(`volume ${name}: its legs differed in ${seen.unresolved + seen.repaired} places`)
      }
    }
  } catch (error) {
    found.push(`the legs were not compared: ${errorMessage(error)}`)
  }
  return found
}

function everyVm(
  status: { readonly vms: { readonly [vm: string]: { readonly state: string } } },
  vms: readonly string[],
  state: string,
): boolean {
  return vms.every(vm => status.vms[vm]?.state === state)
}

async function holds({ clock, sleep }: Looking, f: () => Promise<boolean>): Promise<boolean> {
  for (const until = clock.now() + PATIENCE_MS; clock.now() < until; await sleep(POLL_MS)) {
    if (await f().catch(() => false)) return true
  }
  return false
}
