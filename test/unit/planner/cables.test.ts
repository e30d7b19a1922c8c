/** Addresses of Thunderbolt cables: both ends the same, no two alike, none of a network that somebody has. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Node, NodeCable, NodeNetwork, NodePort } from '../../../src/api/node.ts'
import { ipv4Text, netmaskOf, overlap, parseCidr, sameSubnet } from '../../../src/lib/ipv4.ts'
import { assignCables, pools } from '../../../src/planner/links/cables.ts'
import { planLinks } from '../../../src/planner/links/plan.ts'
import { aMac, aThunderboltPort as port } from './objects.ts'

interface Wish {
  readonly networks?: readonly NodeNetwork[]
  readonly cables?: readonly NodeCable[]
}
const node = (name: string, ports: readonly NodePort[], wish: Wish = {}): Node => {
  const mac = aMac(name)
  return { ...mac, status: { ...mac.status, ports, ...wish } }
}
const given = (nodes: readonly Node[], name: string) => assignCables(nodes).get(name) ?? []
const withCables = (nodes: readonly Node[]): readonly Node[] => {
  const cables = assignCables(nodes)
  return nodes.map((n) => ({ ...n, status: { ...n.status, cables: cables.get(n.metadata.name) ?? [] } }))
}
/** As agents do: each port has what it was given, and nothing else. */
const applied = (nodes: readonly Node[]): readonly Node[] =>
  withCables(nodes).map((n) => ({
    ...n,
    status: {
      ...n.status,
      ports: (n.status?.ports ?? []).map((p) => ({
        ...p,
        addresses: (n.status?.cables ?? []).filter((c) => c.domainUuid === p.domainUuid).map((c) => c.address),
      })),
    },
  }))

const pair = [node('a', [port('A1', 'B1')]), node('b', [port('B1', 'A1')])]

