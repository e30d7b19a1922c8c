import { describe, expect, test } from 'vitest'
import type { DeploymentTemplate, ModelDeployment, ModelDeploymentSpec } from '../../../src/api/modeldeployment.ts'
import { satisfies, templateOf } from '../../../src/api/template.ts'
import type { ShardGroup, ShardGroupSpec } from '../../../src/api/shardgroup.ts'
import { planDeployment } from '../../../src/planner/deployment.ts'
import { actionsOf, aDeployment, aGroup, aRevision, aWorld, condition, member, NOW_MS } from '../../support/cluster.ts'

const tokens = (contextTokens: number): Partial<ModelDeploymentSpec> => ({
  serving: { contextTokens, concurrency: 1, maxOutputTokens: 32 },
})
const ready = (replica: number, changes: Partial<ShardGroupSpec> = {}): ShardGroup =>
  aGroup(
    { replica, strategy: 'Single', members: [member(0, `mini-${replica + 1}`)], ...changes },
    { status: { phase: 'Ready', conditions: [condition('Ready', 'True')] } },
  )
const plan = (deployment: ModelDeployment, world: object) =>
  planDeployment(aWorld({ deployments: [deployment], ...world }), deployment, NOW_MS)
const namesOf = (actions: readonly { object: { metadata: { name: string } } }[]) =>
  actions.map((a) => a.object.metadata.name)

describe('templates mean the same', () => {
  const template = templateOf(aDeployment(tokens(64)).spec)
  const same = (standing: unknown, wanted: DeploymentTemplate = template) =>
    satisfies(standing as DeploymentTemplate, wanted, 'chat')

  test('whatever the order of their keys and of the nodes in a list', () => {
    const { placement, engine, ...rest } = template
    expect(same({ placement, engine, ...rest })).toBe(true)
    const on = (...nodes: string[]) => ({ ...template, placement: { ...placement, nodes } })
    expect(same(on('b', 'a'), on('a', 'b'))).toBe(true)
    expect(same(on('b'), on('a', 'b'))).toBe(false)
  })

  test('when one was written before a default existed that the other has', () => {
    const { spread: _, ...older } = template.placement
    expect(same({ ...template, placement: older }, { ...template, placement: { ...older, spread: 'Require' } })).toBe(
      false,
    )
  })

  test('when a field is there without a value', () => {
    expect(same({ ...template, parallelism: { ...template.parallelism, degree: undefined } })).toBe(true)
  })

  test('but not when a restart is asked for; whoever drops the time asks for none', () => {
    const at = (restartedAt: string) => ({ ...template, restartedAt })
    expect(same(template, at('2026-01-01T00:00:00Z'))).toBe(false)
    expect(same(at('2026-01-01T00:00:00Z'), at('2026-01-02T00:00:00Z'))).toBe(false)
    expect(same(at('2026-01-01T00:00:00Z'))).toBe(true)
  })
})

describe('going back', () => {
  const [r1, r2] = [aDeployment(tokens(32)), aDeployment(tokens(64))]
  const revisions = [aRevision(r1, 1), aRevision(r2, 2)]
  const back = aDeployment({ ...tokens(32), replicas: 2 })

  test('in the middle of an update: the groups that it had not reached serve on untouched under the new number', () => {
    const p = plan(back, { revisions, groups: [ready(0, { revision: 2 }), ready(1, { revision: 1 })] })
    expect(actionsOf(p, 'create').map((a) => a.object.metadata.name)).toEqual(['chat-r3'])
    const specs = actionsOf(p, 'setSpec').map((a) => a.spec as ShardGroupSpec)
    expect(specs.find((s) => s.replica === 1)).toMatchObject({ revision: 3, epoch: 1, next: null })
    expect(specs.find((s) => s.replica === 0)).toMatchObject({ revision: 2, next: { revision: 3 } })
  })

  test('the old number goes when nothing runs under it: it lives on as the new one', () => {
    const again = [...revisions, aRevision(r1, 3)]
    const p = plan(back, { revisions: again, groups: [ready(0, { revision: 3 }), ready(1, { revision: 3 })] })
    expect(namesOf(actionsOf(p, 'delete'))).toEqual(['chat-r1'])
    expect(actionsOf(p, 'setSpec')).toEqual([])
  })
})

test('the cause of a change goes into its revision, also when it is told afterwards', () => {
  const told = (text: string) => ({ metadata: { annotations: { 'kubernetes.io/change-cause': text } } })
  const fresh = plan(aDeployment({}, told('longer answers')), { revisions: [] })
  expect(actionsOf(fresh, 'create')[0]?.object.metadata.annotations).toEqual({
    'mctl.dev/change-cause': 'longer answers',
  })
  const deployment = aDeployment({}, told('a better word'))
  const later = plan(deployment, { revisions: [aRevision(deployment)] })
  expect(actionsOf(later, 'annotate')).toMatchObject([
    { object: { metadata: { name: 'chat-r1' } }, annotations: { 'mctl.dev/change-cause': 'a better word' } },
  ])
})
