import { findPorts } from 'stellwerk/cluster/ports.ts'
import { serverEnvironment } from '../servers/config.ts'

/** So many TCP ports at which nobody listens. */
export async function freePorts(directory: string, host: string, count: number): Promise<number[]> {
  const env = serverEnvironment('ports', directory)
  const ports = await findPorts(env, host, count)
  await env.close()
  return ports
}
