// A kernel and its modules out of Debian's package of it.

import { basename } from 'node:path'
import type { Processes } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { debianDependency, type UnpackedPackage, withDebianPackage } from './debian-package.ts'

export interface KernelModule {
  readonly file: string
  readonly data: Uint8Array
}

export interface KernelPackage {
  readonly version: string
  readonly image: Uint8Array
  /** By name, with `-` and `_` as in the file's name. */
  readonly modules: ReadonlyMap<string, KernelModule>
  readonly builtin: ReadonlySet<string>
}

/** `newest`: the package that depends on it. Throws `no-program` without apt or dpkg, `package-missing` when the registry does not give it. */
export async function fetchDebianKernel(
  processes: Pick<Processes, 'command'>,
  newest: string,
  wanted: ReadonlySet<string>,
): Promise<KernelPackage> {
  const name = await debianDependency(processes, newest, 'linux-image-')
  return withDebianPackage(processes, name, unpacked => readKernel(name, unpacked, wanted))
}

async function readKernel(
  name: string,
  { find, read }: UnpackedPackage,
  wanted: ReadonlySet<string>,
): Promise<KernelPackage> {
  const named = [...wanted].flatMap(name => [`${name}.ko`, `${name}.ko.xz`])
  const paths = await find(['vmlinuz-*', 'modules.builtin', ...named])
  const image = paths.find(path => path.includes('/vmlinuz-'))
  const builtin = paths.find(path => path.endsWith('/modules.builtin'))
  if (image === undefined || builtin === undefined) {
    throw new StellwerkError('package-missing', 'the package has no kernel', { where: name })
  }
  const modules = new Map<string, KernelModule>()
  for (const path of paths) {
    const module = /([^/]+)\.ko(?:\.xz)?$/.exec(path)?.[1]
    if (module !== undefined) modules.set(module, { file: basename(path), data: await read(path) })
  }
  const names = [
    ...Buffer.from(await read(builtin))
      .toString()
      .matchAll(/([^/\n]+)\.ko/g),
  ].map(match => match[1] ?? '')
  const version = basename(image).slice('vmlinuz-'.length)
  return { version, image: await read(image), modules, builtin: new Set(names) }
}
