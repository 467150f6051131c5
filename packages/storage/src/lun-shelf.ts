// The LUNs that are open in this process, by name, and those that can't be, with why: one bad LUN does not take the others
// down. What exists and who may use it is admission's; here are only the files.

import type { Environment } from '@stellwerk/runtime/environment.ts'
import { describeError, errorMessage } from '@stellwerk/runtime/errors.ts'
import { checkAllKnown, noteFiles, settleFiles, unsettledFiles } from './lun/file-notes.ts'
import type { LunHeader } from './lun/layout.ts'
import { createLunFiles, LUN_DIRECTORY, Lun, removeLunFiles } from './lun/lun.ts'

interface Shelved {
  readonly header: LunHeader
  readonly lun: Lun | null
  /** Why it could not be opened. */
  readonly why: string | null
}

/** A LUN that could not be opened is tried again: what was missing, room perhaps, may be there by then. */
const OPEN_AGAIN_MS = 1_000

export class LunShelf {
  readonly #env: Environment
  #closed = false
  /** Attempts to open one again that are under way. */
  readonly #attempts = new Map<string, Promise<void>>()
  readonly #luns = new Map<string, Shelved>()

  constructor(env: Environment) {
    this.#env = env
  }

  /**
   * Opens all, and removes files of LUNs whose creation or deletion a crash cut short. Throws `lost-state`, with nothing
   * changed, when there are files that neither a LUN nor such a note accounts for.
   */
  async start(luns: ReadonlyMap<string, { readonly id: string; readonly sizeBytes: number }>): Promise<void> {
    const ids = new Set([...luns.values()].map(({ id }) => id))
    const { files, store, log } = this.#env
    const unsettled = unsettledFiles(store)
    checkAllKnown(await files.list(LUN_DIRECTORY), id => ids.has(id) || unsettled.has(id), LUN_DIRECTORY)
    for (const id of unsettled) {
      if (ids.has(id)) continue
      log.warn({ id }, 'removing the files of a LUN whose creation or deletion was cut short')
      await removeLunFiles(files, id)
    }
    if (unsettled.size > 0) store.commit([...unsettled].map(settleFiles))
    for (const [name, { id, sizeBytes }] of luns) await this.#open(name, { id, sizeBytes })
  }

  /** The LUN, ready; or why it is not. */
  get(name: string): Lun | string {
    const shelved = this.#luns.get(name)
    if (shelved === undefined) return 'its files are being made or removed'
    return shelved.lun?.failure ?? shelved.why ?? shelved.lun ?? 'it is not open'
  }

  allocatedBytes(name: string): number {
    return this.#luns.get(name)?.lun?.allocatedBytes ?? 0
  }

  /** Makes the files of a LUN that nobody knows of yet, or again after that was cut short. */
  async create(name: string, header: LunHeader): Promise<void> {
    this.#env.store.commit([noteFiles(header.id, 'making')])
    await createLunFiles(this.#env.files, header)
    await this.#open(name, header)
  }

  /** Its connections have drained, or there were none. */
  async remove(name: string): Promise<void> {
    const shelved = this.#luns.get(name)
    if (shelved === undefined) return
    this.#luns.delete(name)
    await this.#attempts.get(name)
    await shelved.lun?.close()
    await removeLunFiles(this.#env.files, shelved.header.id)
    this.#env.store.commit([settleFiles(shelved.header.id)])
  }

  /** All connections have drained. */
  async close(): Promise<void> {
    this.#closed = true
    await Promise.all(this.#attempts.values())
    for (const [name, { lun }] of this.#luns) {
      try {
        await lun?.close()
      } catch (error) {
        // The next start looks through what this close could not write down.
        this.#env.log.error({ lun: name }, `closing the LUN failed: ${errorMessage(error)}`)
      }
    }
    this.#luns.clear()
  }

  /** `former`: what stands for it; if that is there no more it is not wanted any more. */
  async #open(name: string, header: LunHeader, former?: Shelved): Promise<void> {
    const { log } = this.#env
    try {
      const lun = await Lun.open(this.#env.files, header)
      if (former !== undefined && (this.#closed || this.#luns.get(name) !== former)) {
        await lun.close()
        return
      }
      if (lun.rebuiltRegions > 0)
        log.info({ lun: name, regions: lun.rebuiltRegions }, 'looked through after an unclean end')
      lun.onFailed(reason => log.error({ lun: name }, `the LUN serves nothing any more: ${reason}`))
      this.#luns.set(name, { header, lun, why: null })
    } catch (error) {
      const why = errorMessage(error)
      if (this.#luns.get(name)?.why !== why) {
        log.error({ lun: name, id: header.id }, `the LUN can't be opened: ${describeError(error)}`)
      }
      const failed = { header, lun: null, why }
      if (former !== undefined && this.#luns.get(name) !== former) return
      this.#luns.set(name, failed)
      this.#env.timers.after(OPEN_AGAIN_MS, () => {
        if (this.#closed || this.#luns.get(name) !== failed) return
        const attempt = this.#open(name, header, failed).finally(() => this.#attempts.delete(name))
        this.#attempts.set(name, attempt)
      })
    }
  }
}
