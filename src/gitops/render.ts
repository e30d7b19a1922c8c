/**
 * Files → the objects that are wanted, all of them parsed, defaulted and validated before anything is written. One fault
 * anywhere refuses the whole; every fault is told with file, line and path.
 */
import { applyDefaults } from '../api/default.ts'
import { isKindName, kinds } from '../api/kinds.ts'
import type { KindName } from '../api/kinds.ts'
import type { Manifest, ObjectKey } from '../api/meta.ts'
import { DEFAULT_NAMESPACE, keyString } from '../api/meta.ts'
import { FORCE_ANNOTATION, objectText, SYNC_LABEL, WAVE_ANNOTATION, WAVE_MAX } from '../api/sync.ts'
import { validate } from '../api/validate.ts'
import type { LocatedManifest } from '../api/yaml.ts'
import { locate, parseManifests } from '../api/yaml.ts'
import { nextTurn } from '../lib/clock.ts'
import type { Cause } from '../lib/errors.ts'
import { withoutPasswords } from './git.ts'
import type { SourceTree } from './tree.ts'

/** One object as the source wants it. */
export interface Desired {
  readonly key: ObjectKey
  /** Only what a source may say: name, namespace, labels, annotations and spec, with the label of its Sync. */
  readonly manifest: Manifest
  /** `file:line` of the manifest. */
  readonly where: string
  readonly wave: number
  /** Takes over what others hold with another value, also when the object is not followed yet. */
  readonly force: boolean
}

export interface Rendered {
  readonly revision: string
  readonly digest: string
  /** In order of keys; empty when there are causes. */
  readonly objects: readonly Desired[]
  readonly causes: readonly Cause[]
  readonly missingPaths: readonly string[]
  readonly author?: string
  readonly subject?: string
}

export const MAX_OBJECTS = 1_000
const MAX_CAUSES = 100

/** Kinds that the system writes from what people want: a source may not say what was decided or observed. */
const systemKinds: ReadonlySet<string> = new Set<KindName>(['ShardGroup', 'Shard', 'Revision', 'Event'])

/** Who may do what is decided by people at the door, with commands of their own: a source could give itself more. */
const trustKinds: ReadonlySet<string> = new Set<KindName>(['User', 'ApiKey', 'JoinToken', 'Authority'])

/** `sync` is the name of the Sync that the objects will carry. Gives way to others between files. */
export async function render(tree: SourceTree, sync: string): Promise<Rendered> {
  const causes: Cause[] = [...tree.causes]
  const found = new Map<string, Desired>()
  for (const file of tree.files) {
    await new Promise<void>((resolve) => nextTurn(resolve))
    const parsed = parseManifests(file.bytes, file.path)
    causes.push(...parsed.causes)
    for (const located of parsed.manifests) add(found, causes, located, sync)
  }
  if (found.size > MAX_OBJECTS)
    causes.push({ field: '', message: `too many objects: ${found.size}, a Sync may hold at most ${MAX_OBJECTS}` })
  const { revision, digest, missingPaths, author, subject } = tree
  const objects = [...found].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, desired]) => desired)
  return {
    revision,
    digest,
    missingPaths,
    objects: causes.length === 0 ? objects : [],
    causes: shortened([...causes].sort(byPlace)),
    ...(author === undefined ? {} : { author }),
    ...(subject === undefined ? {} : { subject }),
  }
}

function add(found: Map<string, Desired>, causes: Cause[], located: LocatedManifest, sync: string): void {
  const { manifest, file, line } = located
  const faults = faultsOf(manifest)
  causes.push(...locate(faults, located))
  if (faults.length > 0) return
  const desired = desiredOf(manifest, `${file}:${line}`, sync)
  const text = keyString(desired.key)
  const other = found.get(text)
  if (other === undefined) found.set(text, desired)
  else
    causes.push(
      ...locate(
        [{ field: 'metadata.name', message: `Duplicate value: ${nameOf(desired.key)} stands in ${other.where}, too` }],
        located,
      ),
    )
}

function faultsOf(manifest: Manifest): Cause[] {
  if (systemKinds.has(manifest.kind))
    return [{ field: 'kind', message: `Forbidden: a ${manifest.kind} is written by the system, never by people` }]
  if (trustKinds.has(manifest.kind))
    return [{ field: 'kind', message: `Forbidden: a ${manifest.kind} gives access, and may not come from a source` }]
  const faults = validate(applyDefaults(manifest))
  const wave = annotationsOf(manifest)[WAVE_ANNOTATION]
  if (faults.length === 0 && wave !== undefined && waveOf(wave) === undefined)
    faults.push({
      field: `metadata.annotations[${WAVE_ANNOTATION}]`,
      message: `Invalid value: ${JSON.stringify(wave)}: must be a whole number from -${WAVE_MAX} to ${WAVE_MAX}, in quotes`,
    })
  return faults
}

const annotationsOf = ({ metadata }: Manifest): Readonly<Record<string, string>> => metadata.annotations ?? {}

function waveOf(text: string): number | undefined {
  if (!/^-?\d{1,4}$/.test(text)) return undefined
  const wave = Number(text)
  return Math.abs(wave) <= WAVE_MAX ? wave : undefined
}

/** What an export holds beside what a person wants (uid, resourceVersion, status…) is left out: the server makes it. */
function desiredOf(manifest: Manifest, where: string, sync: string): Desired {
  const { apiVersion, kind, metadata, status: _status, ...rest } = manifest
  const namespaced = isKindName(kind) && kinds[kind].namespaced
  const namespace = namespaced ? (metadata.namespace ?? DEFAULT_NAMESPACE) : ''
  const { name, annotations } = metadata
  return {
    key: { kind, namespace, name },
    manifest: {
      apiVersion,
      kind,
      metadata: {
        name,
        ...(namespaced ? { namespace } : {}),
        labels: { ...metadata.labels, [SYNC_LABEL]: sync },
        ...(annotations === undefined || annotations === null ? {} : { annotations }),
      },
      ...rest,
    },
    where,
    wave: waveOf(annotationsOf(manifest)[WAVE_ANNOTATION] ?? '0') ?? 0,
    force: annotationsOf(manifest)[FORCE_ANNOTATION] === 'true',
  }
}

const nameOf = (key: ObjectKey): string => objectText(key)

/** As a reader goes through the files: by name, then from top to bottom. */
function byPlace(a: Cause, b: Cause): number {
  const [placeA, placeB] = [placeOf(a), placeOf(b)]
  return placeA.file < placeB.file ? -1 : placeA.file > placeB.file ? 1 : placeA.line - placeB.line
}

function placeOf({ where = '' }: Cause): { readonly file: string; readonly line: number } {
  const colon = where.lastIndexOf(':')
  return { file: where.slice(0, Math.max(0, colon)), line: Number(where.slice(colon + 1)) }
}

function shortened(causes: readonly Cause[]): readonly Cause[] {
  const told = causes.slice(0, MAX_CAUSES).map((cause) => ({ ...cause, message: withoutPasswords(cause.message) }))
  return causes.length <= MAX_CAUSES
    ? told
    : [...told, { field: '', message: `and ${causes.length - MAX_CAUSES} more` }]
}
