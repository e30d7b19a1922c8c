/** The one table of kinds: plurals, short names, scope. Whoever names a resource looks here. */
import { API_GROUP } from './meta.ts'

export interface KindFacts {
  readonly kind: KindName
  readonly plural: string
  readonly singular: string
  readonly shortNames: readonly string[]
  readonly namespaced: boolean
  /** Kinds whose status agents may write through UpdateStatus, by whitelisted fields (see statuspatch.ts). */
  readonly hasStatus: boolean
}

export const kindNames = [
  'Node',
  'Model',
  'ModelDeployment',
  'ShardGroup',
  'Shard',
  'Revision',
  'Sync',
  'ApplySet',
  'Event',
  'User',
  'ApiKey',
  'JoinToken',
  'Authority',
] as const
export type KindName = (typeof kindNames)[number]

const facts = (kind: KindName, shortNames: readonly string[], namespaced: boolean, hasStatus: boolean): KindFacts => ({
  kind,
  singular: kind.toLowerCase(),
  plural: `${kind.toLowerCase()}s`,
  shortNames,
  namespaced,
  hasStatus,
})

export const kinds: Readonly<Record<KindName, KindFacts>> = {
  Node: facts('Node', ['no'], false, true),
  Model: facts('Model', ['mo'], false, true),
  ModelDeployment: facts('ModelDeployment', ['md'], true, true),
  ShardGroup: facts('ShardGroup', ['sg'], true, true),
  Shard: facts('Shard', ['sh'], true, true),
  Revision: facts('Revision', ['rev'], true, false),
  Sync: facts('Sync', [], false, true),
  ApplySet: facts('ApplySet', ['as'], true, false),
  Event: facts('Event', ['ev'], true, false),
  User: facts('User', [], false, false),
  ApiKey: facts('ApiKey', ['key'], false, false),
  JoinToken: facts('JoinToken', ['jt'], false, false),
  Authority: { ...facts('Authority', ['ca'], false, false), plural: 'authorities' },
}

export const isKindName = (text: string): text is KindName => Object.hasOwn(kinds, text)

/** Finds a kind by kind, plural, singular or short name, with or without the group, in any case; undefined when none. */
export function findKind(text: string): KindFacts | undefined {
  const word = text.toLowerCase().replace(`.${API_GROUP}`, '')
  return Object.values(kinds).find((k) => k.singular === word || k.plural === word || k.shortNames.includes(word))
}

/** `modeldeployment.mctl.dev/x`: how mutations name an object. */
export const qualifiedName = (kind: KindName, name: string): string => `${kinds[kind].singular}.${API_GROUP}/${name}`

/** `modeldeployments.mctl.dev`: how errors name a resource. Our nodes too: kubectl's bare `nodes` means the core kind. */
export const resourceName = (kind: KindName): string =>
  kind === 'Node' ? kinds.Node.plural : `${kinds[kind].plural}.${API_GROUP}`
