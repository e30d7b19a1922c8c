import { expect, test } from 'vitest'
import { findCondition } from '../../../src/api/conditions.ts'
import type { Node, NodeStatus } from '../../../src/api/node.ts'
import type { NodeContact } from '../../../src/planner/nodelife.ts'
import { planNodeLife } from '../../../src/planner/nodelife.ts'
import { actionsOf, aNode, NOW_MS, reasonsOf } from '../../support/cluster.ts'

const lookAt = (node: Node, contact: Partial<NodeContact>, boundBytes = 0) =>
  planNodeLife({
    node,
    contact: { syncedAgoMs: undefined, seenAgoMs: undefined, startedAgoMs: 3_600_000, ...contact },
    boundBytes,
    nowMs: NOW_MS,
  })
const statusIn = (plan: ReturnType<typeof lookAt>) => actionsOf(plan, 'setStatus')[0]?.status as NodeStatus
const readyIn = (plan: ReturnType<typeof lookAt>) => findCondition(statusIn(plan).conditions, 'Ready')
const fresh: Node = { ...aNode('mini-1'), status: { capacity: { memory: '16Gi' } } }

test('a node is Ready once its agent is heard of and has fenced its processes', () => {
  expect(readyIn(lookAt(fresh, { seenAgoMs: 0 }))).toMatchObject({ status: 'False', reason: 'NotSynced' })
  expect(readyIn(lookAt(fresh, { seenAgoMs: 0, syncedAgoMs: 0 }))?.status).toBe('True')
})

test('silence of 20 s makes a node NotReady, and not before', () => {
  const node = aNode('mini-1')
  expect(readyIn(lookAt(node, { seenAgoMs: 20_000, syncedAgoMs: 20_000 }))?.status).toBe('True')
  const silent = lookAt(node, { seenAgoMs: 20_001, syncedAgoMs: 20_001 })
  expect(readyIn(silent)).toMatchObject({ status: 'Unknown', reason: 'NodeSilent' })
  expect(reasonsOf(silent)).toEqual(['NodeNotReady'])
})

test('an agent that reconnects keeps its node Ready while it fences', () => {
  expect(readyIn(lookAt(aNode('mini-1'), { seenAgoMs: 0, syncedAgoMs: 4_000 }))?.status).toBe('True')
})

test('no node turns NotReady within 60 s of a start of the control plane', () => {
  const node = aNode('mini-1')
  const inGrace = lookAt(node, { startedAgoMs: 30_000 })
  expect(readyIn(inGrace)?.status).toBe('True')
  expect(inGrace.waitMs).toBe(30_000)
  expect(readyIn(lookAt(node, { startedAgoMs: 60_000 }))?.status).toBe('Unknown')
})

test('a look is due at the moment that silence would count', () => {
  expect(lookAt(aNode('mini-1'), { seenAgoMs: 5_000, syncedAgoMs: 5_000 }).waitMs).toBe(15_001)
})

test('allocatable is what was reported less the reserve, and bound is the ledger', () => {
  const node = aNode('mini-1', { status: { capacity: { memory: '16Gi', gpuMemory: '10922Mi' } } })
  const status = statusIn(lookAt(node, {}, 2 ** 30))
  expect(status.bound).toEqual({ memory: '1Gi' })
  expect(Number(status.allocatable?.memory)).toBe(Math.floor(0.95 * 10922 * 2 ** 20))
})

test('a node whose allocatable fell below what is bound says so, until it fits again', () => {
  const over = lookAt(aNode('mini-1', { memory: '8Gi' }), { seenAgoMs: 0, syncedAgoMs: 0 }, 12 * 2 ** 30)
  expect(findCondition(statusIn(over).conditions, 'Overcommitted')?.status).toBe('True')
  expect(reasonsOf(over)).toContain('NodeOvercommitted')
  const node = { ...aNode('mini-1'), status: { ...statusIn(over), capacity: { memory: '64Gi' } } }
  const again = lookAt(node, { seenAgoMs: 0, syncedAgoMs: 0 }, 12 * 2 ** 30)
  expect(findCondition(statusIn(again).conditions, 'Overcommitted')?.status).toBe('False')
})
