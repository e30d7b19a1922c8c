/** Why the shape of a model is not known yet, as its Models themselves say it. */
import { findCondition } from '../api/conditions.ts'
import type { Model } from '../api/model.ts'
import type { ModelRef } from '../api/modeldeployment.ts'
import { isOfRef } from '../api/modelhub.ts'

/** For `Scheduled=Unknown ModelShapePending`: the reason of the Model that the reference means, when it tells one. */
export function shapePendingMessage(models: readonly Model[], ref: ModelRef): string {
  const waiting = 'waiting for the shape of the model'
  if (ref.name !== undefined && !models.some((m) => m.metadata.name === ref.name))
    return `${waiting}: there is no Model ${ref.name}`
  const why = whyNoShape(models, ref)
  return why === undefined ? waiting : `${waiting}: ${why}`
}

/** The reason that a Model of the reference tells; undefined: none does. */
export function whyNoShape(models: readonly Model[], ref: ModelRef): string | undefined {
  const meant = models.filter((m) => (ref.name === undefined ? isOfRef(m.spec, ref) : m.metadata.name === ref.name))
  const told = meant.flatMap((m) => findCondition(m.status?.conditions, 'Resolved') ?? [])
  return told.find(({ status }) => status !== 'True')?.message
}
