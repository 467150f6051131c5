// The files that `chaos run --report DIR` leaves. An earlier run's are gone before anything else is done, and a run that comes to
// no judgement leaves word of that: a machine that reads reports must not take either for a pass.

import { join, resolve } from 'node:path'
import { describeError, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { filesOf } from '../cluster/directory.ts'
import type { Terminal } from '../command-line/command.ts'
import { unjudgedOf } from './report/json.ts'
import { unjudgedJunit } from './report/junit.ts'

const NAMES = ['report.md', 'report.html', 'junit.xml', 'result.json'] as const
export type Reports = { readonly [name in (typeof NAMES)[number]]: string }

export interface ReportOptions {
  /** Null: none are wanted. */
  readonly report: string | null
  readonly json: boolean
  readonly terminal: Terminal
}

/** What is known of the run so far; of a plan that can't be read, how it was named. */
export interface RunNames {
  readonly plan: string
  readonly on: string
  /** Empty: not drawn yet. */
  readonly seed: string
}

export class RunReports {
  readonly #options: ReportOptions
  #names: RunNames
  #isWritten = false

  /** Before anything is run: where nothing can be written, that is known at once. Throws `cannot-write`. */
  static async open(options: ReportOptions, names: RunNames): Promise<RunReports> {
    const { report, terminal } = options
    if (report !== null) {
      const full = resolve(terminal.cwd, report)
      const files = filesOf(full)
      try {
        await files.makeDirectory('.')
        for (const name of NAMES) await files.remove(name)
      } catch (error) {
        throw cannotWrite(full, error)
      }
    }
    return new RunReports(options, names)
  }

  private constructor(options: ReportOptions, names: RunNames) {
    this.#options = options
    this.#names = names
  }

  runs(names: RunNames): void {
    this.#names = names
  }

  /** Of the judgement. */
  async write(reports: Reports): Promise<void> {
    await this.#write(reports)
    this.#isWritten = true
  }

  /** Of what kept the run from one, and nothing where there has been one. Its `error` is for the caller to tell. */
  async refused(error: StellwerkError): Promise<void> {
    if (this.#isWritten) return
    const { plan, on, seed } = this.#names
    const unjudged = unjudgedOf(plan, on, seed, describeError(error))
    await this.#write({ 'junit.xml': unjudgedJunit(unjudged), 'result.json': `${JSON.stringify(unjudged, null, 2)}\n` })
    const { json, terminal } = this.#options
    if (json) terminal.out(JSON.stringify(unjudged))
  }

  async #write(contents: Partial<Reports>): Promise<void> {
    const { report, terminal, json } = this.#options
    if (report === null) return
    const full = resolve(terminal.cwd, report)
    for (const [name, content] of Object.entries(contents)) await writeReport(full, name, content)
    const tell = json ? terminal.err : terminal.out
    const names = Object.keys(contents).map(name => join(report, name))
    tell(`report: ${names.join(', ')}`)
  }
}

/** Throws `cannot-write`. */
export async function writeReport(directory: string, name: string, content: string): Promise<void> {
  const files = filesOf(directory)
  try {
    await files.makeDirectory('.')
    await files.writeAtomic(name, new TextEncoder().encode(content))
  } catch (error) {
    throw cannotWrite(join(directory, name), error)
  }
}

function cannotWrite(where: string, error: unknown): StellwerkError {
  return new StellwerkError('cannot-write', `the report can't be written: ${String((error as Error).message)}`, {
    where,
    hint: 'name another directory with --report',
    cause: error,
  })
}
