/** What every object shares: Kubernetes' shape, so that habits, scripts and later kubectl itself carry over. */

export const API_VERSION = 'mctl.dev/v1alpha1'
export const API_GROUP = 'mctl.dev'
export const DEFAULT_NAMESPACE = 'default'

export interface OwnerReference {
  readonly kind: string
  readonly name: string
  readonly uid: string
  readonly controller?: boolean
}

/** Who owns which leaf paths (FieldsV1). Recorded for Apply, and for Update where it changed spec, labels or annotations. */
export interface ManagedFields {
  readonly manager: string
  readonly operation: 'Apply' | 'Update'
  readonly time: string
  readonly fieldsV1: Readonly<Record<string, unknown>>
}

export interface ObjectMeta {
  readonly name: string
  /** Absent on cluster-scoped kinds. */
  readonly namespace?: string
  readonly uid: string
  /** Decimal revision of the last write: opaque to clients, also the watch cursor. */
  readonly resourceVersion: string
  /** +1 on each change of spec. */
  readonly generation: number
  /** RFC 3339, seconds. */
  readonly creationTimestamp: string
  readonly deletionTimestamp?: string
  /** How long the engines behind it may take to end, from deletionTimestamp on; absent: as long as a planned stop. */
  readonly deletionGracePeriodSeconds?: number
  readonly labels?: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
  readonly ownerReferences?: readonly OwnerReference[]
  readonly finalizers?: readonly string[]
  readonly managedFields?: readonly ManagedFields[]
}

export type ConditionStatus = 'True' | 'False' | 'Unknown'

export interface Condition {
  readonly type: string
  readonly status: ConditionStatus
  readonly observedGeneration?: number
  /** RFC 3339; moves only when `status` flips. */
  readonly lastTransitionTime: string
  readonly reason: string
  readonly message: string
}

/** Any stored object, seen from outside its kind. */
export interface MctlObject {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: ObjectMeta
  readonly spec?: unknown
  readonly status?: unknown
}

/** What a client may send: server-made metadata may be missing. */
export interface Manifest {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: Partial<Omit<ObjectMeta, 'name'>> & { readonly name: string }
  readonly [key: string]: unknown
}

export interface ObjectKey {
  readonly kind: string
  /** '' for cluster-scoped kinds. */
  readonly namespace: string
  readonly name: string
}

export const keyOf = (object: { kind: string; metadata: { name: string; namespace?: string } }): ObjectKey => ({
  kind: object.kind,
  namespace: object.metadata.namespace ?? '',
  name: object.metadata.name,
})

/** `kind/namespace/name`: unique, and `/` cannot occur in a part. */
export const keyString = (key: ObjectKey): string => `${key.kind}/${key.namespace}/${key.name}`

export function parseKey(text: string): ObjectKey {
  const [kind = '', namespace = '', name = ''] = text.split('/')
  return { kind, namespace, name }
}

/** RFC 3339 in whole seconds, as Kubernetes writes times. */
export const timestamp = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`
