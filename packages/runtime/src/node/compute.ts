// CPU-heavy work of the real environment: zstd on the thread pool, and worker threads.

import { promisify } from 'node:util'
import { Worker as WorkerThread } from 'node:worker_threads'
import { constants, zstdCompress, zstdDecompress } from 'node:zlib'
import type { Compute, Worker } from '../environment.ts'
import { errorCode, StellwerkError } from '../errors.ts'
import { KIB, MIB } from '../units.ts'
import { countBuffer } from './young-collector.ts'

/** Jobs on the thread pool at once: file operations use the same pool and must not wait behind compression. */
const JOBS_MAX = 2
/** Jobs waiting for their turn; more are refused as `overloaded`. */
const JOBS_WAITING_MAX = 1024
const LEVEL = 1
/**
 * What zstd gives is taken in buffers of 16 KiB unless told otherwise, and between any two of them the thread pool waits for this
 * thread. With room for all of it there is one turn for each job: measured, pieces of 1 MiB of a guest's memory are compressed 1.3
 * and decompressed 2.6 times as fast in a quiet process, and more in a busy one.
 */
const OUTPUT_MAX_BYTES = 4 * MIB

const compressAsync = promisify(zstdCompress)
const decompressAsync = promisify(zstdDecompress)

export function createCompute(): Compute {
  let running = 0
  const waiting: (() => void)[] = []

  async function job<T>(work: () => Promise<T>): Promise<T> {
    if (running >= JOBS_MAX) {
      if (waiting.length >= JOBS_WAITING_MAX) {
        throw new StellwerkError('overloaded', `${JOBS_WAITING_MAX} computing jobs are waiting`, { retryable: true })
      }
      await new Promise<void>(resolve => waiting.push(resolve))
    } else running++
    try {
      return await work()
    } finally {
      // The place goes to the one that waited longest, or becomes free.
      const next = waiting.shift()
      if (next === undefined) running--
      else next()
    }
  }

  return {
    compress: (data, level = LEVEL) =>
      job(() =>
        compressAsync(data, {
          params: { [constants.ZSTD_c_compressionLevel]: level },
          chunkSize: outputRoom(data, data.byteLength + (data.byteLength >> 8)),
        }),
      ),

    decompress: (data, sizeBytes) =>
      job(async () => {
        const options = { maxOutputLength: Math.max(sizeBytes, 1), chunkSize: outputRoom(data, sizeBytes) }
        const plain = await decompressAsync(data, options).catch(cause => {
          throw new StellwerkError('corrupt-data', `compressed data does not decompress: ${errorCode(cause)}`, {
            cause,
          })
        })
        if (plain.byteLength !== sizeBytes) {
          throw new StellwerkError('corrupt-data', `decompressed to ${plain.byteLength} bytes instead of ${sizeBytes}`)
        }
        return plain
      }),

    startWorker: (entry, data) => startWorker(entry, data),
  }
}

/**
 * With some to spare: a buffer that is just filled asks for another one. It is about to be allocated; and what goes in was most often
 * joined for it, and is garbage as soon.
 */
function outputRoom(input: Uint8Array, sizeBytes: number): number {
  const room = Math.min(sizeBytes, OUTPUT_MAX_BYTES) + KIB
  countBuffer(room + input.byteLength)
  return room
}

function startWorker(entry: URL, data: unknown): Worker {
  const thread = new WorkerThread(entry, { workerData: data })
  let error: Error | null = null
  let gone = false
  let tell: ((error: Error | null) => void) | null = null
  thread.on('error', (e: unknown) => {
    error = e instanceof Error ? e : new Error(String(e))
  })
  thread.on('exit', () => {
    gone = true
    tell?.(error)
  })
  return {
    post: (message, transfer = []) => thread.postMessage(message, transfer),
    onMessage(f) {
      thread.removeAllListeners('message')
      thread.on('message', f)
    },
    onExit(f) {
      tell = f
      if (gone) queueMicrotask(() => f(error))
    },
    terminate: async () => void (await thread.terminate()),
  }
}
