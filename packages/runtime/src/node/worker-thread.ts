// The inside of a thread that Compute.startWorker began: what it was given, and how it speaks to the one who began it.

import { parentPort, workerData } from 'node:worker_threads'
import { present } from '../assert.ts'

export interface WorkerThread {
  /** The `data` of startWorker, cloned or shared. */
  readonly data: unknown
  /** May be called while the thread then blocks: the message is on its way. */
  post(message: unknown): void
}

export function thisWorkerThread(): WorkerThread {
  const port = present(parentPort, 'a parent: this is not a worker thread')
  return { data: workerData, post: message => port.postMessage(message) }
}
