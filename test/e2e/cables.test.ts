/**
 * Addresses of Thunderbolt cables, from what Macs say of their ports to connections over every one of their cables: Macs
 * are network namespaces, cables are veth pairs in a real bridge (support/netmacs.ts). No server and no agent run.
 */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { darwinPorts } from '../../agent/observe/darwin/ports.ts'
import { setThunderbolt } from '../../agent/thunderbolt/configure.ts'
import { sceneOf } from '../../agent/thunderbolt/scene.ts'
import type { Node, NodeStatus } from '../../src/api/node.ts'
import { planLinks } from '../../src/planner/links/plan.ts'
import { labObstacle } from '../support/netlab.ts'
import { NetMac } from '../support/netmacs.ts'
import { aMac } from '../unit/planner/objects.ts'

const obstacle = labObstacle()
const names = ['a', 'b', 'c']
let macs: readonly NetMac[] = []
let nodes: readonly Node[] = names.map((name) => aMac(name))

beforeAll(async () => {
  if (obstacle !== undefined) return
  macs = await Promise.all(names.map((name, index) => NetMac.make(name, index)))
  const [a, b, c] = macs as [NetMac, NetMac, NetMac]
  // A ring of three, and a second cable between a and b.
  await a.plug(1, b, 1)
  await b.plug(2, c, 1)
  await c.plug(2, a, 2)
  await a.plug(3, b, 3)
})
afterAll(() => Promise.all(macs.map((mac) => mac.end())))

async function sceneText(mac: NetMac) {
  const [setup = '', ifconfig = '', profile = ''] = await Promise.all([
    mac.doors.runText('networksetup', ['-listallhardwareports']),
    mac.doors.runText('ifconfig', ['-a']),
    mac.doors.runText('system_profiler', ['SPThunderboltDataType', '-json']),
  ])
  const scene = sceneOf({ setup, ifconfig, profile })
  return scene && { ...scene, bridges: scene.bridges.map((each) => ({ ...each, members: each.members.toSorted() })) }
}

/** As agents report, and the server writes. */
async function told(): Promise<void> {
  const heard = await Promise.all(
    nodes.map(async (node, i): Promise<Node> => {
      const mac = macs[i]!
      const [ports, scene] = await Promise.all([darwinPorts(mac.doors), sceneText(mac)])
      return { ...node, status: { ...node.status, ports: ports ?? [], networks: scene?.networks ?? [] } }
    }),
  )
  const { actions } = planLinks(heard)
  nodes = heard.map((node) => {
    const written = actions.find((action) => action.action === 'setStatus' && action.object === node)
    return written === undefined ? node : { ...node, status: (written as { status: NodeStatus }).status }
  })
}

const setAll = (kind: 'Set' | 'Undo') =>
  Promise.all(
    macs.map((mac, i) => {
      const wish = kind === 'Set' ? { kind, cables: nodes[i]?.status?.cables ?? [] } : { kind }
      return setThunderbolt(mac.doors, { wish, ownAddress: '192.168.1.5' })
    }),
  )

const links = () =>
  nodes.flatMap(({ metadata, status }) => (status?.links ?? []).map((link) => ({ from: metadata.name, ...link })))
const macOf = (name: string) => macs[names.indexOf(name)]!

test('each cable becomes a link of its own that carries, alone, what goes to its addresses; undone, all is as it was', async ({
  skip,
}) => {
  if (obstacle !== undefined) skip(obstacle)
  const first = await Promise.all(macs.map(sceneText))
  await told()
  // In the bridges there is one link for each pair, at the addresses of the bridges.
  expect(
    links()
      .map(({ from, peer }) => `${from}${peer}`)
      .sort(),
  ).toEqual(['ab', 'ac', 'ba', 'bc', 'ca', 'cb'])

  expect(await setAll('Set')).toMatchObject([{ kind: 'Done' }, { kind: 'Done' }, { kind: 'Done' }])
  expect(await setAll('Set')).toMatchObject(macs.map(() => ({ kind: 'Done', ran: [] })))
  await told()
  const found = links()
  expect(found.map(({ from, peer }) => `${from}${peer}`).sort()).toEqual([
    'ab',
    'ab',
    'ac',
    'ba',
    'ba',
    'bc',
    'ca',
    'cb',
  ])
  const over = ({ from, peer, address = '', peerAddress = '' }: (typeof found)[number]) =>
    macOf(from).reaches(address, macOf(peer), peerAddress)
  for (const link of found)
    expect([link.from, link.peerAddress, await over(link)]).toEqual([link.from, link.peerAddress, true])

  // One of the two cables between a and b is cut: what has its addresses does not go another way.
  await macOf('a').ip('link', 'set', 'en3', 'down')
  const cut = (await macOf('a').ip('-4', '-o', 'address', 'show', 'en3')).split(/\s+/)[3]?.split('/')[0]
  const reached = await Promise.all(
    found.filter(({ from }) => from === 'a').map(async (link) => [link.address === cut, await over(link)]),
  )
  expect(reached.map(String).sort()).toEqual(['false,true', 'false,true', 'true,false'])
  await macOf('a').ip('link', 'set', 'en3', 'up')

  await setAll('Undo')
  expect(await Promise.all(macs.map(sceneText))).toEqual(first)
})
