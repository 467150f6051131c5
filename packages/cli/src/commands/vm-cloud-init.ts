// `--user-data`, `--ssh-key` and `--network-config` of `vm create`: what cloud-init in the machine is to read.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { Input, OptionSpec, Terminal } from '../command-line/command.ts'
import { readGuestFile } from '../images/guest-file.ts'

export const CLOUD_INIT_OPTIONS: { readonly [name: string]: OptionSpec } = {
  'network-config': { type: 'string', value: 'FILE', help: 'for cloud-init: its addresses; without it asks by DHCP' },
  'user-data': { type: 'string', value: 'FILE', help: 'for cloud-init in a machine that boots by bios or uefi' },
  'ssh-key': {
    type: 'string',
    multiple: true,
    value: 'FILE',
    help: 'a public key that may log in there (repeat it for more), instead of --user-data',
  },
}

const KEY = /^(ssh-|ecdsa-|sk-)[a-z0-9@.-]+ [A-Za-z0-9+/=]+( [^\n]*)?$/

/** The parameters that say it. Throws `bad-value` and `missing-file`. */
export async function cloudInitOf(
  terminal: Terminal,
  input: Input,
): Promise<{ readonly userData?: string; readonly networkConfig?: string }> {
  const network = input.text('network-config')
  const networkConfig =
    network === undefined ? {} : { networkConfig: await textOf(terminal, '--network-config', network) }
  return { ...(await userDataOf(terminal, input)), ...networkConfig }
}

async function userDataOf(terminal: Terminal, input: Input): Promise<{ readonly userData?: string }> {
  const file = input.text('user-data')
  const keys = input.texts('ssh-key')
  if (file !== undefined && keys.length > 0) {
    throw new StellwerkError('bad-value', 'both user data and a key are given', {
      where: '--ssh-key',
      hint: 'put the key into the user data: ssh_authorized_keys',
    })
  }
  if (file !== undefined) return { userData: await textOf(terminal, '--user-data', file) }
  if (keys.length === 0) return {}
  const lines: string[] = []
  for (const name of keys) {
    const key = (await textOf(terminal, '--ssh-key', name)).trim()
    if (!KEY.test(key)) {
      throw new StellwerkError('bad-value', `${name} is no public key of SSH`, {
        where: '--ssh-key',
        hint: 'name the file that ends in .pub',
      })
    }
    lines.push(`  - ${JSON.stringify(key)}`)
  }
  return { userData: `#cloud-config\nssh_authorized_keys:\n${lines.join('\n')}\n` }
}

async function textOf({ cwd }: Terminal, option: string, name: string): Promise<string> {
  const { bytes, path } = await readGuestFile(name, cwd)
  if (bytes !== null) return Buffer.from(bytes).toString('utf8')
  throw new StellwerkError('missing-file', 'there is no such file', { where: `${option} ${path}`, hint: 'name a file' })
}
