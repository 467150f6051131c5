// The numbers of this host's sessions on each LUN: [agent incarnation, number]. Owner connections count apart from the
// host's own, as the subsystem does. A number is never used twice.

import { Quiet } from '@stellwerk/block/path/external-path.ts'
import type { AgentConfig } from '../agent-config.ts'

export class LunSessions {
  readonly #incarnation: number
  readonly #numbers = new Map<string, number>()
  readonly #quiets = new Map<string, Quiet>()

  constructor(config: Pick<AgentConfig, 'incarnation'>) {
    this.#incarnation = config.incarnation
  }

  /** Of a LUN on an external storage: what of ours is still under way there. */
  quietOf(storage: string, lun: string, as: 'host' | 'owner'): Quiet {
    const key = `${as}/${storage}/${lun}`
    const quiet = this.#quiets.get(key) ?? new Quiet()
    this.#quiets.set(key, quiet)
    return quiet
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
