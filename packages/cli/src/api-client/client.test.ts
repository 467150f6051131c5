// What the commands hear of a coordinator that is not there, or goes away while it is asked.

import { createServer } from 'node:net'
import { expect, test } from 'vitest'
import { ApiClient } from './client.ts'

test('a coordinator that ends while it is asked is away, and not a network that fails', async () => {
  const server = createServer(socket => {
    socket.on('error', () => undefined)
    socket.once('data', () => socket.resetAndDestroy())
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  const client = new ApiClient({ host: '127.0.0.1', port, token: 't' })
  await expect(client.status()).rejects.toMatchObject({
    code: 'coordinator-away',
    retryable: true,
    message: 'the coordinator does not answer: it ended while it was asked',
  })
  await new Promise(resolve => server.close(resolve))
  await expect(client.status()).rejects.toMatchObject({
    code: 'coordinator-away',
    message: 'the coordinator does not answer: nothing listens there',
  })
})
