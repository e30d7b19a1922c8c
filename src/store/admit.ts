/**
 * What may be written: defaults filled in, the whole object sound, nothing changed that must never change. Checks here
 * look at the object alone; those that need the planner come through `OpenOptions.admit`.
 */
import { causeText, forbidden as forbiddenField, isUnknownField } from '../api/causes.ts'
import { isTrue } from '../api/conditions.ts'
import { applyDefaults } from '../api/default.ts'
import { isKindName, kinds } from '../api/kinds.ts'
import type { Condition, Manifest, MctlObject, ObjectKey } from '../api/meta.ts'
import { API_GROUP, DEFAULT_NAMESPACE } from '../api/meta.ts'
import { checkHead, validate } from '../api/validate.ts'
import { AGENT_FINALIZER, CHILDREN_FINALIZER, SYNC_FINALIZER } from '../api/words.ts'
import type { Cause } from '../lib/errors.ts'
import { OpError } from '../lib/errors.ts'
import { equalJson, isMap } from './json.ts'
import { forbidden } from './refusals.ts'

/** `Strict` refuses unknown fields; the others leave them out, and `Warn` says which. */
export type FieldValidation = 'Strict' | 'Warn' | 'Ignore'

export interface Sound {
  readonly object: MctlObject
  /** Unknown fields that were left out. */
  readonly warnings: readonly string[]
}

/** The key of a manifest or reference, in the default namespace when its kind has namespaces and it names none. */
export function addressOf(manifest: Manifest): ObjectKey {
  const head = checkHead(manifest)
  if (head.length > 0) throw invalid(isMap(manifest) ? String(manifest.kind) : '', '', head)
  const { name, namespace } = isMap(manifest.metadata) ? manifest.metadata : {}
  return addressIn({
    kind: manifest.kind,
    namespace: typeof namespace === 'string' ? namespace : '',
    name: typeof name === 'string' ? name : '',
  })
}

export function addressIn({ kind, namespace, name }: ObjectKey): ObjectKey {
  const namespaced = isKindName(kind) && kinds[kind].namespaced
  return { kind, namespace: namespaced ? namespace || DEFAULT_NAMESPACE : '', name }
}

/** The object with its defaults; OpError Invalid lists everything that is wrong with it. */
export function sound(object: MctlObject, validation: FieldValidation = 'Strict'): Sound {
  const filled = applyDefaults(object as unknown as Manifest)
  const causes = validate(filled)
  if (causes.length === 0) return { object: filled as MctlObject, warnings: [] }
  if (validation === 'Strict' || !causes.some(isUnknownField)) throw invalid(object.kind, nameIn(object), causes)
  const known = withoutFields(
    filled,
    causes.filter(isUnknownField).map(({ field }) => field),
  ) as MctlObject
  const left = validate(known as unknown as Manifest)
  if (left.length > 0) throw invalid(object.kind, nameIn(object), left)
  return { object: known, warnings: validation === 'Warn' ? causes.filter(isUnknownField).map(causeText) : [] }
}

const nameIn = (object: MctlObject): string => (isMap(object.metadata) ? String(object.metadata['name'] ?? '') : '')

export function invalid(kind: string, name: string, causes: readonly Cause[]): OpError {
  const texts = causes.map(causeText)
  const all = texts.length === 1 ? texts[0] : `[${texts.join(', ')}]`
  return new OpError('Invalid', `${kind}.${API_GROUP} "${name}" is invalid: ${all}`, { causes })
}

/** Fields of a spec that stay as they were made: other parts are built on them. */
const immutable: Readonly<Record<string, (field: string) => boolean>> = {
  Revision: () => true,
  Shard: (field) => field !== 'rendezvous',
  ShardGroup: (field) => field === 'deployment' || field === 'replica',
}

/** OpError Invalid when `next` changes a field that may not change. */
export function checkImmutable(old: MctlObject, next: MctlObject): void {
  const isImmutable = immutable[old.kind]
  if (isImmutable === undefined || old.spec === next.spec || !isMap(old.spec) || !isMap(next.spec)) return
  const { spec: before } = old
  const { spec: after } = next
  const changed = [...new Set([...Object.keys(before), ...Object.keys(after)])]
    .filter((field) => isImmutable(field) && !equalJson(before[field], after[field]))
    .map((field) => forbiddenField(`spec.${field}`, 'field is immutable'))
  if (changed.length > 0) throw invalid(old.kind, old.metadata.name, changed)
}

/** Finalizers that a new object is born with, so that there is no moment in which it could vanish without its holder. */
export function withFinalizers(kind: string, given: unknown): unknown {
  const needed = neededFinalizers[kind]
  const list: unknown = given ?? []
  if (needed === undefined || !Array.isArray(list) || list.includes(needed)) return given
  return [...(list as unknown[]), needed]
}

const neededFinalizers: Readonly<Record<string, string>> = {
  ModelDeployment: CHILDREN_FINALIZER,
  ShardGroup: CHILDREN_FINALIZER,
  Shard: AGENT_FINALIZER,
  Sync: SYNC_FINALIZER,
}

/** OpError Forbidden when the object may not be deleted now. */
export function checkDelete(object: MctlObject): void {
  const { conditions } = isMap(object.status) ? (object.status as { conditions?: readonly Condition[] }) : {}
  if (object.kind === 'Node' && isTrue(conditions, 'Ready'))
    throw forbidden(
      { kind: 'Node', namespace: '', name: object.metadata.name },
      'the node is Ready and its agent would join again: stop the agent on it first',
    )
}

/** `value` without the fields at these paths (`spec.a`, `spec.list[0].b`, `metadata.labels[x/y]`). */
function withoutFields(value: unknown, paths: readonly string[]): unknown {
  const result: unknown = structuredClone(value)
  for (const path of paths) {
    const parts = [...path.matchAll(/\[([^\]]*)\]|[^.[\]]+/g)].map((match) => match[1] ?? match[0])
    const last = parts.pop()
    const parent = parts.reduce<unknown>((at, part) => (at as Record<string, unknown> | undefined)?.[part], result)
    if (last !== undefined && isMap(parent)) delete (parent as Record<string, unknown>)[last]
  }
  return result
}
