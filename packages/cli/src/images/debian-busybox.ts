// The tools of a small system in one static program, out of Debian's package of it.

import type { Processes } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { withDebianPackage } from './debian-package.ts'

/** Its shell finds the tools in itself. */
export const BUSYBOX_PACKAGE = 'busybox-static'

/** The program. Throws `no-program` without apt or dpkg, `package-missing` when the registry does not give it. */
export function fetchDebianBusybox(processes: Pick<Processes, 'command'>): Promise<Uint8Array> {
  return withDebianPackage(processes, BUSYBOX_PACKAGE, async ({ find, read }) => {
    // In /bin of Debian 12's, in /usr/bin of later ones.
    const path = (await find(['busybox'])).find(each => /\/bin\/busybox$/.test(each))
    if (path !== undefined) return read(path)
    throw new StellwerkError('package-missing', 'the package has no busybox', { where: BUSYBOX_PACKAGE })
  })
}
