import { expect, test } from 'vitest'
import type { Toleration } from '../../../src/api/modeldeployment.ts'
import { tolerates } from '../../../src/planner/placement/filter.ts'

const taint = { key: 'dedicated', value: 'ann', effect: 'NoSchedule' as const }
const bare = { key: 'dedicated', effect: 'NoSchedule' as const }

test.each<[Toleration, tolerated: boolean, bareTolerated: boolean]>([
  [{ key: 'dedicated' }, true, true],
  [{ key: 'dedicated', value: 'ann' }, true, false],
  [{ key: 'dedicated', value: 'bob' }, false, false],
  [{ key: 'other' }, false, false],
  [{ key: 'dedicated', operator: 'Exists' }, true, true],
  [{ key: 'dedicated', operator: 'Equal', value: 'ann' }, true, false],
  [{ key: 'dedicated', operator: 'Equal' }, false, true],
  [{ operator: 'Exists' }, true, true],
  [{ operator: 'Exists', effect: 'NoSchedule' }, true, true],
])('%j', (toleration, tolerated, bareTolerated) => {
  expect(tolerates(toleration, taint)).toBe(tolerated)
  expect(tolerates(toleration, bare)).toBe(bareTolerated)
})
