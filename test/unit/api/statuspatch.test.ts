import { describe, expect, test } from 'vitest'
import type { Node } from '../../../src/api/node.ts'
import type { Shard } from '../../../src/api/shard.ts'
import { applyStatusPatch } from '../../../src/api/statuspatch.ts'
import { isOpError } from '../../../src/lib/errors.ts'
import { manifestOf, shard } from './manifests.ts'

const at = (minute: number) => Date.parse('2026-03-01T12:00:00Z') + minute * 60_000
const ready = {
  type: 'Ready',
  status: 'True',
  reason: 'Synced',
  message: '',
  lastTransitionTime: '2026-01-01T00:00:00Z',
}
const node = manifestOf('Node', {
  spec: { unschedulable: false, taints: [] },
  status: { allocatable: { memory: '10Gi' }, capacity: { memory: '16Gi' }, conditions: [ready] },
}) as unknown as Node
const pressure = (status: string) => ({ type: 'MemoryPressure', status, reason: 'Measured', message: '' })

describe('an agent and its node', () => {
  test('writes what it observes; the rest stays', () => {
    const before = JSON.stringify(node)
    const status = applyStatusPatch(node, { nodeInfo: { chip: 'Apple M4' }, capacity: null, models: [] }, at(0))
    expect(status).toEqual({
      nodeInfo: { chip: 'Apple M4' },
      models: [],
      allocatable: { memory: '10Gi' },
      conditions: [ready],
    })
    expect(JSON.stringify(node)).toBe(before)
  })
  test.each(['allocatable', 'bound', 'phase', '__proto__', 'constructor'])('may not write %s', (field) => {
    expect(() => applyStatusPatch(node, JSON.parse(`{"${field}": {}}`) as Record<string, unknown>, at(0))).toThrow(
      `node "x": agents may not write status.${field}`,
    )
  })
  test.each(['Ready', 'Overcommitted', 'Schedulable'])('may not write the condition %s', (type) => {
    try {
      applyStatusPatch(node, { conditions: [{ ...pressure('True'), type }] }, at(0))
      expect.unreachable()
    } catch (error) {
      expect(isOpError(error, 'Forbidden')).toBe(true)
      expect(String(error)).toContain(`status.conditions[${type}]`)
    }
  })
  test('merges its conditions by type; their time moves only when they flip', () => {
    const first = applyStatusPatch(node, { conditions: [pressure('False')] }, at(0))
    const same = applyStatusPatch({ ...node, status: first }, { conditions: [pressure('False')] }, at(1))
    const other = applyStatusPatch({ ...node, status: same }, { conditions: [pressure('True')] }, at(2))
    expect([first, same, other].map((s) => s.conditions?.map((c) => c.lastTransitionTime))).toEqual([
      [ready.lastTransitionTime, '2026-03-01T12:00:00Z'],
      [ready.lastTransitionTime, '2026-03-01T12:00:00Z'],
      [ready.lastTransitionTime, '2026-03-01T12:02:00Z'],
    ])
  })
  test.each([{}, null, 'x', [{}], [{ ...pressure('Maybe') }], [null]])(
    'conditions of the form %j are invalid',
    (conditions) => {
      expect(() => applyStatusPatch(node, { conditions }, at(0))).toThrow(/^status.conditions: must be a list/)
    },
  )
})

describe('an agent and its shard', () => {
  const own = shard({}, { phase: 'Starting', pid: 5 }) as unknown as Shard
  test('writes the whole status', () => {
    expect(
      applyStatusPatch(
        own,
        { phase: 'Ready', pid: null, port: 9000, conditions: [{ ...pressure('True'), type: 'Ready' }] },
        at(0),
      ),
    ).toEqual({
      phase: 'Ready',
      port: 9000,
      conditions: [{ ...pressure('True'), type: 'Ready', lastTransitionTime: '2026-03-01T12:00:00Z' }],
    })
  })
  test('and nothing that is not of a status', () => {
    expect(() => applyStatusPatch(own, { nodeName: 'mini-2' }, at(0))).toThrow('agents may not write status.nodeName')
  })
})
