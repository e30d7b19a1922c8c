/**
 * What an update or a drain may do to groups that serve, told from the commits alone and not by the planner's own words:
 * no more of them stop than maxUnavailable allows, none while the deployment is paused, Recreate never starts a revision
 * beside another one, and nothing is bound anew to a node that is silent or cordoned. Where two transactions share a commit, what held before or after it will do.
 */
import { isTrue } from '../../src/api/conditions.ts'
import type { ModelDeployment } from '../../src/api/modeldeployment.ts'
import type { Revision } from '../../src/api/records.ts'
import type { Shard } from '../../src/api/shard.ts'
import type { ShardGroup } from '../../src/api/shardgroup.ts'
import type { Snapshot } from '../../src/store/store.ts'

interface Seen {
  readonly deployments: ReadonlyMap<string, ModelDeployment>
  readonly groups: ReadonlyMap<string, ShardGroup>
  readonly shards: ReadonlyMap<string, Shard>
  readonly revisions: ReadonlyMap<string, Revision>
  readonly readyNodes: ReadonlySet<string>
  /** Ready, and neither cordoned nor drained: where something new may be bound. */
  readonly openNodes: ReadonlySet<string>
  readonly forced: ReadonlySet<string>
}

const byUid = <T extends { readonly metadata: { readonly uid: string } }>(objects: readonly T[]) =>
  new Map(objects.map((object) => [object.metadata.uid, object]))

function see(snapshot: Snapshot): Seen {
  const nodes = snapshot.list('Node')
  const names = (of: typeof nodes) => new Set(of.map(({ metadata }) => metadata.name))
  return {
    deployments: byUid(snapshot.list('ModelDeployment')),
    groups: byUid(snapshot.list('ShardGroup')),
    shards: byUid(snapshot.list('Shard')),
    revisions: byUid(snapshot.list('Revision')),
    readyNodes: names(nodes.filter(({ status }) => isTrue(status?.conditions, 'Ready'))),
    openNodes: names(nodes.filter((n) => isTrue(n.status?.conditions, 'Ready') && !n.spec.unschedulable)),
    forced: names(nodes.filter(({ spec }) => spec.drain?.force === true)),
  }
}

const isReady = (group: ShardGroup | undefined): boolean => isTrue(group?.status?.conditions, 'Ready')
const ownerOf = ({ metadata }: ShardGroup | Shard | Revision): string => metadata.ownerReferences?.[0]?.uid ?? ''
const alive: readonly (string | undefined)[] = ['Starting', 'Loading', 'Ready', 'Stopping']

export class Rollouts {
  #before: Seen | undefined

  /** Another past: nothing is compared with it. */
  forget(): void {
    this.#before = undefined
  }

