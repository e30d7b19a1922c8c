/**
 * `mctl plan -f` against the live cluster: the manifests planned as if applied, on the ledger as it stands. What an
 * `hf://` model is that nobody has named before is read from its headers on the hub, and not kept.
 */
import { applyDefaults } from '../api/default.ts'
import type { Manifest } from '../api/meta.ts'
import { API_VERSION, timestamp } from '../api/meta.ts'
import type { Model } from '../api/model.ts'
import type { ModelDeployment } from '../api/modeldeployment.ts'
import { validate } from '../api/validate.ts'
import { sourceOfModel, sourceOfRef, keyOfSource } from '../controllers/modelplan.ts'
import type { HubSource } from '../controllers/modelplan.ts'
import { systemModelName } from '../api/modelname.ts'
import type { ModelHub } from '../api/modelhub.ts'
import { readSource } from '../api/modelhub.ts'
import { setConditions } from '../api/conditions.ts'
import { systemClock } from '../lib/clock.ts'
import { messageOf, OpError } from '../lib/errors.ts'
import type { PlanReport } from '../planner/report.ts'
import { planReport } from '../planner/report.ts'
import type { PlanRequest } from '../rpc/messages.ts'
import type { Snapshot } from '../store/store.ts'

export async function planLive(
  request: PlanRequest,
  snapshot: Snapshot,
  headroomBytes: ReadonlyMap<string, number>,
  hub?: ModelHub,
): Promise<PlanReport> {
  const manifests = request.objects.map((manifest) => applyDefaults(manifest))
  const causes = manifests.flatMap((manifest) => validate(manifest))
  if (causes.length > 0)
    throw new OpError('Invalid', `plan: ${causes.map((cause) => `${cause.field}: ${cause.message}`).join('; ')}`, {
      causes,
    })
  const given = <T>(kind: string) => manifests.filter((m: Manifest) => m.kind === kind) as unknown as readonly T[]
  const models = given<Model>('Model').map((model) => asApplied(model, snapshot))
  const names = new Set(models.map((model) => model.metadata.name))
  // What is in the file stands for what is stored under the same name.
  const known = [...models, ...snapshot.list('Model').filter((model) => !names.has(model.metadata.name))]
  const deployments = given<ModelDeployment>('ModelDeployment')
  return planReport({
    nodes: snapshot.list('Node'),
    models: [...known, ...(hub === undefined ? [] : await readUnknown(hub, known, deployments))],
    deployments,
    independent: request.independent === true,
    groups: snapshot.list('ShardGroup'),
    shards: snapshot.list('Shard'),
    headroomBytes,
  })
}

/** An apply leaves the status of a standing Model as it is: what was read of the same source, and what groups did. */
function asApplied(model: Model, snapshot: Snapshot): Model {
  const standing = snapshot.get('Model', '', model.metadata.name)
  if (standing?.status === undefined || standing.spec.source !== model.spec.source) return model
  return { ...model, status: standing.status }
}

/** A person waits for the answer. */
const READ_DEADLINE_MS = 30_000

/** A Model for each hub source of the deployments that no Model with a shape stands for. */
async function readUnknown(
  hub: ModelHub,
  known: readonly Model[],
  deployments: readonly ModelDeployment[],
): Promise<readonly Model[]> {
  const shaped = new Set(
    known
      .filter(({ spec, status }) => (status?.shape ?? spec.shape) !== undefined)
      .flatMap((model) => sourceOfModel(model) ?? [])
      .map(keyOfSource),
  )
  const named = (name: string | undefined) => known.find(({ metadata }) => metadata.name === name)
  const wanted = new Map<string, HubSource>()
  for (const { spec } of deployments) {
    const model = named(spec.model.name)
    const source = model === undefined ? sourceOfRef(spec.model) : sourceOfModel(model)
    if (source !== undefined && !shaped.has(keyOfSource(source))) wanted.set(keyOfSource(source), source)
  }
  return Promise.all([...wanted.values()].map((source) => readOne(hub, source)))
}

/** A source that cannot be read makes a Model that says why, so that the other deployments get their plans. */
async function readOne(hub: ModelHub, { source, revision }: HubSource): Promise<Model> {
  const nowMs = systemClock.nowMs()
  const model = {
    apiVersion: API_VERSION,
    kind: 'Model',
    metadata: {
      name: systemModelName(source, revision),
      uid: '',
      resourceVersion: '',
      generation: 1,
      creationTimestamp: timestamp(nowMs),
    },
    spec: { source, ...(revision === '' ? {} : { revision }) },
  } as const
  try {
    const deadline = AbortSignal.timeout(READ_DEADLINE_MS)
    const { shape, digest, resolvedRevision, files } = await readSource(hub, source, revision, deadline)
    return { ...model, status: { shape, digest, resolvedRevision, files } }
  } catch (error) {
    const update = { type: 'Resolved', status: 'False', reason: 'NotRead', message: messageOf(error) } as const
    return { ...model, status: { conditions: setConditions([], [update], nowMs) } }
  }
}
