import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { encodeBootImage } from '@stellwerk/agent/hypervisor/qemu/boot-image.ts'
import { QemuHypervisor } from '@stellwerk/agent/hypervisor/qemu/hypervisor.ts'
import { MemoryDisk } from '@stellwerk/agent/hypervisor/testing/memory-disk.ts'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { fetchDebianKernel } from 'stellwerk/images/debian-kernel.ts'
import { MODULES, tinyImage } from 'stellwerk/images/tiny.ts'

const dir = mkdtempSync('/tmp/zz-')
const env = createEnvironment({ name: 'zz', directory: dir, store: memoryStore() })
const t0 = Date.now()
const log = (...a: unknown[]) => console.log(((Date.now() - t0) / 1000).toFixed(2), ...a)
const IMG = '/tmp/s/tiny.img'
if (!existsSync(IMG))
  writeFileSync(IMG, encodeBootImage(await tinyImage(await fetchDebianKernel(env.processes, new Set(MODULES)))))
log('image', readFileSync(IMG).length)
writeFileSync(`${dir}/tiny.img`, readFileSync(IMG))
const allowed = true
const hv = new QemuHypervisor(
  { env, mayExecute: () => allowed, until: () => (allowed ? Infinity : -Infinity), evidence: () => {} },
  { directory: dir, start: spec => env.processes.command(spec) },
)
log(await hv.probe())
const disk = new MemoryDisk(env.timers, 4 << 20)
const spec = {
  vm: 'vm-1',
  hypervisor: 'qemu' as const,
  guest: 'tiny.img',
  memoryBytes: 128 << 20,
  parameters: { writesPerSecond: 50, dirtyMiBPerSecond: 2, workingSetMiB: 4 },
}
const m = await hv.create(spec, [disk], [])
log('created')
let n = 0
m.onEvent(e => {
  if (e.kind !== 'console' || n++ < 8 || !e.line.startsWith('ack')) log(JSON.stringify(e))
})
m.start()
const wait = (ms: number) => new Promise(r => setTimeout(r, ms))
for (let i = 0; i < 60 && n < 10; i++) await wait(500)
log('acks', n)
await m.freeze('x')
log('frozen', m.state, m.executes)
const before = n
await wait(500)
log('quiet', n === before)
m.thaw()
await wait(1000)
log('on', n - before)
m.input('status')
await wait(500)
const inc = await hv.receive(spec, [disk], [])
const out = m.send({ downtimeMs: 100, maxRounds: 10, whenDiverging: 'pause' })
out.onProgress(p => log(JSON.stringify(p)))
const loading = inc.load(out.stream).then(
  l => (log('loaded', l), l),
  e => log('load failed', e),
)
await out.converged
log('converged')
const rel = await out.release(async () => ({ g: 1 }))
log('released', rel)
await loading
const m2 = await inc.run({ migration: 'm', vm: 'vm-1', placementEpoch: 7 })
m2.onEvent(e => log('T', JSON.stringify(e)))
await wait(1000)
await m.kill()
log('source killed')
m2.input('status')
await wait(300)
log('shutdown', m2.shutdown())
await wait(4000)
log(m2.state)
await m2.kill()
await env.close()