describe('a cable', () => {
  test('has a subnet of four, the same at both ends, the smaller address at the smaller name', () => {
    const [[one], [other]] = [given(pair, 'a'), given(pair, 'b')]
    expect(one).toMatchObject({ peer: 'b', domainUuid: 'A1', peerDomainUuid: 'B1' })
    expect([other?.address, other?.peerAddress]).toEqual([one?.peerAddress, one?.address])
    expect(sameSubnet(one?.address ?? '', one?.peerAddress ?? '')).toBe(true)
    expect(parseCidr(one?.address ?? '')).toMatchObject({ length: 30 })
    expect(one?.address.endsWith(ipv4Text((parseCidr(one.address)?.network ?? 0) + 1) + '/30')).toBe(true)
  })
  test('keeps it when other cables come, and after a reboot with other UUIDs and interfaces', () => {
    const before = given(pair, 'b')[0]?.address
    const more = [
      node('a', [port('A0', 'C1'), port('A1', 'B1')]),
      node('b', [port('B1', 'A1')]),
      node('aa', [port('C1', 'A0')]),
    ]
    expect(given(more, 'b')[0]?.address).toBe(before)
    const rebooted = [node('a', [port('A1', 'B9')], { cables: given(pair, 'a') }), node('b', [port('B9', 'A1')])]
    expect(given(rebooted, 'b')[0]?.address).toBe(before)
  })
  test('keeps it when it is moved to another port, whose old one still has the address', () => {
    const [a, b] = applied(pair) as [Node, Node]
    const old = b.status?.ports?.[0]?.addresses ?? []
    const moved = node('b', [{ ...port('B1', ''), addresses: old }, port('B2', 'A1')], { cables: given(pair, 'b') })
    const now = node('a', [port('A1', 'B2', { addresses: a.status?.ports?.[0]?.addresses ?? [] })], {
      cables: given(pair, 'a'),
    })
    expect(given([now, moved], 'b')).toMatchObject([{ domainUuid: 'B2', address: old[0] }])
  })
  test('is seen although one end looked before it was plugged in, and serves one pair of ports alone', () => {
    const { peerDomainUuid: _, ...blind } = port('B1', '')
    expect(given([node('a', [port('A1', 'B1')]), node('b', [blind])], 'b')).toHaveLength(1)
    const twice = [...pair, node('c', [port('B1', 'A1')])]
    expect(given(twice, 'b')).toHaveLength(1)
    expect(given(twice, 'c')).toEqual([])
  })
  test('from a Mac to itself, and to one that is no node, has none', () => {
    expect(given([node('a', [port('A1', 'A2'), port('A2', 'A1'), port('A3', 'X')]), node('b', [])], 'a')).toEqual([])
  })
  test('that people gave addresses to is left to them; one in a bridge is not', () => {
    const own = (a: string, b: string, more: Partial<NodePort> = {}) => [
      node('a', [port('A1', 'B1', { addresses: [a], ...more })]),
      node('b', [port('B1', 'A1', { addresses: [b] })]),
    ]
    expect(given(own('10.0.0.1/30', '10.0.0.2/30'), 'a')).toEqual([])
    expect(given(own('10.0.0.1/24', '10.0.0.2/24', { bridge: 'bridge0' }), 'a')).toHaveLength(1)
    expect(given(own('169.254.1.1/16', '169.254.9.9/16'), 'a')).toHaveLength(1)
    expect(given(own('10.0.0.1/30', '10.0.9.2/30'), 'a')).toHaveLength(1)
    // In our pool, but the wrong way round: somebody else's choice, too.
    expect(given(own('10.217.0.2/30', '10.217.0.1/30'), 'a')).toEqual([])
  })
  test('of a bridge over which a node reaches the server is left alone, at both ends', () => {
    const bridged = node('a', [port('A1', 'B1', { addresses: ['10.0.0.1/24'], bridge: 'bridge0' })])
    const at = (address: string) => [
      { ...bridged, status: { ...bridged.status, addresses: [{ type: 'Internal', address } as const] } },
      pair[1]!,
    ]
    expect(['a', 'b'].flatMap((name) => given(at('10.0.0.1'), name))).toEqual([])
    expect(given(at('192.168.1.5'), 'b')).toHaveLength(1)
  })
  test('two between the same two Macs are two subnets', () => {
    const two = [node('a', [port('A1', 'B1'), port('A2', 'B2')]), node('b', [port('B1', 'A1'), port('B2', 'A2')])]
    const [first, second] = given(two, 'a')
    expect(overlap(first?.address ?? '', second?.address ?? '')).toBe(false)
    expect(planLinks(applied(two)).actions[0]).toMatchObject({
      status: {
        links: [
          { peer: 'b', transport: 'TCP' },
          { peer: 'b', transport: 'TCP' },
        ],
      },
    })
  })
})

describe('a network that somebody has', () => {
  const avoids = (networks: readonly NodeNetwork[]) =>
    given([node('a', [port('A1', 'B1')], { networks }), pair[1]!], 'a')[0]?.address ?? ''
  test('is kept out of, down to another pool', () => {
    const [first = ''] = given(pair, 'a').map(({ address }) => address)
    expect(avoids([{ interface: 'en0', address: first }])).not.toBe(first)
    expect(overlap(avoids([{ interface: 'utun4', address: '10.0.0.5/8' }]), '172.29.0.0/16')).toBe(true)
    expect(
      overlap(
        avoids([
          { interface: 'utun4', address: '10.0.0.5/8' },
          { interface: 'en0', address: '172.16.9.9/12' },
        ]),
        '192.168.217.0/24',
      ),
    ).toBe(true)
    const all = pools.map((address, i) => ({ interface: `en${i}`, address }))
    expect(given([node('a', [port('A1', 'B1')], { networks: all }), pair[1]!], 'a')).toEqual([])
  })
  test('moves a cable that was there before', () => {
    const [a, b] = applied(pair) as [Node, Node]
    const address = a.status?.cables?.[0]?.address ?? ''
    const network = { interface: 'en0', address: `${ipv4Text((parseCidr(address)?.network ?? 0) + 3)}/16` }
    const now = given([a, { ...b, status: { ...b.status, networks: [network] } }], 'a')
    expect(overlap(now[0]?.address ?? '', network.address)).toBe(false)
  })
  test('is the cable’s own where it is the address that was given, also by a server that forgot it', () => {
    const standing = applied(pair).map((n) => {
      const [own] = n.status?.ports ?? []
      const networks = [{ interface: own?.interface ?? '', address: own?.addresses[0] ?? '' }]
      return { ...n, status: { ...n.status, networks } }
    })
    expect(given(standing, 'a')).toEqual(given(pair, 'a'))
    const forgotten = standing.map((n) => ({ ...n, status: { ...n.status, cables: [] } }))
    expect(given(forgotten, 'a')).toEqual(given(pair, 'a'))
  })
})

