// A fault in words: for progress lines, schedules and reports.

import type { Fault } from './fault.ts'
import { formatDuration } from './plan/quantity.ts'

/** `host-kill host-a for 8s`. */
export function describeFault(fault: Fault): string {
  const { chance, delayMs, jitterMs, mibPerSecond, byMs } = fault
  const on = hitBy(fault)
  return [
    fault.kind,
    ...(on === '' ? [] : [on]),
    ...(chance === undefined ? [] : [`chance ${chance}`]),
    ...(delayMs === undefined
      ? []
      : [`by ${delayMs} ms${jitterMs === undefined || jitterMs === 0 ? '' : ` and up to ${jitterMs}`}`]),
    ...(mibPerSecond === undefined ? [] : [`at ${mibPerSecond} MiB/s`]),
    ...(byMs === undefined ? [] : [`by ${formatDuration(byMs)}`]),
    `for ${formatDuration(fault.lastsMs)}`,
  ].join(' ')
}

/** Whom or what it hits. */
export function hitBy({ host, peer, storage, fabric, network, oneWay, fabrics }: Fault): string {
  const arrow = oneWay === true ? '→' : '↔'
  const pair = peer === undefined ? host : `${host} ${arrow} ${peer}`
  return [
    ...(pair === undefined ? [] : [pair]),
    ...(storage === undefined ? [] : [storage]),
    ...(fabric === undefined ? [] : [`fabric-${fabric}`]),
    ...(network === undefined ? [] : [network]),
    ...(fabrics === false ? ['(not from storage)'] : []),
  ].join(' ')
}
