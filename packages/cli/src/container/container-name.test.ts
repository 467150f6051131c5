import { expect, test } from 'vitest'
import { containerName } from './container-name.ts'

test.each([
  ['the old docker-compose', 'stellwerk_agent_1', 'stellwerk'],
  ['the new one', 'stellwerk-agent-1', 'stellwerk'],
  ['another project', 'my-lab-agent-1', 'my-lab'],
])('%s', (_what, container, project) => {
  const onCluster = `${container}.${project}_cluster`
  const onGuest = `${container}.${project}_guest`
  const names = [onCluster, `${container}.${project}_fabric-0`, onGuest]
  expect(containerName(names)).toEqual({ host: 'agent-1', onCluster, onGuest })
  expect(containerName([onCluster])).toMatchObject({ onGuest: null })
})

test('a container with a name of its own is called that', () => {
  expect(containerName(['db7.stellwerk_cluster']).host).toBe('db7')
})

test.each([[[]], [['stellwerk_agent_1.stellwerk_fabric-0']], [['agent']]])('%j tells no name', names => {
  expect(() => containerName(names)).toThrow(expect.objectContaining({ code: 'no-name' }))
})
