/** Which nodes the server names to an agent that needs a model's files. */
import { expect, test } from 'vitest'
import type { Node, NodeLink, NodeModel } from '../../../src/api/node.ts'
import type { Shard } from '../../../src/api/shard.ts'
import { modelPeers } from '../../../src/server/modelpeers.ts'
import type { Snapshot } from '../../../src/store/store.ts'
import { wantedShard } from '../../support/agentworld.ts'

const wanted = { source: 'hf://org/name', commit: 'c0ffee0' }
const held: NodeModel = { source: wanted.source, state: 'Present' }

interface Sketch {
  readonly models?: readonly NodeModel[]
  readonly ready?: boolean
  readonly door?: string | null
  readonly links?: readonly NodeLink[]
}
const node = (name: string, { models = [held], ready = true, door = '127.0.0.1', links = [] }: Sketch = {}) =>
  ({
    kind: 'Node',
    metadata: { name },
    status: {
      models,
      links,
      addresses: [
        { type: 'Internal', address: '127.0.0.1' },
        ...(door === null ? [] : [{ type: 'Models', address: door, port: 7 }]),
      ],
      conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }],
    },
  }) as unknown as Node
const world = (nodes: readonly Node[], shards: readonly Shard[] = []) =>
  ({
    list: (kind: string) => (kind === 'Node' ? nodes : shards),
    get: (_: string, __: string, name: string) => nodes.find((n) => n.metadata.name === name),
  }) as unknown as Snapshot
const names = (nodes: readonly Node[], shards: readonly Shard[] = []) =>
  modelPeers(world([node('me', { models: [] }), ...nodes], shards), 'me', wanted).map((peer) => peer.node)

test('are those that are Ready, hold files of it whole or in part, and have a door', () => {
  const partial = node('partial', { models: [{ ...held, state: 'Partial' }] })
  const corrupt = node('corrupt', { models: [{ ...held, state: 'Corrupt' }] })
  const other = node('other', { models: [{ source: 'file:x', state: 'Present' }] })
  const shut = node('shut', { door: null })
  expect(names([node('whole'), partial, corrupt, other, node('away', { ready: false }), shut])).toEqual([
    'partial',
    'whole',
  ])
})

test('and those that are to fetch it at the same commit', () => {
  const idle = [node('one', { models: [] }), node('two', { models: [] })]
  const shard = (nodeName: string, revision: string) => wantedShard({ nodeName, source: wanted.source, revision })
  expect(names(idle, [shard('one', wanted.commit), shard('two', 'an-older-one')])).toEqual(['one'])
})

test('the fastest linked first; at the address of that link, unless the door is open on loopback only', () => {
  const link = (peer: string, bandwidthGBps: number, peerAddress: string): NodeLink => ({
    peer,
    type: 'Thunderbolt4',
    transport: 'TCP',
    peerAddress,
    bandwidthGBps,
  })
  const links = [link('far', 0.1, '10.0.0.2'), link('far', 2, '10.1.0.2'), link('near', 3, '10.1.0.3')]
  const nodes = [
    node('me', { models: [], links }),
    node('far', { door: '192.168.0.2' }),
    node('near'),
    node('unlinked'),
  ]
  expect(modelPeers(world(nodes), 'me', wanted)).toEqual([
    { node: 'near', address: '127.0.0.1', port: 7, bytesPerSecond: 3e9 },
    { node: 'far', address: '10.1.0.2', port: 7, bytesPerSecond: 2e9 },
    { node: 'unlinked', address: '127.0.0.1', port: 7 },
  ])
})
