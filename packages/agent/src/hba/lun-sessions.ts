// The numbers of this host's sessions on each LUN: [agent incarnation, number]. Owner connections count apart from the
// host's own, as the subsystem does. A number is never used twice.

import type { AgentConfig } from '../agent-config.ts'

export class LunSessions {
  readonly #incarnation: number
  readonly #numbers = new Map<string, number>()

  constructor(config: Pick<AgentConfig, 'incarnation'>) {
    this.#incarnation = config.incarnation
  }

  /** Above all before; of this incarnation, so it need not be durable: a later one counts higher whatever its number. */
  next(lun: string, as: 'host' | 'owner'): number {
    const key = `${as}/${lun}`
    const number = (this.#numbers.get(key) ?? 0) + 1
    this.#numbers.set(key, number)
    return number
  }

  format(number: number): string {
    return `${this.#incarnation}.${number}`
  }
}
