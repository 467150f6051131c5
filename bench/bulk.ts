// A bulk link beside raw TCP (node:net on both sides), over loopback and in the direction of a migration: the destination
// dials, the source sends frames of 256 KiB. Two processes.

import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { NodeEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { type BenchContext, type Group, sideBySide, withServers } from './lib/group.ts'
import { row } from './lib/rows.ts'
import type { BulkPorts, BulkSourceConfig } from './servers/bulk-source.ts'
import { serverEnvironment } from './servers/config.ts'

const FRAME_BYTES = 256 * 1024
const MIB = 1024 * 1024
const RAMP_MS = 300

export const bulk: Group = {
  name: 'bulk',
  about: 'a bulk link beside raw TCP',
  async run(context) {
    await withServers(async (servers, directory) => {
      const readyFile = join(directory, 'ports.json')
      const config: BulkSourceConfig = { directory, frameBytes: FRAME_BYTES, readyFile }
      await servers.serve('bulk-source.ts', config, readyFile)
      const ports = JSON.parse(readFileSync(readyFile, 'utf8')) as BulkPorts
      const env = serverEnvironment('bulk-target', directory)
      try {
        await compare(context, env, ports)
      } finally {
        await env.close()
      }
    })
  },
}

async function compare(context: BenchContext, env: NodeEnvironment, ports: BulkPorts): Promise<void> {
  const runMs = context.fio.runtimeS * 1000
  const results = await sideBySide(['link', 'raw'] as const, context.rounds, contender => {
    context.progress(`bulk: ${contender}`)
    return contender === 'link' ? overLink(env, ports.link, runMs) : overTcp(ports.raw, runMs)
  })
  context.report(row('bulk link, 256 KiB frames', results.get('link')!, 'MiB/s', results.get('raw')!, 'raw TCP'))
}

async function overLink(env: NodeEnvironment, port: number, runMs: number): Promise<number> {
  const link = await env.network.dial({ network: 'cluster', host: '127.0.0.1', port }, 'bulk')
  let bytes = 0
  link.onFrame(frame => {
    bytes += frame.length
  })
  const rate = await rateOf(() => bytes, runMs)
  link.close('closed', 'measured')
  return rate
}

async function overTcp(port: number, runMs: number): Promise<number> {
  const socket = connect({ host: '127.0.0.1', port, noDelay: true })
  let bytes = 0
  socket.on('data', chunk => {
    bytes += chunk.length
  })
  const rate = await rateOf(() => bytes, runMs)
  socket.destroy()
  return rate
}

/** MiB/s, after a ramp. */
async function rateOf(bytes: () => number, runMs: number): Promise<number> {
  await sleep(RAMP_MS)
  const [from, start] = [bytes(), performance.now()]
  await sleep(runMs)
  return (bytes() - from) / MIB / ((performance.now() - start) / 1000)
}
