import { afterEach, expect, test } from 'vitest'
import { API_VERSION } from '../../../src/api/meta.ts'
import type { HttpDoor } from '../../../src/lib/httplisten.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import { createServerMetrics } from '../../../src/server/metrics.ts'
import { openMetricsDoor } from '../../../src/server/metricsdoor.ts'
import { applyObject } from '../../../src/store/objects.ts'
import { aServer } from './fixture.ts'

let door: HttpDoor | undefined
afterEach(() => door?.stop())

const get = async (path: string, method = 'GET') => {
  const answer = await fetch(`http://${door?.address}${path}`, { method })
  return { status: answer.status, text: await answer.text() }
}

test('objects are told as they are, calls and passes as they were', async () => {
  const { store, sessions } = await aServer()
  const deployment = {
    apiVersion: API_VERSION,
    kind: 'ModelDeployment' as const,
    metadata: { name: 'chat', namespace: 'studio' },
    spec: { model: { name: 'tiny' }, replicas: 3 },
  }
  await store.transact((tx) => applyObject(tx, deployment, { fieldManager: 'test' }))
  const metrics = createServerMetrics(store, sessions)
  metrics.onCall('Apply', 'OK', 3)
  metrics.onCall('Apply', 'Invalid', 1)
  metrics.onPass('node', true, 20)
  door = await openMetricsDoor([metrics.text, () => Promise.resolve('more 1\n')], '127.0.0.1:0', silentLogger)
  const { status, text } = await get('/metrics')
  expect(status).toBe(200)
  expect(text).toContain('mctl_server_objects{kind="ModelDeployment"} 1')
  expect(text).toContain('mctl_modeldeployment_replicas{namespace="studio",modeldeployment="chat"} 3')
  expect(text).toContain('mctl_modeldeployment_ready_replicas{namespace="studio",modeldeployment="chat"} 0')
  expect(text).toContain(`mctl_server_revision ${store.stats().revision}`)
  expect(text).toContain('mctl_server_sessions 0')
  expect(text).toContain('mctl_server_call_duration_seconds_bucket{le="0.005",call="Apply",code="OK"} 1')
  expect(text).toContain('mctl_server_call_duration_seconds_count{call="Apply",code="Invalid"} 1')
  expect(text).toContain('mctl_controller_failures_total{controller="node"} 1')
  expect(text).toMatch(/more 1\n$/)
})

test('there is a sign of life, and nothing else', async () => {
  door = await openMetricsDoor([() => Promise.reject(new Error('gone'))], '127.0.0.1:0', silentLogger)
  expect(await get('/healthz')).toEqual({ status: 200, text: 'ok\n' })
  expect((await get('/')).status).toBe(404)
  expect((await get('/metrics', 'POST')).status).toBe(405)
  expect((await get('/metrics')).status).toBe(500)
})
