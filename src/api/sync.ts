/** Sync: a followed source of manifests, a git repository or a directory, and how far the cluster has followed it. */
import type { Condition, ObjectMeta } from './meta.ts'

export interface GitSource {
  /** `https://…`, `ssh://…` or `file:///…`, never with a password. */
  readonly url: string
  /** At most one of branch and tag; neither: `main`. */
  readonly branch?: string
  readonly tag?: string
  readonly path: string
  readonly extraPaths?: readonly string[]
  /** A folder below `credentials/` in the server's data folder. */
  readonly credentials?: string
  readonly allowForcePush: boolean
  readonly timeoutSeconds: number
  readonly verify?: { readonly signers: string }
}

/** Exactly one of the two. */
export interface SyncSource {
  readonly git?: GitSource
  readonly directory?: string
}

export interface SyncSpec {
  readonly source: SyncSource
  readonly intervalSeconds: number
  readonly prune: boolean
  readonly suspend: boolean
  readonly deletionPolicy: 'Orphan' | 'Delete'
  readonly dependsOn: readonly string[]
  readonly waveTimeoutSeconds: number
  readonly webhookSecret?: string
}

/** From the best to the worst: a Sync is as healthy as its worst object. */
export const healths = ['Healthy', 'Suspended', 'Progressing', 'Missing', 'Degraded', 'Unknown'] as const
export type Health = (typeof healths)[number]

export type ChangeAction = 'Create' | 'Configure' | 'Prune' | 'Release' | 'Keep'

/** What becomes, or would become, of one object. */
export interface SyncChange {
  readonly action: ChangeAction
  readonly kind: string
  /** Absent on kinds without namespaces. */
  readonly namespace?: string
  readonly name: string
  /** `.spec.replicas: 1 → 2`, at most 20. */
  readonly fields?: readonly string[]
  readonly reason?: string
}

export interface InventoryEntry {
  readonly kind: string
  readonly namespace?: string
  readonly name: string
  readonly uid: string
  /** Absent: 0. */
  readonly wave?: number
}

export interface SyncCause {
  /** `file:line`. */
  readonly where?: string
  readonly field: string
  readonly message: string
}

export interface SyncAttempt {
  readonly revision: string
  readonly digest?: string
  readonly time: string
  readonly durationMs?: number
  readonly author?: string
  readonly subject?: string
  readonly result: 'Applied' | 'Refused' | 'Healed'
  readonly message?: string
  readonly changes?: readonly SyncChange[]
  readonly more?: number
}

export interface SyncOperation {
  readonly revision: string
  readonly wave: number
  readonly startedAt: string
  readonly waveStartedAt: string
}

export interface BlockedPrune {
  readonly revision: string
  /** What the annotation APPROVE_ANNOTATION must say: it stands for this revision and exactly these objects. */
  readonly approval: string
  readonly reason: string
  readonly objects: readonly string[]
}

export interface SyncPreview {
  readonly request: string
  readonly revision?: string
  readonly changes: readonly SyncChange[]
  readonly more?: number
  readonly message?: string
}

export interface SyncStatus {
  readonly observedGeneration?: number
  /** What the revisions are of; another source begins anew. */
  readonly source?: string
  readonly lastAttemptedRevision?: string
  readonly lastAppliedRevision?: string
  /** Over the files that were applied. */
  readonly lastAppliedDigest?: string
  readonly lastAppliedTime?: string
  readonly lastHandledRequest?: string
  readonly health?: Health
  readonly objects?: number
  readonly operation?: SyncOperation
  readonly blocked?: BlockedPrune
  readonly preview?: SyncPreview
  readonly causes?: readonly SyncCause[]
  readonly inventory?: readonly InventoryEntry[]
  readonly history?: readonly SyncAttempt[]
  readonly conditions?: readonly Condition[]
}

export interface Sync {
  readonly apiVersion: string
  readonly kind: 'Sync'
  readonly metadata: ObjectMeta
  readonly spec: SyncSpec
  readonly status?: SyncStatus
}

/** Who owns the fields that come from a source. */
export const SYNC_MANAGER = 'mctl-gitops'
/** On an applied object: the Sync that it is from. */
export const SYNC_LABEL = 'mctl.dev/sync'

/** Asked of a Sync by people, a fresh word each time; its status says which one was answered last. */
export const REQUEST_ANNOTATION = 'mctl.dev/sync-requested'
export const PREVIEW_ANNOTATION = 'mctl.dev/preview-requested'
/** `status.blocked.approval` of the deletions that a person has approved. */
export const APPROVE_ANNOTATION = 'mctl.dev/approve-prune'

/** In manifests: waves are applied in order of their numbers, each when the one before is healthy. Absent: 0. */
export const WAVE_ANNOTATION = 'mctl.dev/sync-wave'
export const WAVE_MAX = 1000
/** In manifests and on objects: `disabled` keeps the object when it goes from the source. */
export const PRUNE_ANNOTATION = 'mctl.dev/prune'
/** In manifests: `true` takes over fields that others hold with another value when the object is first followed. */
export const FORCE_ANNOTATION = 'mctl.dev/force'

/** The ref that a git source follows. */
export const refOfGit = ({ branch, tag }: Pick<GitSource, 'branch' | 'tag'>): string => tag ?? branch ?? 'main'

/** What a source is called, where revisions are told: the same text means the same line of revisions. */
export function sourceName({ git, directory }: SyncSource): string {
  if (git === undefined) return directory ?? ''
  return git.tag === undefined ? `${git.url}@${refOfGit(git)}` : `${git.url}@tags/${git.tag}`
}

const SHORT_COMMIT = 8

/** A commit or digest as people read it. */
export function shortRevision(revision: string | undefined): string | undefined {
  if (revision === undefined) return undefined
  return revision.startsWith('sha256:')
    ? revision.slice(0, 'sha256:'.length + SHORT_COMMIT)
    : revision.slice(0, SHORT_COMMIT)
}

/** `ModelDeployment default/chat`: how a Sync names an object. */
export const objectText = ({ kind, namespace, name }: Pick<InventoryEntry, 'kind' | 'namespace' | 'name'>): string =>
  `${kind} ${namespace === undefined || namespace === '' ? '' : `${namespace}/`}${name}`
