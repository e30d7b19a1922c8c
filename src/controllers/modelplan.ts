/** What follows from who names a source on the hub, what is known of it, and how reading it went. Pure. */
import { causeText } from '../api/causes.ts'
import type { ConditionUpdate } from '../api/conditions.ts'
import { findCondition, setConditions } from '../api/conditions.ts'
import type { Manifest } from '../api/meta.ts'
import { API_VERSION } from '../api/meta.ts'
import type { Model, ModelStatus } from '../api/model.ts'
import type { ModelDeployment, ModelRef } from '../api/modeldeployment.ts'
import type { HubModel } from '../api/modelhub.ts'
import { DEFAULT_REVISION } from '../api/modelhub.ts'
import { systemModelName } from '../api/modelname.ts'
import { parseSource } from '../api/sources.ts'
import { validate } from '../api/validate.ts'
import type { OpCode } from '../lib/errors.ts'
import type { StoreAction } from '../planner/actions.ts'
import { event, isBeingDeleted, setStatus } from '../planner/actions.ts'

/** A source that the server reads by its headers. */
export interface HubSource {
  /** `hf://org/name`, or `https://…` of a GGUF file. */
  readonly source: string
  /** '' where there are none. */
  readonly revision: string
}

export type Answer =
  | { readonly kind: 'Reading' }
  | { readonly kind: 'Read'; readonly model: HubModel }
  | { readonly kind: 'Failed'; readonly code: OpCode; readonly message: string; readonly retryInMs?: number }

export interface SourceScene extends HubSource {
  readonly models: readonly Model[]
  readonly deployments: readonly ModelDeployment[]
  /** undefined: nobody reads it, or ever did. */
  readonly answer: Answer | undefined
  readonly nowMs: number
}

export interface SourcePlan {
  readonly actions: readonly StoreAction[]
  readonly then?: 'Read' | 'Forget'
  /** Look again after so many ms although nothing changed. */
  readonly waitMs?: number
}

export function sourceOfRef({ source, revision }: Pick<ModelRef, 'source' | 'revision'>): HubSource | undefined {
  const parsed = source === undefined ? undefined : parseSource(source)
  if (source === undefined) return undefined
  if (parsed?.form === 'Url') return { source, revision: '' }
  return parsed?.form === 'HuggingFace' ? { source, revision: revision ?? DEFAULT_REVISION } : undefined
}

export const sourceOfModel = ({ spec }: Model): HubSource | undefined => sourceOfRef(spec)

export const keyOfSource = ({ source, revision }: HubSource): string => `${source}@${revision}`

/** No revision can hold an @. */
export function sourceOfKey(key: string): HubSource {
  const at = key.lastIndexOf('@')
  return { source: key.slice(0, at), revision: key.slice(at + 1) }
}

export function planSource(scene: SourceScene): SourcePlan {
  const { answer } = scene
  const models = scene.models.filter((m) => !isBeingDeleted(m) && isOf(scene, sourceOfModel(m)))
  const known = models.find(isResolved)
  if (known !== undefined) return { actions: spread(models, known, scene.nowMs), then: 'Forget' }
  if (!isWanted(scene, models)) return { actions: [], then: 'Forget' }
  // Its appearing brings the key back.
  if (models.length === 0) return { actions: [{ action: 'create', object: systemModel(scene) }] }

  switch (answer?.kind) {
    case undefined:
      return { actions: models.flatMap((m) => say(m, reading(scene), scene.nowMs)), then: 'Read' }
    case 'Reading':
      return { actions: models.flatMap((m) => say(m, reading(scene), scene.nowMs)) }
    case 'Read':
      return { actions: models.flatMap((m) => resolved(m, answer.model, scene.nowMs)) }
    case 'Failed':
      return afterFailure(scene, models, answer)
  }
}

/** The wait over: read again, and let the reason stand meanwhile. */
function afterFailure(
  { nowMs }: SourceScene,
  models: readonly Model[],
  { code, message, retryInMs }: Extract<Answer, { kind: 'Failed' }>,
): SourcePlan {
  const update = { status: 'False', reason: reasons[code] ?? 'HubUnavailable', message } as const
  const actions = models.flatMap((m) => say(m, update, nowMs))
  if (retryInMs === undefined) return { actions }
  return retryInMs === 0 ? { actions, then: 'Read' } : { actions, waitMs: retryInMs }
}

