/** Who meets whom on which address, and which link is the best of several. */
import { describe, expect, test } from 'vitest'
import type { Node, NodeLink } from '../../../src/api/node.ts'
import { bestLink, comingFrom, meetingHosts } from '../../../src/planner/links/ring.ts'
import { linkSpeed, ringOf } from '../../../src/planner/placement/links.ts'
import { aMac } from './objects.ts'

const link = (
  peer: string,
  type: NodeLink['type'],
  ends: readonly [string, string],
  more: Partial<NodeLink> = {},
): NodeLink => ({
  peer,
  type,
  transport: 'TCP',
  address: ends[0],
  peerAddress: ends[1],
  ...more,
})
const node = (name: string, ...links: readonly NodeLink[]): Node => aMac(name, { links })
const rank = (of: Node, port: number, own = '10.0.0.9') => ({ node: of, ringAddress: `${own}:${port}` })

describe('the best link', () => {
  const wifi = link('b', 'WiFi', ['10.0.0.11', '10.0.0.12'])
  const gigabit = link('b', 'Ethernet1G', ['10.0.0.1', '10.0.0.2'])
  const cable = link('b', 'Thunderbolt4', ['10.5.0.1', '10.5.0.2'])
  const of = (...links: readonly NodeLink[]) => bestLink(node('a', ...links), node('b'))?.address

  test('Thunderbolt before Ethernet before Wi-Fi, whatever the order', () => {
    expect([of(wifi, gigabit, cable), of(cable, gigabit, wifi), of(wifi, gigabit), of(wifi)]).toEqual([
      '10.5.0.1',
      '10.5.0.1',
      '10.0.0.1',
      '10.0.0.11',
    ])
  })
  test('but what was measured counts for more than the name', () => {
    expect(of({ ...cable, bandwidthGBps: 0.01 }, gigabit)).toBe('10.0.0.1')
    expect(of({ ...cable, latencyMicros: 40_000 }, gigabit)).toBe('10.0.0.1')
    expect(of({ ...gigabit, bandwidthGBps: 0.02 }, { ...gigabit, address: '10.3.0.1', bandwidthGBps: 0.1 })).toBe(
      '10.3.0.1',
    )
  })
  test('never one that failed, has no addresses, or carries RDMA only', () => {
    expect(of({ ...cable, failure: 'no answer' }, wifi)).toBe('10.0.0.11')
    expect(of({ peer: 'b', type: 'Thunderbolt5', transport: 'TCP' }, wifi)).toBe('10.0.0.11')
    expect(of({ ...cable, transport: 'RDMA' }, wifi)).toBe('10.0.0.11')
    expect(of({ ...cable, address: 'fe80::1%en2' }, wifi)).toBe('10.0.0.11')
    expect(of()).toBeUndefined()
  })
  test('of two that are equal both ends choose the same, also when only one end says anything', () => {
    const twin = link('b', 'Ethernet1G', ['10.0.0.3', '10.0.0.4'])
    const a = node('a', twin, gigabit)
    const b = node(
      'b',
      link('a', 'Ethernet1G', ['10.0.0.2', '10.0.0.1']),
      link('a', 'Ethernet1G', ['10.0.0.4', '10.0.0.3']),
    )
    expect([bestLink(a, b)?.address, bestLink(b, a)?.peerAddress]).toEqual(['10.0.0.1', '10.0.0.1'])
    expect(bestLink(node('b'), a)).toMatchObject({ peer: 'a', address: '10.0.0.2', peerAddress: '10.0.0.1' })
  })
})

describe('where ranks meet', () => {
  // a – b – c – a: each pair has a cable of its own.
  const a = node(
    'a',
    link('b', 'Thunderbolt4', ['10.5.0.1', '10.5.0.2']),
    link('c', 'Thunderbolt4', ['10.5.0.10', '10.5.0.9']),
  )
  const b = node('b', link('c', 'Thunderbolt4', ['10.5.0.5', '10.5.0.6']))
  const c = node('c')
  const ranks = [rank(a, 7000), rank(b, 7001), rank(c, 7002)]

  test('in a ring: at the address on the cable from the rank before', () => {
    expect(meetingHosts(ranks, 'Ring')).toEqual([['10.5.0.10:7000'], ['10.5.0.2:7001'], ['10.5.0.6:7002']])
  })
  test('a rank may come from any of its addresses towards another one: not the one where it is met itself', () => {
    expect(comingFrom(ranks)).toEqual([
      ['10.0.0.9', '10.5.0.1', '10.5.0.10'],
      ['10.0.0.9', '10.5.0.2', '10.5.0.5'],
      ['10.0.0.9', '10.5.0.6', '10.5.0.9'],
    ])
    expect(comingFrom([rank(a, 1, '127.0.0.1'), rank(b, 2, '127.0.0.1')])).toEqual([['127.0.0.1'], ['127.0.0.1']])
  })
  test('over Rpc: at the address on the cable from the leader', () => {
    expect(meetingHosts(ranks, 'Rpc').slice(1)).toEqual([['10.5.0.2:7001'], ['10.5.0.9:7002']])
  })
  test('where no link is known: at the address that the rank took', () => {
    expect(meetingHosts([rank(node('x'), 1, '10.0.0.1'), rank(node('y'), 2, '10.0.0.2')], 'Ring')).toEqual([
      ['10.0.0.1:1'],
      ['10.0.0.2:2'],
    ])
    expect(meetingHosts([rank(a, 1, '10.0.0.1'), rank(a, 2, '10.0.0.1')], 'Ring')).toEqual([
      ['10.0.0.1:1'],
      ['10.0.0.1:2'],
    ])
  })
  test('a rank on loopback stays there: nothing else is opened without identities', () => {
    expect(meetingHosts([rank(a, 1, '127.0.0.1'), rank(b, 2, '127.0.0.1')], 'Ring')).toEqual([
      ['127.0.0.1:1'],
      ['127.0.0.1:2'],
    ])
  })
})

test('ranks that are cabled together are neighbours', () => {
  const cables = new Set(['a c', 'b c', 'b d', 'a d'])
  const cableOr = (x: string, y: string) => {
    const type = cables.has([x, y].sort().join(' ')) ? 'Thunderbolt4' : 'Ethernet1G'
    return linkSpeed({ peer: y, type, transport: 'TCP' }, 'Ring')
  }
  const ring = ringOf(['a', 'b', 'c', 'd'], {
    link: cableOr,
    mesh: false,
    costOf: (l) => l.allReduceSeconds + l.hopSeconds + 1e6 / l.bytesPerSecond,
    adds: false,
    closed: true,
  })
  expect(ring?.order).toEqual(['a', 'c', 'b', 'd'])
  expect(ring?.linkNames).toEqual(['tb4-tcp'])
})
