/** Links from the ports of both ends. */
import { describe, expect, test } from 'vitest'
import type { Node, NodeLink, NodePort } from '../../../src/api/node.ts'
import { parseCidr, sameSubnet } from '../../../src/lib/ipv4.ts'
import { matchLinks } from '../../../src/planner/links/match.ts'
import { planLinks } from '../../../src/planner/links/plan.ts'
import { linkSpeed } from '../../../src/planner/placement/links.ts'
import { aMac, aThunderboltPort as cable } from './objects.ts'

const node = (
  name: string,
  ports: readonly NodePort[] | undefined,
  links?: readonly NodeLink[],
  address?: string,
): Node => {
  const mac = aMac(name)
  return {
    ...mac,
    status: {
      ...mac.status,
      ...(ports === undefined ? {} : { ports }),
      ...(links === undefined ? {} : { links }),
      ...(address === undefined ? {} : { addresses: [{ type: 'Internal', address }] }),
    },
  }
}
const ethernet = (address: string, speedGbps = 1, name = 'en0'): NodePort => ({
  interface: name,
  type: 'Ethernet',
  addresses: [address],
  speedGbps,
})
const wifi = (address: string): NodePort => ({ interface: 'en1', type: 'WiFi', addresses: [address] })
const linksOf = (nodes: readonly Node[], name: string) => matchLinks(nodes).get(name)
const tcp = (peer: string, type: NodeLink['type'], address: string, peerAddress: string) => ({
  peer,
  type,
  transport: 'TCP',
  address,
  peerAddress,
})

describe('by subnet', () => {
  test('each end sees the other; the slower port says what the link is', () => {
    const nodes = [node('a', [ethernet('10.0.0.1/24', 10)]), node('b', [ethernet('10.0.0.2/24', 2.5)])]
    expect(linksOf(nodes, 'a')).toEqual([tcp('b', 'Ethernet2.5G', '10.0.0.1', '10.0.0.2')])
    expect(linksOf(nodes, 'b')).toEqual([tcp('a', 'Ethernet2.5G', '10.0.0.2', '10.0.0.1')])
  })
  test('two ways are two links, the better one first, and no port serves two of them', () => {
    const nodes = [
      node('a', [wifi('10.0.0.11/24'), ethernet('10.0.0.1/24')]),
      node('b', [ethernet('10.0.0.2/24'), wifi('10.0.0.12/24')]),
    ]
    expect(linksOf(nodes, 'a')).toEqual([
      tcp('b', 'Ethernet1G', '10.0.0.1', '10.0.0.2'),
      tcp('b', 'WiFi', '10.0.0.11', '10.0.0.12'),
    ])
  })
  test('a cable to one side of a radio is better than a radio on both', () => {
    const nodes = [node('a', [wifi('10.0.0.11/24'), ethernet('10.0.0.1/24')]), node('b', [wifi('10.0.0.12/24')])]
    expect(linksOf(nodes, 'b')).toEqual([tcp('a', 'WiFi', '10.0.0.12', '10.0.0.1')])
  })
  test('of two links in other subnets each has its own addresses', () => {
    const nodes = [
      node('a', [ethernet('10.0.0.1/24'), ethernet('10.9.0.1/24', 10, 'en7')]),
      node('b', [ethernet('10.0.0.2/24'), ethernet('10.9.0.2/24', 10, 'en8')]),
    ]
    expect(linksOf(nodes, 'b')).toEqual([
      tcp('a', 'Ethernet10G', '10.9.0.2', '10.9.0.1'),
      tcp('a', 'Ethernet1G', '10.0.0.2', '10.0.0.1'),
    ])
  })
  test('addresses that machines gave themselves count only where there are no others', () => {
    const both = (own: string, given: string): NodePort => ({ ...ethernet(own), addresses: [own, given] })
    const nodes = [
      node('a', [both('169.254.1.1/16', '10.0.0.1/24')]),
      node('b', [both('169.254.1.2/16', '10.0.0.2/24')]),
    ]
    expect(linksOf(nodes, 'a')).toEqual([tcp('b', 'Ethernet1G', '10.0.0.1', '10.0.0.2')])
    const wild = [node('a', [ethernet('169.254.1.1/16')]), node('b', [ethernet('169.254.1.2/16')])]
    expect(linksOf(wild, 'a')).toEqual([tcp('b', 'Ethernet1G', '169.254.1.1', '169.254.1.2')])
  })
  test('link-local IPv6 is reported, and no link: engines speak IPv4', () => {
    const six = (address: string): NodePort => ({ ...ethernet(address), addresses: [`${address}%en0/64`] })
    expect(linksOf([node('a', [six('fe80::1')]), node('b', [six('fe80::2')])], 'a')).toEqual([])
  })
  test('with no subnet in common, nodes that the server reaches are taken to reach each other by a router', () => {
    const nodes = [
      node('a', [ethernet('10.0.0.1/24')], [], '10.0.0.1'),
      node('b', [ethernet('10.1.0.1/24')], [], '10.1.0.1'),
    ]
    expect(linksOf(nodes, 'a')).toEqual([tcp('b', 'Ethernet1G', '10.0.0.1', '10.1.0.1')])
  })
  test('agents of one machine have the loopback', () => {
    const lo: NodePort = { interface: 'lo', type: 'Loopback', addresses: ['127.0.0.1/8'] }
    const nodes = [node('a', [lo], [], '127.0.0.1'), node('b', [lo], [], '127.0.0.1')]
    expect(linksOf(nodes, 'a')).toEqual([tcp('b', 'Loopback', '127.0.0.1', '127.0.0.1')])
    const same = [node('a', [ethernet('10.0.0.1/24')]), node('b', [ethernet('10.0.0.1/24')])]
    expect(linksOf(same, 'a')).toEqual([tcp('b', 'Loopback', '10.0.0.1', '10.0.0.1')])
  })
})

