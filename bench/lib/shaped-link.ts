// A cable of a certain speed between two network namespaces: for root, with iproute2 and a kernel that has tbf.

import { execFileSync } from 'node:child_process'

/** A burst of so much may be faster, and so long may something wait: as a switch's port does it. */
const SHAPE = ['burst', '512kb', 'latency', '50ms'] as const

export interface End {
  /** Before a command that is to run there. */
  readonly within: readonly string[]
  readonly host: string
}

/** Null: it can't be made here. `rate`: as `tc` has it, of both ways. */
export async function withShapedLink<T>(rate: string, work: (a: End, b: End) => Promise<T>): Promise<T | null> {
  if (process.getuid?.() !== 0) return null
  const names = ['a', 'b'].map(side => `swbench-${process.pid}-${side}`)
  const ip = (...words: string[]) => execFileSync('ip', words, { stdio: ['ignore', 'ignore', 'pipe'] })
  const made: string[] = []
  try {
    try {
      for (const name of names) {
        ip('netns', 'add', name)
        made.push(name)
      }
      const [a = '', b = ''] = names
      ip('-n', a, 'link', 'add', 'cable', 'type', 'veth', 'peer', 'name', 'cable', 'netns', b)
      for (const [i, name] of names.entries()) {
        ip('-n', name, 'address', 'add', `10.211.0.${i + 1}/24`, 'dev', 'cable')
        for (const device of ['lo', 'cable']) ip('-n', name, 'link', 'set', device, 'up')
        ip('netns', 'exec', name, 'tc', 'qdisc', 'add', 'dev', 'cable', 'root', 'tbf', 'rate', rate, ...SHAPE)
      }
    } catch {
      return null
    }
    const end = (i: number): End => ({ within: ['ip', 'netns', 'exec', names[i] ?? ''], host: `10.211.0.${i + 1}` })
    return await work(end(0), end(1))
  } finally {
    for (const name of made) ip('netns', 'del', name)
  }
}
