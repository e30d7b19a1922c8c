/**
 * `--prune --applyset NAME`: what was applied with the set before and is applied no more goes. After KEP-3659: members
 * carry the set's id as a label, the set itself says in which kinds and namespaces to look for them. The set is widened
 * before anything is applied and narrowed after everything was, so that whatever fails in between is found next time.
 */
import { createHash } from 'node:crypto'
import type { KindName } from '../../api/kinds.ts'
import { isKindName, kindNames, kinds } from '../../api/kinds.ts'
import type { Manifest, MctlObject } from '../../api/meta.ts'
import { API_VERSION, DEFAULT_NAMESPACE } from '../../api/meta.ts'
import type { ApplySet } from '../../api/records.ts'
import { APPLYSET_LABEL } from '../../api/records.ts'
import type { Client } from '../../rpc/messages.ts'
import { CliError } from '../context.ts'
import { refOf } from '../targets.ts'
import { liveOf } from './compare.ts'

/** What the set is written as. */
const MANAGER = 'mctl-applyset'

export interface OpenedSet {
  readonly name: string
  readonly namespace: string
  readonly id: string
  /** As it stood before. */
  readonly before: ApplySet['spec'] | undefined
}

/** The set of that name; its id is made of its name, so that a lost set is found again. */
export async function openSet(client: Client, name: string, namespace = DEFAULT_NAMESPACE): Promise<OpenedSet> {
  const hash = createHash('sha256').update(`${namespace}/${name}`).digest('hex').slice(0, 40)
  const standing = (await liveOf(client, manifestOf({ name, namespace, id: '' }, [], []))) as ApplySet | undefined
  return { name, namespace, id: standing?.spec.id ?? `applyset-${hash}-v1`, before: standing?.spec }
}

/** The manifest as a member. CliError when it belongs to another set: two would prune each other's. */
export async function asMember(client: Client, set: OpenedSet, manifest: Manifest, force: boolean): Promise<Manifest> {
  const live = await liveOf(client, manifest)
  const other = live?.metadata.labels?.[APPLYSET_LABEL]
  if (other !== undefined && other !== set.id && !force)
    throw new CliError(
      `${manifest.kind} "${manifest.metadata.name}" belongs to another ApplySet (${other}): \`mctl get applysets -A -o wide\` shows which; --force-conflicts takes it over`,
    )
  return {
    ...manifest,
    metadata: { ...manifest.metadata, labels: { ...manifest.metadata.labels, [APPLYSET_LABEL]: set.id } },
  }
}

/** Says where members are: before an apply also where they were. */
export async function writeSet(
  client: Client,
  set: OpenedSet,
  wanted: readonly Manifest[],
  widened: boolean,
): Promise<void> {
  const before = widened ? set.before : undefined
  const named = [...new Set([...(before?.kinds ?? []), ...wanted.map(({ kind }) => kind)])].sort()
  const spaces = [
    ...new Set([...(before?.namespaces ?? []), ...wanted.flatMap((m) => m.metadata.namespace ?? [])]),
  ].sort()
  const options = { fieldManager: MANAGER }
  await client.apply({ object: manifestOf(set, named, spaces), force: true, options })
}

const manifestOf = (
  { name, namespace, id }: Pick<OpenedSet, 'name' | 'namespace' | 'id'>,
  ofKinds: readonly string[],
  namespaces: readonly string[],
): Manifest => ({
  apiVersion: API_VERSION,
  kind: 'ApplySet',
  metadata: { name, namespace },
  spec: { id, kinds: ofKinds, namespaces },
})

/** Members that are not wanted any more, the last kind first: what stands on others goes before them. */
export async function leftOver(
  client: Client,
  { id, before }: OpenedSet,
  wanted: readonly Manifest[],
): Promise<readonly MctlObject[]> {
  const keep = new Set(wanted.map(({ kind, metadata }) => keyOf(kind, metadata.namespace, metadata.name)))
  const named = (before?.kinds ?? []).filter(isKindName)
  const found = await Promise.all(named.map((kind) => members(client, kind, id)))
  return found
    .flat()
    .filter(
      ({ kind, metadata }) =>
        !keep.has(keyOf(kind, metadata.namespace, metadata.name)) && metadata.deletionTimestamp === undefined,
    )
    .sort((a, b) => kindNames.indexOf(b.kind as KindName) - kindNames.indexOf(a.kind as KindName))
}

const keyOf = (kind: string, namespace: string | undefined, name: string) =>
  `${kind}/${kinds[kind as KindName].namespaced ? (namespace ?? DEFAULT_NAMESPACE) : ''}/${name}`

async function members(client: Client, kind: KindName, id: string): Promise<readonly MctlObject[]> {
  return (await client.list({ kind, labelSelector: `${APPLYSET_LABEL}=${id}` })).items
}

/** Only the very object that was found: one that was made anew under its name in between stays. */
export async function prune(client: Client, { kind, metadata }: MctlObject, dryRun: boolean): Promise<void> {
  const ref = refOf(kind as KindName, metadata.name, metadata.namespace)
  await client.delete({ ref, dryRun, preconditions: { uid: metadata.uid } })
}
