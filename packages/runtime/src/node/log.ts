// The log of the real environment: pino, one JSON line an entry, to a file or to stderr. Written synchronously, so that the
// last lines before a crash are there.

import pino from 'pino'
import type { Logger } from '../environment.ts'

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent'

export interface LogOptions {
  readonly level: LogLevel
  /** Absent: stderr. */
  readonly file?: string
}

const STDERR = 2

export function createLogger(name: string, options: LogOptions): Logger {
  const destination = pino.destination({ dest: options.file ?? STDERR, sync: true, mkdir: options.file !== undefined })
  const log = pino({ level: options.level, base: { name, pid: process.pid } }, destination)
  return {
    debug: (fields, message) => log.debug(fields, message),
    info: (fields, message) => log.info(fields, message),
    warn: (fields, message) => log.warn(fields, message),
    error: (fields, message) => log.error(fields, message),
  }
}