  findings(snapshot: Snapshot): readonly string[] {
    const [before, after] = [this.#before, see(snapshot)]
    this.#before = after
    if (before === undefined) return []
    const stopped = [...after.groups.values()].filter((group) => gaveWay(before, group))
    const together = stopped.filter((g) => before.groups.get(g.metadata.uid)?.spec.next?.startFirst !== true).length
    return [
      ...stopped.flatMap((group) => stopFindings(before, after, group, together)),
      ...[...after.revisions.values()].flatMap((revision) => revisionFindings(before, after, revision)),
      ...[...after.shards.values()].flatMap((shard) => recreateFindings(before, after, shard)),
      ...[...after.groups.values()].flatMap((group) => bindingFindings(before, after, group)),
    ]
  }
}

/** It served, nothing of it had failed, and it stopped for the successor that was planned. */
function gaveWay(before: Seen, group: ShardGroup): boolean {
  const was = before.groups.get(group.metadata.uid)
  const next = was?.spec.next
  if (was === undefined || next === undefined || next === null || !isReady(was)) return false
  if (group.spec.epoch !== next.epoch) return false
  const current = [...before.shards.values()].filter(
    (s) => ownerOf(s) === was.metadata.uid && s.spec.epoch === was.spec.epoch,
  )
  const sound = current.every((s) => s.status?.phase === 'Ready' && before.readyNodes.has(s.spec.nodeName))
  return sound && current.length === was.spec.members.length
}

function stopFindings(before: Seen, after: Seen, group: ShardGroup, together: number): readonly string[] {
  const { name, uid } = group.metadata
  const was = before.groups.get(uid)
  const owners = [before, after].flatMap(({ deployments }) => deployments.get(ownerOf(group)) ?? [])
  const isUpdate = was?.spec.revision !== group.spec.revision
  if (isUpdate && owners.length === 2 && owners.every(({ spec }) => spec.paused))
    return [`StoppedWhilePaused: ${name} for revision ${group.spec.revision}`]
  // Its successor answers already.
  if (was?.spec.next?.startFirst === true) return []
  if (was?.spec.members.some(({ node }) => before.forced.has(node) || after.forced.has(node)) === true) return []
  const siblings = [...before.groups.values()].filter((g) => ownerOf(g) === ownerOf(group))
  const ready = siblings.filter((g) => isReady(g) || isReady(after.groups.get(g.metadata.uid))).length
  const may = owners.some(
    ({ spec: { replicas, update } }) =>
      (isUpdate && update.strategy === 'Recreate') || ready - together >= replicas - update.maxUnavailable,
  )
  return may ? [] : [`TooFewReady: ${name} stops though only ${ready} of its deployment's groups are ready`]
}

/** A paused deployment's template is not even looked at. */
function revisionFindings(before: Seen, after: Seen, revision: Revision): readonly string[] {
  if (before.revisions.has(revision.metadata.uid)) return []
  const owners = [before, after].map(({ deployments }) => deployments.get(ownerOf(revision)))
  const paused = owners.every((owner) => owner?.spec.paused === true)
  return paused ? [`RevisedWhilePaused: ${revision.metadata.name} is new`] : []
}

/** A group that an undo found untouched has its shards under the newest number. */
function revisionOf({ groups }: Seen, shard: Shard): number {
  const group = groups.get(ownerOf(shard))
  return group?.spec.epoch === shard.spec.epoch ? group.spec.revision : shard.spec.revision
}

function recreateFindings(before: Seen, after: Seen, shard: Shard): readonly string[] {
  const was = before.shards.get(shard.metadata.uid)
  if (shard.spec.rendezvous === null || was === undefined || was.spec.rendezvous !== null) return []
  const group = after.groups.get(ownerOf(shard))
  if (group === undefined) return []
  const owner = ownerOf(group)
  const recreates = [before, after].every(
    ({ deployments }) => deployments.get(owner)?.spec.update.strategy === 'Recreate',
  )
  if (!recreates) return []
  const beside = [...after.shards.values()].find(
    (s) =>
      revisionOf(after, s) !== group.spec.revision &&
      s.spec.rendezvous !== null &&
      alive.includes(s.status?.phase) &&
      after.readyNodes.has(s.spec.nodeName) &&
      [before, after].some(({ groups }) => {
        const other = groups.get(ownerOf(s))
        return other !== undefined && ownerOf(other) === owner
      }),
  )
  return beside === undefined ? [] : [`RecreateMixes: ${shard.metadata.name} starts beside ${beside.metadata.name}`]
}

/** Whatever a group is bound to anew can be reached, and is open to it. A group comes back to where it was in any case. */
function bindingFindings(before: Seen, after: Seen, { metadata, spec }: ShardGroup): readonly string[] {
  const was = before.groups.get(metadata.uid)?.spec
  const known = new Set([...(was?.members ?? []), ...(was?.next?.members ?? [])].map(({ node }) => node))
  const added = [...spec.members, ...(spec.next?.members ?? [])].map(({ node }) => node).filter((n) => !known.has(n))
  const closed = added.find((node) => !before.openNodes.has(node) && !after.openNodes.has(node))
  return closed === undefined ? [] : [`BoundAway: ${metadata.name} to ${closed}, which is not open`]
}
