/**
 * What a ModelDeployment needs next: its Revision, its groups, one group bound or moved per transaction, and the
 * roll-up of all that into its status. What a bound group then does is shardgroup.ts'.
 */
import type { Manifest } from '../api/meta.ts'
import { API_VERSION } from '../api/meta.ts'
import type { ModelDeployment } from '../api/modeldeployment.ts'
import type { Revision } from '../api/records.ts'
import type { ShardGroup, ShardGroupSpec } from '../api/shardgroup.ts'
import { groupName } from '../api/shardgroup.ts'
import { CHILDREN_FINALIZER } from '../api/words.ts'
import { counted } from '../lib/counted.ts'
import type { Plan, StoreAction } from './actions.ts'
import { event, isBeingDeleted, ownerOf, remove, removeFinalizer, setStatus, soonest } from './actions.ts'
import type { CurrentRevision } from './revisions.ts'
import { adoptRevision, currentRevision, planHistory } from './revisions.ts'
import { deletingStatus, rollUp } from './rollup.ts'
import { planScheduling } from './scheduling.ts'
import type { World } from './world.ts'

/** The deployment with what it owns, in one snapshot. */
export interface DeploymentScene {
  readonly world: World
  readonly deployment: ModelDeployment
  readonly nowMs: number
  /** Base URL of the gateway; undefined: none. */
  readonly gatewayUrl: string | undefined
  /** By replica; those being deleted too. */
  readonly groups: readonly ShardGroup[]
  /** By number, oldest first. */
  readonly revisions: readonly Revision[]
}

export function planDeployment(world: World, deployment: ModelDeployment, nowMs: number, gatewayUrl?: string): Plan {
  const scene = deploymentScene(world, deployment, nowMs, gatewayUrl)
  if (isBeingDeleted(deployment)) return planDeletion(scene)

  const rival = olderRival(world, deployment)
  if (rival !== undefined) return planInvalid(scene, rival)
  const current = currentRevision(scene)
  if (current === undefined) return planPausedFromTheStart(scene)

  const adopted = adoptRevision(scene, current)
  const adopting = { ...scene, groups: adopted.groups }
  const scaling = planScale(scene, current)
  const scheduling = planScheduling(adopting, current)
  const { status, waitMs } = rollUp(adopting, { current, groups: scheduling.groups, scheduling })
  return {
    actions: [
      ...(current.create === undefined ? [] : [{ action: 'create' as const, object: current.create }]),
      ...adopted.actions,
      ...scaling,
      ...scheduling.actions,
      ...planHistory({ ...scene, groups: scheduling.groups }, current),
      setStatus(deployment, status),
    ],
    report: scheduling.report,
    ...soonest(scheduling.waitMs, waitMs),
  }
}

function deploymentScene(
  world: World,
  deployment: ModelDeployment,
  nowMs: number,
  gatewayUrl: string | undefined,
): DeploymentScene {
  const owned = (object: ShardGroup | Revision) =>
    (object.metadata.ownerReferences ?? []).some((owner) => owner.uid === deployment.metadata.uid)
  const groups = world.groups.filter(owned).sort((a, b) => a.spec.replica - b.spec.replica)
  const revisions = world.revisions.filter(owned).sort((a, b) => a.spec.revision - b.spec.revision)
  return { world, deployment, nowMs, gatewayUrl, groups, revisions }
}

/** Groups go first, each when its processes are gone. Orphaned ones are no longer owned when this looks again. */
function planDeletion(scene: DeploymentScene): Plan {
  const { deployment, groups } = scene
  if (groups.length === 0) {
    return { actions: [removeFinalizer(deployment, CHILDREN_FINALIZER)], report: ['Deleted: no group is left'] }
  }
  if (deployment.metadata.finalizers?.includes('orphan') === true)
    return { actions: [], report: ['Orphaning: waiting until the groups are released'] }
  return {
    actions: [...groups.filter((g) => !isBeingDeleted(g)).map(remove), setStatus(deployment, deletingStatus(scene))],
    report: [`Deleting: waiting for ${counted(groups.length, 'group')} to stop`],
  }
}

/** A name can be served once: the older deployment keeps it. Ties of the clock go by namespace and name. */
function olderRival(world: World, deployment: ModelDeployment): ModelDeployment | undefined {
  const rank = (d: ModelDeployment) =>
    `${d.metadata.creationTimestamp}/${d.metadata.namespace ?? ''}/${d.metadata.name}`
  return world.deployments.find(
    (other) =>
      other.metadata.uid !== deployment.metadata.uid &&
      other.spec.servedName === deployment.spec.servedName &&
      rank(other) < rank(deployment),
  )
}

function planInvalid(scene: DeploymentScene, rival: ModelDeployment): Plan {
  const { deployment } = scene
  const message = `servedName "${deployment.spec.servedName}" belongs to the older modeldeployment ${rival.metadata.namespace ?? ''}/${rival.metadata.name}; choose another one`
  const { status } = rollUp(scene, { groups: scene.groups, invalid: { reason: 'ServedNameConflict', message } })
  const known = deployment.status?.conditions?.find((c) => c.type === 'Valid')?.reason === 'ServedNameConflict'
  const events = known ? [] : [event(deployment, 'Warning', 'ServedNameConflict', message)]
  return { actions: [setStatus(deployment, status), ...events], report: [`ServedNameConflict: ${message}`] }
}

function planPausedFromTheStart(scene: DeploymentScene): Plan {
  const { status } = rollUp(scene, { groups: scene.groups })
  return { actions: [setStatus(scene.deployment, status)], report: ['DeploymentPaused: nothing is rolled out'] }
}

/** Missing replicas are created unbound; surplus ones go, the highest first. */
function planScale({ deployment, groups }: DeploymentScene, current: CurrentRevision): readonly StoreAction[] {
  const { replicas } = deployment.spec
  const taken = new Set(groups.map((g) => g.spec.replica))
  const missing = Array.from({ length: replicas }, (_, i) => i).filter((i) => !taken.has(i))
  const surplus = groups.filter((g) => g.spec.replica >= replicas && !isBeingDeleted(g)).reverse()
  const actions = [
    ...missing.map((replica): StoreAction => ({
      action: 'create',
      object: groupManifest(deployment, replica, current),
    })),
    ...surplus.map(remove),
  ]
  const [from, to] = [groups.filter((g) => !isBeingDeleted(g)).length, replicas]
  if (actions.length > 0)
    actions.push(event(deployment, 'Normal', 'ScalingGroups', `scaled from ${from} to ${counted(to, 'group')}`))
  return actions
}

function groupManifest(deployment: ModelDeployment, replica: number, current: CurrentRevision): Manifest {
  const { name, namespace } = deployment.metadata
  const spec: ShardGroupSpec = {
    deployment: name,
    replica,
    revision: current.number,
    epoch: 1,
    members: [],
    next: null,
  }
  return {
    apiVersion: API_VERSION,
    kind: 'ShardGroup',
    metadata: {
      name: groupName(name, replica),
      ...(namespace === undefined ? {} : { namespace }),
      finalizers: [CHILDREN_FINALIZER],
      ownerReferences: [ownerOf(deployment)],
      labels: { 'mctl.dev/deployment': name },
    },
    spec,
  }
}