describe('by cable', () => {
  test('each neighbour at the addresses of its own cable; who is no neighbour is not linked through one', () => {
    const at = (address: string) => ({ addresses: [address] })
    const nodes = [
      node('a', [cable('A1', 'B1', at('10.5.0.1/30'))]),
      node('b', [cable('B1', 'A1', at('10.5.0.2/30')), cable('B2', 'C1', at('10.5.0.5/30'))]),
      node('c', [cable('C1', 'B2', at('10.5.0.6/30'))]),
    ]
    expect(linksOf(nodes, 'b')).toEqual([
      tcp('a', 'Thunderbolt4', '10.5.0.2', '10.5.0.1'),
      tcp('c', 'Thunderbolt4', '10.5.0.5', '10.5.0.6'),
    ])
    expect(linksOf(nodes, 'a')).toEqual([tcp('b', 'Thunderbolt4', '10.5.0.1', '10.5.0.2')])
  })
  test('in the bridge: by cable, with the addresses of the bridges; two cables are one link', () => {
    const bridged = (own: string, peer: string, address: string) =>
      cable(own, peer, { addresses: [address], bridge: 'bridge0' })
    const nodes = [
      node('a', [bridged('A1', 'B1', '169.254.1.1/16'), bridged('A2', 'B2', '169.254.1.1/16')]),
      node('b', [
        bridged('B1', 'A1', '169.254.1.2/16'),
        bridged('B2', 'A2', '169.254.1.2/16'),
        bridged('B3', 'C1', '169.254.1.2/16'),
      ]),
      node('c', [bridged('C1', 'B3', '169.254.1.3/16')]),
    ]
    expect(linksOf(nodes, 'a')).toEqual([tcp('b', 'Thunderbolt4', '169.254.1.1', '169.254.1.2')])
  })
  test('a cable with IPv6 alone is shown, each end over its own interface, says why nothing runs over it, and is not measured', () => {
    const six = (own: string, peer: string, address: string) => cable(own, peer, { addresses: [`${address}/64`] })
    const ends = [
      node('a', [six('A1', 'B1', 'fe80::1%en5')], [], '10.0.0.1'),
      node('b', [six('B1', 'A1', 'fe80::2%en6')], [], '10.1.0.1'),
    ]
    const [link, routed] = linksOf(ends, 'a') ?? []
    expect(link).toMatchObject(tcp('b', 'Thunderbolt4', 'fe80::1%en5', 'fe80::2%en5'))
    expect(linksOf(ends, 'b')?.[0]).toMatchObject(tcp('a', 'Thunderbolt4', 'fe80::2%en6', 'fe80::1%en6'))
    expect(link?.failure).toMatch(/IPv6 addresses alone, and engines speak IPv4: .*--configure-thunderbolt/)
    // The router is not forgotten over it, and what is written is not written again.
    expect(routed).toEqual(tcp('b', 'Ethernet1G', '10.0.0.1', '10.1.0.1'))
    const written = ends.map((end) => ({
      ...end,
      status: { ...end.status, links: linksOf(ends, end.metadata.name) ?? [] },
    }))
    expect(planLinks(written).actions.filter(({ action }) => action === 'recordEvent')).toEqual([])
    expect(linkSpeed(link!, 'Rpc')).toBeUndefined()
    const four = ends.map((end, i) =>
      node(end.metadata.name, [
        cable(i ? 'B1' : 'A1', i ? 'A1' : 'B1', { addresses: [`10.5.0.${i + 1}/30`, `fe80::${i + 1}%en5/64`] }),
      ]),
    )
    expect(linksOf(four, 'a')).toEqual([tcp('b', 'Thunderbolt4', '10.5.0.1', '10.5.0.2')])
  })
  test('a way over IPv6 carries what goes through our tunnel, and no ring of MLX', () => {
    const way = { peer: 'b', type: 'Ethernet1G', transport: 'TCP', address: 'fd00::1', peerAddress: 'fd00::2' } as const
    expect(linkSpeed(way, 'Ring')).toBeUndefined()
    expect(linkSpeed(way, 'Rpc')).toMatchObject({
      className: linkSpeed({ ...way, address: '10.0.0.1', peerAddress: '10.0.0.2' }, 'Rpc')?.className,
    })
  })
  test('a cable without addresses is no link yet', () => {
    expect(linksOf([node('a', [cable('A1', 'B1')]), node('b', [cable('B1', 'A1')])], 'a')).toEqual([])
  })
  test.each([
    [80, 80, 'Thunderbolt5'],
    [80, 40, 'Thunderbolt4'],
    [20, 20, 'Thunderbolt3'],
  ] as const)('%d and %d Gb/s: %s', (own, other, type) => {
    const nodes = [
      node('a', [cable('A1', 'B1', { addresses: ['10.5.0.1/30'], speedGbps: own, rdma: true })]),
      node('b', [cable('B1', 'A1', { addresses: ['10.5.0.2/30'], speedGbps: other })]),
    ]
    // RDMA on one side is none.
    expect(linksOf(nodes, 'a')?.map((link) => [link.type, link.transport])).toEqual([[type, 'TCP']])
  })
  test('RDMA on both sides is a link of its own', () => {
    const port = (own: string, peer: string, address: string) =>
      cable(own, peer, { addresses: [address], speedGbps: 80, rdma: true })
    const nodes = [node('a', [port('A1', 'B1', '10.5.0.1/30')]), node('b', [port('B1', 'A1', '10.5.0.2/30')])]
    expect(linksOf(nodes, 'b')?.map(({ transport }) => transport)).toEqual(['RDMA', 'TCP'])
  })
})

