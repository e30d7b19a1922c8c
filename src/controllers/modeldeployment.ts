/** The loop of ModelDeployments. Those that wait are looked at again whenever nodes, models or free bytes change. */
import { isDeepStrictEqual } from 'node:util'
import { findCondition, isTrue } from '../api/conditions.ts'
import type { MctlObject } from '../api/meta.ts'
import type { ModelDeployment } from '../api/modeldeployment.ts'
import type { Node } from '../api/node.ts'
import type { ShardGroup } from '../api/shardgroup.ts'
import { isBeingDeleted } from '../planner/actions.ts'
import { planDeployment } from '../planner/deployment.ts'
import type { Change, Snapshot } from '../store/store.ts'
import type { ControllerDoors, Loop } from './controller.ts'
import { keyFor, ownerKeys, reconcileObject, sayRefused } from './controller.ts'
import { isOfKind, sameButBound } from './changes.ts'

export const modelDeploymentLoop = (doors: ControllerDoors): Loop => ({
  name: 'modeldeployment',
  allKeys: (snapshot) => byUrgency(snapshot.list('ModelDeployment')).map(keyFor),
  keysOf,
  reconcile: (key) =>
    reconcileObject(doors, 'ModelDeployment', key, (deployment, world, nowMs) =>
      planDeployment(world, deployment, nowMs, doors.gatewayUrl()),
    ),
  refused: (key, error) =>
    sayRefused(doors, 'ModelDeployment', key, {
      type: 'Valid',
      status: 'False',
      reason: 'Invalid',
      message: error.message,
    }),
})

function keysOf(change: Change, snapshot: Snapshot): readonly string[] {
  const { object, previous } = change
  if (isOfKind(object, 'ModelDeployment')) return [keyFor(object), ...freedNames(change, snapshot)]
  if (isOfKind(object, 'ShardGroup'))
    return [...ownerKeys(object, 'ModelDeployment'), ...(mayFreeBytes(change) ? waiting(snapshot) : [])]
  if (isOfKind(object, 'Shard')) return change.type === 'DELETED' ? waiting(snapshot) : []
  if (isOfKind(object, 'Node')) return concernedBy(object, previous as Node | undefined, snapshot)
  if (isOfKind(object, 'Model')) return waiting(snapshot)
  return []
}

/** Other links may be a reason for any group to be elsewhere (gains.ts). */
function concernedBy(node: Node, previous: Node | undefined, snapshot: Snapshot): readonly string[] {
  if (sameButBound(node, previous)) return []
  const changesLinks = !isDeepStrictEqual(node.status?.links, previous?.status?.links)
  return changesLinks ? byUrgency(snapshot.list('ModelDeployment')).map(keyFor) : waiting(snapshot)
}

/** A served name became free: whoever waits for it is looked at again. */
function freedNames({ type, object, previous }: Change, snapshot: Snapshot): readonly string[] {
  const moved = type === 'DELETED' || previous?.metadata.generation !== object.metadata.generation
  if (!moved) return []
  const refused = (d: ModelDeployment) => findCondition(d.status?.conditions, 'Valid')?.status === 'False'
  return byUrgency(snapshot.list('ModelDeployment')).filter(refused).map(keyFor)
}

const mayFreeBytes = ({ type, object, previous }: Change): boolean =>
  type === 'DELETED' || (type === 'MODIFIED' && previous?.metadata.generation !== object.metadata.generation)

/** On a node that is being drained, or just was. */
const isLeaving = ({ spec, status }: ShardGroup, drained: ReadonlySet<string>): boolean =>
  [...spec.members, ...(spec.next?.members ?? [])].some((m) => drained.has(m.node)) ||
  findCondition(status?.conditions, 'Leaving') !== undefined

/** Deployments that want something that they do not have, or a group of which must leave its node. */
function waiting(snapshot: Snapshot): readonly string[] {
  const drained = new Set(snapshot.list('Node').flatMap((n) => (n.spec.drain === undefined ? [] : [n.metadata.name])))
  const leaving = new Set(
    snapshot
      .list('ShardGroup')
      .filter((g) => isLeaving(g, drained))
      .flatMap((g) => ownerKeys(g, 'ModelDeployment')),
  )
  const lacks = (d: ModelDeployment & MctlObject) =>
    !isBeingDeleted(d) && (!isTrue(d.status?.conditions, 'Ready') || leaving.has(keyFor(d)))
  return byUrgency(snapshot.list('ModelDeployment')).filter(lacks).map(keyFor)
}

/** Higher priority first, then the older one. */
function byUrgency(deployments: readonly ModelDeployment[]): readonly (ModelDeployment & MctlObject)[] {
  return [...deployments].sort(
    (a, b) =>
      b.spec.priority - a.spec.priority ||
      Date.parse(a.metadata.creationTimestamp) - Date.parse(b.metadata.creationTimestamp),
  )
}
