/** A model that agents can fetch is no reason against a node; one that they cannot must be there. */
import { describe, expect, test } from 'vitest'
import type { Model, ModelStatus } from '../../../src/api/model.ts'
import { templateOf } from '../../../src/api/template.ts'
import type { NodeModel } from '../../../src/api/node.ts'
import type { Shard } from '../../../src/api/shard.ts'
import { placeGroup } from '../../../src/planner/placement/place.ts'
import { demandOf, nodeViews, resolveShape } from '../../../src/planner/placement/view.ts'
import { planShardGroup } from '../../../src/planner/shardgroup.ts'
import {
  aDeployment,
  aGroup,
  aModel,
  aNode,
  aRevision,
  aWorld,
  actionsOf,
  deploymentSpec,
  member,
  NOW_MS,
  tinyShape,
} from '../../support/cluster.ts'

const commit = 'c'.repeat(40)
const files = [{ name: 'model.safetensors', sizeBytes: 5, sha256: 'a'.repeat(64) }]
const model = (source: string, status: ModelStatus): Model => ({ ...aModel(), spec: { source }, status })
const read = { shape: tinyShape, digest: 'sha256:d', resolvedRevision: commit, files }

function placed(source: string, status: ModelStatus, models: readonly NodeModel[] = []) {
  const world = aWorld({ models: [model(source, status)], nodes: [aNode('mini-1', { status: { models } })] })
  const template = templateOf(deploymentSpec({ model: { source } }))
  const resolved = resolveShape(world, template.model)
  if (resolved === undefined) throw new Error('no shape')
  const placement = placeGroup(demandOf(template, resolved, []), nodeViews(world))
  return placement.kind === 'Placed' ? 'Placed' : placement.refusals.map((r) => r.reason)
}

describe('a node without the files', () => {
  test('takes an hf:// model that was read from the hub: it fetches it', () => {
    expect(placed('hf://org/name', read)).toBe('Placed')
  })
  test('takes it also over another commit, or half of one', () => {
    const other = { source: 'hf://org/name', digest: 'sha256:other', state: 'Present' } as const
    expect(placed('hf://org/name', read, [other])).toBe('Placed')
    expect(placed('hf://org/name', read, [{ ...other, state: 'Partial' }])).toBe('Placed')
  })
  test('is refused an hf:// model of which only a shape is known', () => {
    expect(placed('hf://org/name', { shape: tinyShape })).toEqual(['ModelNotPresent'])
  })
  test('is refused a file: model, whatever is known of it', () => {
    expect(placed('file:name', read)).toEqual(['ModelNotPresent'])
  })
})

test('shards carry the commit and the files, not the branch that the deployment names', () => {
  const deployment = aDeployment({ model: { source: 'hf://org/name', revision: 'main' } })
  const group = aGroup({ strategy: 'Single', members: [member(0, 'mini-1')] })
  const world = aWorld({
    models: [model('hf://org/name', read)],
    groups: [group],
    deployments: [deployment],
    revisions: [aRevision(deployment)],
  })
  const [created] = actionsOf(planShardGroup(world, group, NOW_MS), 'create')
  expect((created?.object as unknown as Shard).spec.model).toMatchObject({
    source: 'hf://org/name',
    digest: 'sha256:d',
    revision: commit,
    files,
  })
})
