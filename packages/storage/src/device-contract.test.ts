import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describeBlockDevice } from '@stellwerk/block/contract/device-contract.ts'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { GatedDevice } from './gated-device.ts'
import { createLunFiles, Lun } from './lun/lun.ts'

describeBlockDevice('a LUN behind its gate, on real files', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'stellwerk-lun-'))
  const env = createEnvironment({ name: 'san', directory, store: memoryStore(), logLevel: 'error' })
  const header = { id: 'lun', sizeBytes: 48 * 1024 * 1024 }
  await createLunFiles(env.files, header)
  const lun = await Lun.open(env.files, header)
  const device = new GatedDevice({
    env,
    lun,
    name: 'csv1',
    claim: null,
    seen: null,
    layout: () => null,
    onDrained: () => undefined,
  })
  return {
    device,
    async dispose() {
      await lun.close()
      await env.close()
      rmSync(directory, { recursive: true, force: true })
    },
  }
})
