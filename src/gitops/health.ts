/** How well an applied object is, from what its own controller says of it: the kind's conditions, never a guess. Pure. */
import { findCondition, isTrue } from '../api/conditions.ts'
import type { MctlObject } from '../api/meta.ts'
import type { Model } from '../api/model.ts'
import type { ModelDeployment } from '../api/modeldeployment.ts'
import type { Node } from '../api/node.ts'
import type { AnyObject } from '../api/objects.ts'
import type { Health, Sync } from '../api/sync.ts'
import { healths } from '../api/sync.ts'

/** `undefined`: the object is not there. */
export function healthOf(object: MctlObject | undefined): Health {
  if (object === undefined) return 'Missing'
  if (object.metadata.deletionTimestamp !== undefined) return 'Progressing'
  const known = object as AnyObject
  switch (known.kind) {
    case 'ModelDeployment':
      return deploymentHealth(known)
    case 'Model':
      return modelHealth(known)
    case 'Node':
      return nodeHealth(known)
    case 'Sync':
      return syncHealth(known)
    case 'ShardGroup':
    case 'Shard':
    case 'Revision':
    case 'ApplySet':
    case 'Event':
    case 'User':
    case 'ApiKey':
    case 'JoinToken':
    case 'Authority':
      return 'Healthy'
  }
}

function deploymentHealth({ metadata, spec, status }: ModelDeployment): Health {
  if (spec.paused) return 'Suspended'
  const conditions = status?.conditions
  if (status?.observedGeneration !== metadata.generation) return 'Progressing'
  if (findCondition(conditions, 'Valid')?.status === 'False') return 'Degraded'
  if (isTrue(conditions, 'Ready')) return 'Healthy'
  return findCondition(conditions, 'Progressing')?.status === 'False' ? 'Degraded' : 'Progressing'
}

function modelHealth({ spec, status }: Model): Health {
  if (spec.shape !== undefined || status?.shape !== undefined) return 'Healthy'
  return findCondition(status?.conditions, 'Resolved')?.status === 'False' ? 'Degraded' : 'Progressing'
}

function nodeHealth({ status }: Node): Health {
  const ready = findCondition(status?.conditions, 'Ready')
  return ready === undefined ? 'Progressing' : ready.status === 'True' ? 'Healthy' : 'Degraded'
}

function syncHealth({ metadata, spec, status }: Sync): Health {
  if (spec.suspend) return 'Suspended'
  const ready = findCondition(status?.conditions, 'Ready')
  if (ready === undefined || status?.observedGeneration !== metadata.generation || ready.status === 'Unknown')
    return 'Progressing'
  return ready.status === 'True' ? (status.health ?? 'Healthy') : 'Degraded'
}

export const worst = (list: readonly Health[]): Health =>
  list.reduce<Health>((a, b) => (healths.indexOf(b) > healths.indexOf(a) ? b : a), 'Healthy')

/** Good enough for what waits for it. */
export const isWell = (health: Health): boolean => health === 'Healthy' || health === 'Suspended'
