// `stellwerk image …`: what real machines boot from.

import { isAbsolute, join } from 'node:path'
import { digestOf } from '@stellwerk/protocol/guest-modules/module-shelf.ts'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { makeScratchDirectory, removeScratchDirectory } from '@stellwerk/runtime/node/scratch-directory.ts'
import { filesOf } from '../cluster/directory.ts'
import { type CommandSpec, JSON_OUT, OK } from '../command-line/command.ts'
import { oneOf } from '../command-line/values.ts'
import { addedFiles } from '../images/added-files.ts'
import { buildTiny } from '../images/tiny.ts'
import { bytes } from '../render/units.ts'
import { importCommand } from './image-import.ts'

const build: CommandSpec = {
  words: 'image build',
  args: ['NAME'],
  options: {
    out: { type: 'string', value: 'FILE', help: 'default NAME.boot' },
    add: {
      ...{ type: 'string', multiple: true, value: 'FILE' },
      help: 'a program or a file of this machine, for the guest to have under the same path; a program with its libraries',
    },
    json: JSON_OUT,
  },
  summary: 'Make a boot image from this machine’s packages: tiny, a self-checking Linux guest',
  run: async ({ terminal }, input) => {
    const name = oneOf('NAME', input.args[0] ?? '', ['tiny'] as const)
    const out = input.text('out') ?? `${name}.boot`
    const path = isAbsolute(out) ? out : join(terminal.cwd, out)
    const scratch = await makeScratchDirectory('stellwerk-image-')
    const env = createEnvironment({ name: 'image', directory: scratch, store: memoryStore(), logLevel: 'error' })
    try {
      const added = await addedFiles(env.processes, input.texts('add'), terminal.cwd)
      const { image, version } = await buildTiny(env.processes, added)
      const at = path.lastIndexOf('/')
      await filesOf(path.slice(0, at) || '/').writeAtomic(path.slice(at + 1), image)
      const facts = { file: path, sizeBytes: image.length, kernel: version, digest: `sha256:${digestOf(image)}` }
      terminal.out(
        input.flag('json')
          ? JSON.stringify(facts)
          : `${path}: ${bytes(image.length)}, Linux ${version}; run it: stellwerk vm create NAME --guest ${out}`,
      )
      return OK
    } finally {
      await env.close()
      await removeScratchDirectory(scratch)
    }
  },
}

export const commands: readonly CommandSpec[] = [build, importCommand]
