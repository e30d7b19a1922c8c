/**
 * Is this object sound? Every cause at once, in Kubernetes' words: the schema first, then the rules between fields.
 * Takes a manifest after `applyDefaults`; one without them is checked as far as it goes.
 */
import type { Cause } from '../lib/errors.ts'
import { causeOfSchemaError, isUnknownField, required, unsupported } from './causes.ts'
import type { Rule } from './check.ts'
import { checkRules } from './check.ts'
import type { KindName } from './kinds.ts'
import { isKindName, kindNames } from './kinds.ts'
import type { Manifest } from './meta.ts'
import { API_VERSION } from './meta.ts'
import { metadataRules } from './metacheck.ts'
import { modelRules } from './modelcheck.ts'
import { modelDeploymentRules } from './modeldeploymentcheck.ts'
import { nodeRules } from './nodecheck.ts'
import type { ObjectOf } from './objects.ts'
import { validatorOf } from './schemas.ts'
import { shardGroupRules, shardRules } from './shardcheck.ts'
import { syncRules } from './synccheck.ts'
import { userRules } from './trustcheck.ts'

/** No one reads more at once, and hostile input must not make a hostile answer. */
const MAX_CAUSES = 100

const kindRules: { readonly [K in KindName]: readonly Rule<ObjectOf[K]>[] } = {
  Node: nodeRules,
  Model: modelRules,
  ModelDeployment: modelDeploymentRules,
  ShardGroup: shardGroupRules,
  Shard: shardRules,
  Revision: [],
  Sync: syncRules,
  ApplySet: [],
  Event: [],
  User: userRules,
  ApiKey: [],
  JoinToken: [],
  Authority: [],
}

const rulesOfKind = new Map<KindName, readonly Rule<Manifest>[]>(
  kindNames.map((kind) => [
    kind,
    // A rule runs only where the schema found its fields sound, so the manifest is its kind's object there.
    [...metadataRules(kind), ...(kindRules[kind] as readonly unknown[] as readonly Rule<Manifest>[])],
  ]),
)

/** Everything that is wrong with the object; an empty list when it may be stored. Never throws on any JSON value. */
export function validate(manifest: Manifest): Cause[] {
  const head = checkHead(manifest)
  if (head.length > 0 || !isKindName(manifest.kind)) return head
  const validator = validatorOf(manifest.kind)
  const found = validator(manifest) ? [] : distinct((validator.errors ?? []).slice(0, 2 * MAX_CAUSES), manifest)
  const broken = found.filter((cause) => !isUnknownField(cause))
  const rules = rulesOfKind.get(manifest.kind) ?? []
  return capped([...found, ...checkRules(rules, manifest, broken)])
}

/** apiVersion and kind: without them nothing else can be said. */
export function checkHead(value: unknown): Cause[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return [{ field: '', message: 'must be a map with apiVersion, kind and metadata' }]
  const { apiVersion, kind } = value as Readonly<Record<string, unknown>>
  const causes: Cause[] = []
  if (apiVersion === undefined || apiVersion === null || apiVersion === '') causes.push(required('apiVersion'))
  else if (apiVersion !== API_VERSION) causes.push(unsupported('apiVersion', apiVersion, [API_VERSION]))
  if (kind === undefined || kind === null || kind === '') causes.push(required('kind'))
  else if (typeof kind !== 'string' || !isKindName(kind)) causes.push(unsupported('kind', kind, kindNames))
  return causes
}

function distinct(errors: Parameters<typeof causeOfSchemaError>[0][], root: unknown): Cause[] {
  const seen = new Map<string, Cause>()
  for (const error of errors) {
    // An empty text is a missing one, and that is said once.
    if (error.keyword === 'pattern' && error.data === '') continue
    const cause = causeOfSchemaError(error, root)
    seen.set(`${cause.field}\n${cause.message}`, cause)
  }
  return [...seen.values()]
}

const capped = (causes: Cause[]): Cause[] =>
  causes.length <= MAX_CAUSES
    ? causes
    : [...causes.slice(0, MAX_CAUSES), { field: '', message: `and ${causes.length - MAX_CAUSES} more` }]
