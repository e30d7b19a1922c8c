/** From ports to measured links, through the store; agents are played. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Node, NodePort } from '../../../src/api/node.ts'
import { updateStatus } from '../../../src/store/objects.ts'
import { ControlPlane } from '../../support/controlplane.ts'
import { atBits, qwen7b } from '../planner/models.ts'

let plane: ControlPlane
beforeEach(async () => {
  plane = await ControlPlane.start()
})
afterEach(() => plane.stop())

const port = (address: string): NodePort => ({ interface: 'en0', type: 'Ethernet', addresses: [address], speedGbps: 1 })

async function join(name: string, address: string): Promise<void> {
  await plane.addNode(name)
  await say(name, address)
}
/** What an agent with a measuring door says of itself. */
async function say(name: string, address: string): Promise<void> {
  const addresses = [
    { type: 'Internal', address },
    { type: 'Links', address, port: 7 },
  ]
  await plane.say(plane.get('Node', name), { ports: [port(`${address}/24`)], addresses })
  await plane.idle()
}
const linksOf = (name: string) => (plane.get('Node', name) as Node).status?.links
const events = (reason: string) =>
  plane.store
    .snapshot()
    .list('Event')
    .filter((event) => event.reason === reason)
    .map((event) => event.involvedObject.name)
    .sort()

test('two nodes in one subnet are linked, measured once, and again when an address changes', async () => {
  plane.sessions.found.set('a b', { kind: 'Measured', bytesPerSecond: 117e6, latencyMicros: 300 })
  await join('a', '10.0.0.1')
  expect(linksOf('a')).toBeUndefined()
  await join('b', '10.0.0.2')
  await plane.clock.advance(6_000)
  await plane.idle()
  expect(linksOf('b')).toMatchObject([
    { peer: 'a', type: 'Ethernet1G', address: '10.0.0.2', peerAddress: '10.0.0.1', bandwidthGBps: 0.117 },
  ])
  expect([events('LinksChanged'), events('LinkMeasured')]).toEqual([
    ['a', 'b'],
    ['a', 'b'],
  ])
  const { revision } = plane.store.stats()
  await plane.clock.advance(60 * 60_000)
  await plane.idle()
  expect([plane.sessions.asked, plane.store.stats().revision]).toEqual([['a b 10.0.0.1'], revision])

  await say('b', '10.0.0.7')
  await plane.idle()
  expect(plane.sessions.asked).toEqual(['a b 10.0.0.1', 'a b 10.0.0.1'])
  expect(linksOf('a')).toMatchObject([{ peerAddress: '10.0.0.7', bandwidthGBps: 0.117 }])
  await plane.clock.advance(25 * 3_600_000)
  await plane.idle()
  // A day later it is measured anew; the same again is no news.
  expect(plane.sessions.asked).toHaveLength(3)
})

test('a link over which the peer is not reached twice in a row is marked, until it is reached', async () => {
  plane.sessions.found.set('a b', { kind: 'Failed', message: 'connect EHOSTUNREACH' })
  await join('a', '10.0.0.1')
  await join('b', '10.0.0.2')
  await plane.clock.advance(6_000)
  await plane.idle()
  expect([linksOf('a')?.[0]?.failure, plane.sessions.asked.length]).toEqual([undefined, 1])
  await plane.clock.advance(31_000)
  await plane.idle()
  expect([linksOf('a')?.[0]?.failure, linksOf('b')?.[0]?.failure]).toEqual([
    'connect EHOSTUNREACH',
    'connect EHOSTUNREACH',
  ])
  expect(events('LinkFailed')).toEqual(['a', 'b'])
  plane.sessions.found.set('a b', { kind: 'Measured', bytesPerSecond: 117e6, latencyMicros: 300 })
  await plane.clock.advance(61_000)
  await plane.idle()
  expect(linksOf('b')?.[0]).toMatchObject({ bandwidthGBps: 0.117 })
  expect(linksOf('b')?.[0]?.failure).toBeUndefined()
})

test('a group that serves is judged when a link changes: it moves for a gain of a fifth, once, and never stops for it', async () => {
  const names = ['a', 'b', 'c']
  for (const name of names) await plane.addNode(name, '32Gi')
  /** In one transaction: a link that is slower than others that nobody has measured yet would draw the group to those. */
  const tell = async (allReduceMicros: number) => {
    await plane.store.transact((tx) => {
      for (const node of tx.list('Node')) {
        const peers = names.filter((peer) => peer !== node.metadata.name)
        const links = peers.map((peer) => ({ peer, type: 'Thunderbolt4', transport: 'TCP', allReduceMicros }))
        updateStatus(tx, node.metadata.uid, { links })
      }
    })
    await plane.obey()
  }
  const group = () => plane.get('ShardGroup', 'chat-0')?.spec
  await tell(340)
  await plane.addModel('seven', atBits(qwen7b, 16))
  await plane.deploy('chat', { model: { name: 'seven' }, parallelism: { strategy: 'Auto' } })
  await plane.obey()
  expect(group()).toMatchObject({ epoch: 1, strategy: 'Tensor', members: [{ node: 'a' }, { node: 'b' }] })
  await tell(1_400)
  expect([group()?.epoch, events('LinkGain')]).toEqual([1, ['a', 'b', 'chat-0']])
  await tell(3_000)
  // Single on c, where nothing of it ran, before it stopped on a and b.
  expect(group()).toMatchObject({ epoch: 2, strategy: 'Single', members: [{ node: 'c' }] })
  expect(plane.get('ModelDeployment', 'chat')?.status?.readyReplicas).toBe(1)
  const { revision } = plane.store.stats()
  await plane.obey()
  expect(plane.store.stats().revision).toBe(revision)
})
