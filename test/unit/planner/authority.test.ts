/** A change of authority, step by step: who is waited for, when the next step is taken, and what is said of those in the way. */
import { describe, expect, test } from 'vitest'
import type { Authority, AuthorityPhase } from '../../../src/api/authority.ts'
import { API_VERSION, timestamp } from '../../../src/api/meta.ts'
import type { Node } from '../../../src/api/node.ts'
import type { User } from '../../../src/api/trust.ts'
import type { TrustWorld } from '../../../src/planner/authority.ts'
import { expiryWarning, planAuthorities, retireObjection } from '../../../src/planner/authority.ts'
import { NOW_MS, aNode, meta } from '../../support/cluster.ts'

const DAY_MS = 86_400_000
const OLD = 'a'.repeat(64)
const NEW = 'b'.repeat(64)

const anAuthority = (
  fingerprint: string,
  phase: AuthorityPhase,
  changes: Partial<Authority['status']> = {},
): Authority => ({
  apiVersion: API_VERSION,
  kind: 'Authority',
  metadata: meta(`ca-${fingerprint.slice(0, 8)}`),
  spec: { subject: `mctl ${fingerprint.slice(0, 4)}`, fingerprint, expiresAt: timestamp(NOW_MS + 3000 * DAY_MS) },
  status: { phase, since: timestamp(NOW_MS), ...changes },
})

const trusting = (name: string, by: string, trusts: readonly string[] | undefined, silentForMs?: number): Node =>
  aNode(name, {
    ...(silentForMs === undefined ? {} : { silentForMs }),
    status: {
      trust: {
        authority: `ca-${by.slice(0, 8)}`,
        expiresAt: timestamp(NOW_MS + DAY_MS),
        ...(trusts === undefined ? {} : { trusts }),
      },
      ...(silentForMs === undefined ? {} : { conditions: aNode(name, { silentForMs }).status!.conditions! }),
    },
  })

const aUser = (name: string, by?: string): User => ({
  apiVersion: API_VERSION,
  kind: 'User',
  metadata: meta(name),
  spec: { role: 'viewer' },
  ...(by === undefined
    ? {}
    : {
        status: {
          certificates: [{ serial: '1', authority: `ca-${by.slice(0, 8)}`, expiresAt: timestamp(NOW_MS + DAY_MS) }],
        },
      }),
})

const aWorld = (changes: Partial<TrustWorld>): TrustWorld => ({
  authorities: [anAuthority(OLD, 'Signing'), anAuthority(NEW, 'Introduced')],
  nodes: [],
  users: [],
  gateways: [],
  isSettled: true,
  ...changes,
})
const phasesAfter = (world: TrustWorld) =>
  planAuthorities(world, NOW_MS).actions.flatMap((action) =>
    action.action === 'setStatus' ? [(action.status as NonNullable<Authority['status']>).phase] : [],
  )

describe('the new authority signs', () => {
  test('when everybody who lives trusts it, and not before', () => {
    const both = [OLD, NEW]
    const gateway = { gateway: 'g', trusts: both }
    const nodes = [trusting('mini-1', OLD, both), trusting('mini-2', OLD, both)]
    expect(phasesAfter(aWorld({ nodes, gateways: [gateway] }))).toEqual(['Signing', 'Outgoing'])
    // One more thing each that stands against it.
    expect(phasesAfter(aWorld({ nodes, gateways: [gateway], isSettled: false }))).toEqual([])
    for (const gap of [
      { nodes: [...nodes, trusting('mini-3', OLD, [OLD])], gateways: [gateway] },
      { nodes: [...nodes, trusting('mini-3', OLD, undefined)], gateways: [gateway] },
      { nodes: [...nodes, aNode('mini-3')], gateways: [gateway] },
      { nodes, gateways: [gateway, { gateway: 'h', trusts: [OLD] }] },
      { nodes, gateways: [{ gateway: 'g' }] },
    ])
      expect(phasesAfter(aWorld(gap))).toEqual(['Introduced'])
  })

  test('without those who are away: they learn of it when they come back', () => {
    const nodes = [trusting('mini-1', OLD, [OLD, NEW]), trusting('mini-2', OLD, [OLD], 60_000)]
    expect(phasesAfter(aWorld({ nodes }))).toEqual(['Signing', 'Outgoing'])
  })

  test('an agent that is too old to trust two is named with its remedy', () => {
    const plan = planAuthorities(aWorld({ nodes: [trusting('mini-1', OLD, undefined)] }), NOW_MS)
    expect(plan.report).toEqual([
      'node "mini-1": its agent is of a version that knows one authority only. Upgrade it; its shards run on',
    ])
    expect(plan.waitMs).toBeGreaterThan(0)
  })

  test('what is known already is not written again', () => {
    const world = aWorld({ nodes: [trusting('mini-1', OLD, [OLD])] })
    const [told] = planAuthorities(world, NOW_MS).actions
    const status = (told as { status: Authority['status'] }).status
    const again = {
      ...world,
      authorities: [anAuthority(OLD, 'Signing'), { ...anAuthority(NEW, 'Introduced'), status }],
    }
    expect(planAuthorities(again as TrustWorld, NOW_MS).actions).toEqual([])
  })
})

