// What is told of QEMU's events, and what is only counted.

import { expect, test } from 'vitest'
import type { MachineNotice } from '../hypervisor.ts'
import { Notices } from './notices.ts'
import type { QmpEvent } from './qmp.ts'

function bench() {
  let now = 0
  const told: MachineNotice[] = []
  const notices = new Notices({ now: () => now, wall: () => now }, notice => told.push(notice))
  return {
    told,
    pass: (ms: number) => {
      now += ms
    },
    hear: (event: string, times = 1, data: QmpEvent['data'] = {}) => {
      for (let n = 0; n < times; n++) notices.heard({ event, data })
    },
  }
}

test('an event is told with its data', () => {
  const { told, hear } = bench()
  hear('RESET', 1, { guest: true, reason: 'guest-reset' })
  expect(told).toEqual([{ kind: 'notice', event: 'RESET', data: { guest: true, reason: 'guest-reset' }, missed: 0 }])
})

test('of a chatty kind eight a second are told, the rest is counted and told with the next; others are heard meanwhile', () => {
  const { told, hear, pass } = bench()
  hear('RTC_CHANGE', 1_000, { offset: 1 })
  hear('STOP')
  expect(told.map(({ event }) => event)).toEqual([...Array<string>(8).fill('RTC_CHANGE'), 'STOP'])
  pass(1_000)
  hear('RTC_CHANGE', 2, { offset: 2 })
  expect(told.slice(9)).toMatchObject([{ missed: 992 }, { missed: 0 }])
})

test('of all kinds together no more than 64 a second are told, however they are called', () => {
  const { told, hear, pass } = bench()
  for (let kind = 0; kind < 1_000; kind++) hear(`KIND_${kind}`, 3)
  expect(told).toHaveLength(64)
  pass(1_000)
  hear('KIND_0')
  expect(told.at(-1)).toMatchObject({ event: 'KIND_0', missed: 0 })
  hear('KIND_100')
  expect(told.at(-1)).toMatchObject({ event: 'KIND_100', missed: 3 })
})

test('what is too long is trimmed', () => {
  const { told, hear } = bench()
  hear('X'.repeat(1_000), 1, { text: 'y'.repeat(100_000) })
  expect(told[0]?.event).toHaveLength(64)
  expect(String(told[0]?.data['trimmed'])).toMatch(/^\{"text":"y+$/)
  expect(JSON.stringify(told[0]).length).toBeLessThan(1_400)
})
