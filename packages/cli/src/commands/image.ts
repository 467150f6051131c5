// `stellwerk image …`: what real machines boot from.

import { resolve } from 'node:path'
import { digestOf } from '@stellwerk/protocol/guest-modules/module-shelf.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { makeScratchDirectory, removeScratchDirectory } from '@stellwerk/runtime/node/scratch-directory.ts'
import { filesOf } from '../cluster/directory.ts'
import { type CommandSpec, JSON_OUT, OK } from '../command-line/command.ts'
import { oneOf } from '../command-line/values.ts'
import { addedFiles } from '../images/added-files.ts'
import { packKernel } from '../images/own-kernel.ts'
import { buildTiny } from '../images/tiny.ts'
import { bytes } from '../render/units.ts'
import { importCommand } from './image-import.ts'

async function writeImage(path: string, image: Uint8Array): Promise<void> {
  const at = path.lastIndexOf('/')
  await filesOf(path.slice(0, at) || '/').writeAtomic(path.slice(at + 1), image)
}

const pack: CommandSpec = {
  words: 'image pack',
  args: ['FILE'],
  options: {
    kernel: { type: 'string', value: 'FILE', help: 'a bzImage: /boot/vmlinuz-…' },
    initrd: { type: 'string', value: 'FILE', help: 'its initial RAM disk: /boot/initrd.img-…' },
    append: { type: 'string', value: 'WORDS', help: 'the kernel’s command line (default console=ttyS0)' },
    json: JSON_OUT,
  },
  summary: 'Make the boot image FILE of a kernel and an initial RAM disk of one’s own',
  run: async ({ terminal }, input) => {
    const [kernel, initrd] = [input.text('kernel'), input.text('initrd')]
    if (kernel === undefined || initrd === undefined) {
      const missing = kernel === undefined ? '--kernel' : '--initrd'
      throw new StellwerkError('usage', `${missing} is missing`, {
        hint: 'a machine without a disk boots a kernel with its initial RAM disk: say both',
      })
    }
    const out = input.args[0] ?? ''
    const path = resolve(terminal.cwd, out)
    const image = await packKernel({ kernel, initrd, append: input.text('append') ?? 'console=ttyS0' }, terminal.cwd)
    await writeImage(path, image)
    const facts = { file: path, sizeBytes: image.length, digest: `sha256:${digestOf(image)}` }
    terminal.out(
      input.flag('json')
        ? JSON.stringify(facts)
        : `${path}: ${bytes(image.length)}; run it: stellwerk vm create NAME --guest ${out}`,
    )
    return OK
  },
}

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
    const path = resolve(terminal.cwd, out)
    const scratch = await makeScratchDirectory('stellwerk-image-')
    const env = createEnvironment({ name: 'image', directory: scratch, store: memoryStore(), logLevel: 'error' })
    try {
      const added = await addedFiles(env.processes, input.texts('add'), terminal.cwd)
      const { image, version } = await buildTiny(env.processes, added)
      await writeImage(path, image)
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

export const commands: readonly CommandSpec[] = [build, pack, importCommand]