describe('the old authority is retired', () => {
  const authorities = [anAuthority(OLD, 'Outgoing'), anAuthority(NEW, 'Signing')]
  const [outgoing, signing] = authorities as [Authority, Authority]
  const how = { force: false, nowMs: NOW_MS }
  const objection = (changes: Partial<TrustWorld>, target = outgoing, force = false) =>
    retireObjection(target, aWorld({ authorities, ...changes }), { ...how, force })

  test('when nobody lives on it', () => {
    const renewed = { nodes: [trusting('mini-1', NEW, [OLD, NEW])], users: [aUser('ann', NEW), aUser('admin')] }
    expect(objection({ ...renewed, gateways: [{ gateway: 'g', trusts: [OLD, NEW] }] })).toBeUndefined()
  })

  test.each<[string, Partial<TrustWorld>, string]>([
    ['a node that renews yet', { nodes: [trusting('m', OLD, [OLD, NEW])] }, 'It renews by itself'],
    ['a node that is away', { nodes: [trusting('m', OLD, [OLD], 60_000)] }, 'mctl delete node m'],
    ['a node of which nothing is known', { nodes: [aNode('m')] }, 'It renews by itself'],
    ['a person with an old certificate', { users: [aUser('ann', OLD)] }, 'mctl config renew'],
    ['a person of before certificates were remembered', { users: [aUser('ann')] }, 'mctl user delete ann'],
    ['a gateway', { gateways: [{ gateway: 'g', trusts: [OLD] }] }, 'gateway.log'],
  ])('not while there is %s, unless by force', (_, changes, remedy) => {
    expect(objection(changes)).toContain(remedy)
    expect(objection(changes, outgoing, true)).toBeUndefined()
  })

  test('certificates that are over hold nobody up', () => {
    const later = { force: false, nowMs: NOW_MS + 2 * DAY_MS }
    const world = aWorld({ authorities, nodes: [trusting('m', OLD, [OLD], 60_000)], users: [aUser('ann', OLD)] })
    expect(retireObjection(outgoing, world, later)).toBeUndefined()
  })

  test('never the one that signs; and one that signs nothing yet at any time', () => {
    expect(objection({}, signing, true)).toContain('begin with `mctl authority rotate`')
    const introduced = anAuthority(NEW, 'Introduced')
    expect(objection({ authorities: [anAuthority(OLD, 'Signing'), introduced] }, introduced)).toBeUndefined()
  })

  test('is trusted for ten seconds more, whatever clocks do', () => {
    const retiring = (agoMs: number) =>
      planAuthorities(
        aWorld({ authorities: [anAuthority(OLD, 'Retiring', { since: timestamp(NOW_MS - agoMs) }), signing] }),
        NOW_MS,
      )
    expect(retiring(4_000)).toMatchObject({ actions: [], waitMs: 6_000 })
    expect(retiring(10_000).actions).toMatchObject([{ action: 'delete' }])
    expect(retiring(-3_600_000).actions).toMatchObject([{ action: 'delete' }])
  })
})

test('the end of an authority is told a year before', () => {
  const ending = (leftMs: number) => {
    const authority = anAuthority(OLD, 'Signing')
    return expiryWarning([{ ...authority, spec: { ...authority.spec, expiresAt: timestamp(NOW_MS + leftMs) } }], NOW_MS)
  }
  expect(ending(366 * DAY_MS)).toBeUndefined()
  expect(ending(364 * DAY_MS)).toBe(
    'the cluster\'s authority "ca-aaaaaaaa" ends in 364 days, and with it every certificate: mctl authority rotate',
  )
  expect(ending(-1)).toContain('has ended')
})
