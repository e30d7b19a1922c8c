/** `mctl plan -f` against the live cluster: the manifests planned as if applied, on the ledger as it stands. */
import { applyDefaults } from '../api/default.ts'
import type { Manifest } from '../api/meta.ts'
import type { Model } from '../api/model.ts'
import type { ModelDeployment } from '../api/modeldeployment.ts'
import { validate } from '../api/validate.ts'
import { OpError } from '../lib/errors.ts'
import type { PlanReport } from '../planner/report.ts'
import { planReport } from '../planner/report.ts'
import type { PlanRequest } from '../rpc/messages.ts'
import type { Snapshot } from '../store/store.ts'

export function planLive(
  request: PlanRequest,
  snapshot: Snapshot,
  headroomBytes: ReadonlyMap<string, number>,
): PlanReport {
  const manifests = request.objects.map((manifest) => applyDefaults(manifest))
  const causes = manifests.flatMap((manifest) => validate(manifest))
  if (causes.length > 0)
    throw new OpError('Invalid', `plan: ${causes.map((cause) => `${cause.field}: ${cause.message}`).join('; ')}`, {
      causes,
    })
  const given = <T>(kind: string) => manifests.filter((m: Manifest) => m.kind === kind) as unknown as readonly T[]
  const models = given<Model>('Model')
  const names = new Set(models.map((model) => model.metadata.name))
  return planReport({
    nodes: snapshot.list('Node'),
    // What is in the file stands for what is stored under the same name.
    models: [...models, ...snapshot.list('Model').filter((model) => !names.has(model.metadata.name))],
    deployments: given<ModelDeployment>('ModelDeployment'),
    independent: request.independent === true,
    groups: snapshot.list('ShardGroup'),
    shards: snapshot.list('Shard'),
    headroomBytes,
  })
}
