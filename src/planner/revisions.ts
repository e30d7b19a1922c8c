/**
 * Revisions of a deployment's template: which one groups shall have, which groups have it already under another number,
 * and which old ones are kept to go back to.
 */
import type { Manifest } from '../api/meta.ts'
import { API_VERSION } from '../api/meta.ts'
import type { DeploymentTemplate, ModelDeployment } from '../api/modeldeployment.ts'
import type { Revision } from '../api/records.ts'
import { CHANGE_CAUSE_ANNOTATION, changeCauseOf, revisionName } from '../api/records.ts'
import type { ShardGroup } from '../api/shardgroup.ts'
import { satisfies, templateOf } from '../api/template.ts'
import type { StoreAction } from './actions.ts'
import { annotate, ownerOf, remove, setSpec } from './actions.ts'

/** The template that groups shall have, and its number. */
export interface CurrentRevision {
  readonly number: number
  readonly template: DeploymentTemplate
  /** Set when it is written in this very transaction. */
  readonly create?: Manifest
}

interface RevisionScene {
  readonly deployment: ModelDeployment
  /** By number, oldest first. */
  readonly revisions: readonly Revision[]
  readonly groups: readonly ShardGroup[]
}

/** The newest Revision when it still is what the template asks for (or the deployment is paused), else a new one. */
export function currentRevision({ deployment, revisions }: RevisionScene): CurrentRevision | undefined {
  const template = templateOf(deployment.spec)
  const newest = revisions.at(-1)
  const unchanged = newest !== undefined && satisfies(newest.spec.template, template, deployment.metadata.name)
  if (newest !== undefined && (unchanged || deployment.spec.paused))
    return { number: newest.spec.revision, template: newest.spec.template }
  if (deployment.spec.paused) return undefined
  const number = (newest?.spec.revision ?? 0) + 1
  return { number, template, create: revisionManifest(deployment, number, template) }
}

function revisionManifest(deployment: ModelDeployment, revision: number, template: DeploymentTemplate): Manifest {
  const { name, namespace } = deployment.metadata
  const cause = changeCauseOf(deployment)
  return {
    apiVersion: API_VERSION,
    kind: 'Revision',
    metadata: {
      name: revisionName(name, revision),
      ...(namespace === undefined ? {} : { namespace }),
      ownerReferences: [ownerOf(deployment)],
      labels: { 'mctl.dev/deployment': name },
      ...(cause === undefined ? {} : { annotations: { [CHANGE_CAUSE_ANNOTATION]: cause } }),
    },
    spec: { deployment: name, revision, template },
  }
}

/** The numbers of the other revisions whose groups are what the current one asks for: nothing of them need restart. */
export function equalRevisions(
  { deployment, revisions }: RevisionScene,
  current: CurrentRevision,
): ReadonlySet<number> {
  const { name } = deployment.metadata
  const equal = revisions.filter(({ spec }) => satisfies(spec.template, current.template, name))
  return new Set(equal.map(({ spec }) => spec.revision).filter((number) => number !== current.number))
}

/**
 * Groups of an equal revision, under the current number: after an undo in the middle of an update, those that the update
 * had not reached serve on untouched.
 */
export function adoptRevision(
  scene: RevisionScene,
  current: CurrentRevision,
): { readonly actions: readonly StoreAction[]; readonly groups: readonly ShardGroup[] } {
  const equal = equalRevisions(scene, current)
  const numberOf = (revision: number) => (equal.has(revision) ? current.number : revision)
  const actions: StoreAction[] = []
  const groups = scene.groups.map((group) => {
    const { revision, next } = group.spec
    const adopted = { revision: numberOf(revision), next: next && { ...next, revision: numberOf(next.revision) } }
    if (adopted.revision === revision && adopted.next?.revision === next?.revision) return group
    const spec = { ...group.spec, ...adopted }
    actions.push(setSpec(group, spec))
    return { ...group, spec }
  })
  return { actions, groups }
}

/**
 * Revisions beyond revisionHistoryLimit go, oldest first, and those that live on as the current one; one that a group
 * still runs stays. The cause of a change that is told later is noted on the current one.
 */
export function planHistory(scene: RevisionScene, current: CurrentRevision): readonly StoreAction[] {
  const { deployment, groups, revisions } = scene
  const used = new Set(groups.flatMap((g) => [g.spec.revision, g.spec.next?.revision]))
  const idle = revisions.filter((r) => r.spec.revision !== current.number && !used.has(r.spec.revision))
  const equal = equalRevisions(scene, current)
  const old = idle.filter((r) => !equal.has(r.spec.revision))
  const surplus = old.slice(0, Math.max(0, old.length - deployment.spec.revisionHistoryLimit))
  return [
    ...idle.filter((r) => equal.has(r.spec.revision)).map(remove),
    ...surplus.map(remove),
    ...noteCause(
      deployment,
      revisions.find((r) => r.spec.revision === current.number),
    ),
  ]
}

function noteCause(deployment: ModelDeployment, revision: Revision | undefined): readonly StoreAction[] {
  const cause = changeCauseOf(deployment)
  if (cause === undefined || revision === undefined || changeCauseOf(revision) === cause) return []
  return [annotate(revision, { [CHANGE_CAUSE_ANNOTATION]: cause })]
}