test('what was given is written into both Nodes, once, and taken away with the cable', () => {
  const { actions } = planLinks(pair)
  expect(actions.map((action) => action.action)).toEqual(['setStatus', 'setStatus'])
  expect(planLinks(withCables(pair)).actions).toEqual([])
  const [a, b] = withCables(pair) as [Node, Node]
  const unplugged = planLinks([a, { ...b, status: { ...b.status, ports: [] } }, node('c', [])])
  expect(unplugged.actions.map((action) => 'status' in action && 'cables' in (action.status as object))).toEqual([
    false,
    false,
  ])
  const gone = planLinks([a, { ...b, status: { ...b.status, ports: [port('B1', 'X')] } }])
  expect(gone.actions).toHaveLength(0)
})

test('subnets as text', () => {
  expect(netmaskOf(30)).toBe('255.255.255.252')
  expect(netmaskOf(16)).toBe('255.255.0.0')
  expect(overlap('10.0.0.1/8', '10.217.3.1/30')).toBe(true)
  expect(overlap('10.217.3.1/30', '10.217.3.4/30')).toBe(false)
  expect(overlap('fe80::1%en0/64', '10.0.0.0/8')).toBe(false)
})

/** Any graph of cables: each joins two free ports of different Macs; each Mac may be in networks of its own. */
const aFleet = fc
  .record({
    macs: fc.integer({ min: 2, max: 8 }),
    cables: fc.array(fc.tuple(fc.nat(7), fc.nat(7)), { maxLength: 24 }),
    networks: fc.array(
      fc.tuple(fc.nat(7), fc.constantFrom('10.217', '10.3', '172.29'), fc.nat(255), fc.integer({ min: 14, max: 30 })),
      { maxLength: 10 },
    ),
  })
  .map(({ macs, cables, networks }) => {
    const ports = Array.from({ length: macs }, () => [] as NodePort[])
    for (const [index, [x, y]] of cables.entries()) {
      const [i, j] = [x % macs, y % macs]
      if (i === j) continue
      ports[i]?.push(port(`U${index}x`, `U${index}y`))
      ports[j]?.push(port(`U${index}y`, `U${index}x`))
    }
    return ports.map((own, i) =>
      node(`mini-${i}`, own, {
        networks: networks
          .filter(([at]) => at % macs === i)
          .map(([, start, third, length], k) => ({ interface: `en${k}`, address: `${start}.${third}.1/${length}` })),
      }),
    )
  })

test('any graph of cables: both ends agree, no two cables and no network share an address, and it stays so', () => {
  fc.assert(
    fc.property(aFleet, (nodes) => {
      const cables = assignCables(nodes)
      const all = [...cables.values()].flat()
      // Both ends agree, whichever order the nodes come in.
      expect(assignCables(nodes.toReversed())).toEqual(new Map([...cables]))
      for (const { peer, domainUuid, peerDomainUuid, address, peerAddress } of all) {
        const back = cables.get(peer)?.find((other) => other.domainUuid === peerDomainUuid)
        expect(back).toMatchObject({ peerDomainUuid: domainUuid, address: peerAddress, peerAddress: address })
        expect(sameSubnet(address, peerAddress)).toBe(true)
      }
      // A subnet is of one cable: two ends, two addresses.
      expect(new Set(all.map(({ address }) => address)).size).toBe(all.length)
      expect(new Set(all.map(({ address }) => parseCidr(address)?.network)).size).toBe(all.length / 2)
      const networks = nodes.flatMap(({ status }) => status?.networks ?? [])
      for (const { address } of all) for (const known of networks) expect(overlap(address, known.address)).toBe(false)
      // Nothing but a full pool leaves a cable without.
      expect(all).toHaveLength(nodes.flatMap(({ status }) => status?.ports ?? []).length)
      // Set by the agents, it is given again.
      expect(assignCables(applied(nodes))).toEqual(cables)
    }),
  )
})