const reasons: Readonly<Partial<Record<OpCode, string>>> = {
  Unauthorized: 'Unauthorized',
  Forbidden: 'Unauthorized',
  NotFound: 'NotFound',
  Invalid: 'ModelInvalid',
  Unimplemented: 'ModelInvalid',
}

const isOf = (wanted: HubSource, found: HubSource | undefined): boolean =>
  found !== undefined && keyOfSource(found) === keyOfSource(wanted)

const RESOLVED = 'Resolved'

/** Read at this very spec: who changes the revision asks anew. */
function isResolved({ metadata, status }: Model): boolean {
  const condition = findCondition(status?.conditions, RESOLVED)
  const complete = status?.shape !== undefined && status.files !== undefined && status.resolvedRevision !== undefined
  return complete && condition?.status === 'True' && condition.observedGeneration === metadata.generation
}

/** A deployment names it, or a Model that has no shape at all. A shape that a person wrote is enough to plan. */
function isWanted(scene: SourceScene, models: readonly Model[]): boolean {
  const names = new Set(models.map((m) => m.metadata.name))
  const named = ({ model }: ModelDeployment['spec']): boolean =>
    model.name === undefined ? isOf(scene, sourceOfRef(model)) : names.has(model.name)
  if (scene.deployments.some((d) => !isBeingDeleted(d) && named(d.spec))) return true
  return models.some((m) => m.spec.shape === undefined)
}

const systemModel = ({ source, revision }: HubSource): Manifest => ({
  apiVersion: API_VERSION,
  kind: 'Model',
  metadata: { name: systemModelName(source, revision) },
  spec: { source, ...(revision === '' ? {} : { revision }) },
})

type Said = Pick<ConditionUpdate, 'status' | 'reason' | 'message'>

const reading = ({ source, revision }: HubSource): Said => ({
  status: 'Unknown',
  reason: 'Reading',
  message: revision === '' ? `reading the header of ${source}` : `reading ${source} at ${revision} from the hub`,
})

/** The condition, where it says something new; a failure is an event as well. */
function say(
  model: Model,
  said: Said,
  nowMs: number,
  status: ModelStatus = model.status ?? {},
): readonly StoreAction[] {
  const observedGeneration = model.metadata.generation
  const conditions = setConditions(model.status?.conditions, [{ type: RESOLVED, ...said, observedGeneration }], nowMs)
  const old = findCondition(model.status?.conditions, RESOLVED)
  const news = old?.status !== said.status || old.message !== said.message
  const told =
    !news || said.status === 'Unknown'
      ? []
      : [event(model, said.status === 'True' ? 'Normal' : 'Warning', said.reason, said.message)]
  return [setStatus(model, { ...status, conditions }), ...told]
}

/** What the hub told, if it makes a sound Model. */
function resolved(model: Model, { shape, digest, resolvedRevision, files }: HubModel, nowMs: number) {
  const status: ModelStatus = { ...model.status, shape, digest, resolvedRevision, files }
  const causes = validate({ ...model, status } as unknown as Manifest)
  if (causes.length > 0) {
    const message = `read ${model.spec.source ?? ''}: its files make no sound model: ${causes.map(causeText).join(', ')}`
    return say(model, { status: 'False', reason: 'ModelInvalid', message }, nowMs)
  }
  const bytes = files.reduce((sum, file) => sum + file.sizeBytes, 0)
  const counted = `${files.length} ${files.length === 1 ? 'file' : 'files'}, ${bytes} bytes`
  const revision = sourceOfModel(model)?.revision ?? ''
  const message =
    revision === ''
      ? counted
      : `commit ${resolvedRevision}: ${counted}${revision === resolvedRevision ? '' : standsText(revision)}`
  return say(model, { status: 'True', reason: RESOLVED, message }, nowMs, status)
}

/** A branch may go on; nobody looks again, so that all nodes run the same files. */
const standsText = (revision: string): string =>
  `; it stays when ${revision} moves on: delete this Model to have that read anew`

/** The hub is asked once per source and revision: other Models of it get what the first one knows. */
function spread(models: readonly Model[], known: Model, nowMs: number): readonly StoreAction[] {
  const { shape, digest, resolvedRevision, files } = known.status ?? {}
  if (shape === undefined || digest === undefined || resolvedRevision === undefined || files === undefined) return []
  return models
    .filter((m) => !isResolved(m))
    .flatMap((m) => resolved(m, { shape, digest, resolvedRevision, files }, nowMs))
}
