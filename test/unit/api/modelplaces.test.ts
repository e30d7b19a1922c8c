/** Who needs which copy of a model, and what pruning would free. */
import { expect, test } from 'vitest'
import { rowOf } from '../../../src/api/columns.ts'
import type { ModelPlace } from '../../../src/api/modelplaces.ts'
import { placesOf } from '../../../src/api/modelplaces.ts'
import type { NodeModel } from '../../../src/api/node.ts'
import type { Shard } from '../../../src/api/shard.ts'
import { modelBlocks } from '../../../src/cli/describe/model.ts'
import { renderBlocks } from '../../../src/cli/describe/text.ts'
import { NOW_MS, aGroup, aModel, aNode, aShard } from '../../support/cluster.ts'

const source = 'hf://org/name'
const copy = (revision: string, more: Partial<NodeModel> = {}): NodeModel => ({
  source,
  state: 'Present',
  sizeBytes: 3 * 2 ** 30,
  revision,
  ...more,
})
const group = aGroup()
const shard = (rank: number, revision: string, spec: Partial<Shard['spec']> = {}): Shard => {
  const plain = aShard(group, rank)
  return { ...plain, spec: { ...plain.spec, model: { ...plain.spec.model, source, revision }, ...spec } }
}
const nodes = [
  aNode('mini-1', { status: { models: [copy('old', { prunable: true }), copy('new')] } }),
  aNode('mini-2', { status: { models: [copy('new', { prunable: true }), { source: 'file:x', state: 'Present' }] } }),
]
const brief = (places: readonly ModelPlace[]) =>
  places.map(({ node, revision, shards, prunableBytes }) => [node, revision, shards.join(), prunableBytes / 2 ** 30])

test('each copy by its commit, with the shards of that commit on that node', () => {
  expect(brief(placesOf(source, nodes, [shard(0, 'new')]))).toEqual([
    ['mini-1', 'new', 'chat-0-e1-0', 0],
    ['mini-1', 'old', '', 3],
    ['mini-2', 'new', '', 3],
  ])
})
test('a shard that has just been bound counts before the agent has said so', () => {
  expect(brief(placesOf(source, nodes, [shard(1, 'new')]))[2]).toEqual(['mini-2', 'new', 'chat-0-e1-1', 0])
})
test('a worker of llama.cpp reads no files', () => {
  expect(brief(placesOf(source, nodes, [shard(1, 'new', { transport: 'Rpc' })]))[2]).toEqual(['mini-2', 'new', '', 3])
})
test('what people put there is never pruned', () => {
  expect(brief(placesOf('file:x', nodes, []))).toEqual([['mini-2', undefined, '', 0]])
})

test('the table counts, the description names', () => {
  const places = placesOf(source, nodes, [shard(0, 'new')])
  const model = { ...aModel(), spec: { source } }
  expect(rowOf(model, NOW_MS, { placesOfSource: () => places }).slice(-2)).toEqual([
    'mini-1:1',
    'mini-1:3.0Gi,mini-2:3.0Gi',
  ])
  expect(rowOf(model, NOW_MS, { placesOfSource: () => [] }).slice(-2)).toEqual(['<none>', '<none>'])
  expect(renderBlocks(modelBlocks(model, places))).toContain(
    [
      'Files:',
      '  NODE     STATE     SIZE    REVISION   SHARDS        PRUNING FREES',
      '  mini-1   Present   3.0Gi   new        chat-0-e1-0   nothing',
      '  mini-1   Present   3.0Gi   old        <none>        3.0Gi',
      '  mini-2   Present   3.0Gi   new        <none>        3.0Gi',
    ].join('\n'),
  )
})