describe('what is written', () => {
  const [one, other] = [ethernet('10.0.0.1/24'), ethernet('10.0.0.2/24')]
  const measured: NodeLink = { ...tcp('b', 'Ethernet1G', '10.0.0.1', '10.0.0.2'), bandwidthGBps: 0.11 } as NodeLink
  const back = tcp('a', 'Ethernet1G', '10.0.0.2', '10.0.0.1') as NodeLink

  test('nothing while nothing changed; figures stay with their link', () => {
    expect(planLinks([node('a', [one], [measured]), node('b', [other], [back])]).actions).toEqual([])
  })
  test('a link whose address changed has no figures, and is told as an event of each end', () => {
    const moved = ethernet('10.0.0.7/24')
    const { actions } = planLinks([node('a', [one], [measured]), node('b', [moved], [back])])
    expect(actions.flatMap((a) => (a.action === 'recordEvent' ? [[a.type, a.message]] : []))).toEqual([
      ['Warning', 'lost Ethernet1G to b (10.0.0.1 – 10.0.0.2); found Ethernet1G to b (10.0.0.1 – 10.0.0.7)'],
      ['Warning', 'lost Ethernet1G to a (10.0.0.2 – 10.0.0.1); found Ethernet1G to a (10.0.0.7 – 10.0.0.1)'],
    ])
    const links = actions.flatMap((a) => (a.action === 'setStatus' ? (a.status as Node['status'])?.links : []))
    expect(links).toEqual([
      tcp('b', 'Ethernet1G', '10.0.0.1', '10.0.0.7'),
      tcp('a', 'Ethernet1G', '10.0.0.7', '10.0.0.1'),
    ])
  })
  test('who says nothing of ports keeps what somebody wrote, and so do links to it', () => {
    const said = { peer: 'old', type: 'Thunderbolt4', transport: 'TCP' } as const
    expect(planLinks([node('old', undefined, [measured]), node('a', [one], [said])]).actions).toEqual([])
    expect(linksOf([node('a', [one], [said])], 'a')).toEqual([])
  })
})

test.each([
  ['10.0.0.1/30', '10.0.0.2/30', true],
  ['10.0.0.1/30', '10.0.0.5/30', false],
  ['10.0.0.1/24', '10.0.0.2/16', false],
  ['200.0.0.1/8', '200.255.0.1/8', true],
  ['fe80::1/64', 'fe80::2/64', false],
])('%s and %s in one subnet: %j', (a, b, same) => expect(sameSubnet(a, b)).toBe(same))
test.each(['10.0.0.1', '10.0.0.256/8', '10.0.0.1/33', 'fe80::1/64', ''])('%j is no IPv4 subnet', (text) =>
  expect(parseCidr(text)).toBeUndefined(),
)
