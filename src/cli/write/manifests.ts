/** The manifests of apply and diff: read, checked, each in its namespace, and sent. */
import type { KindName } from '../../api/kinds.ts'
import { kinds, qualifiedName } from '../../api/kinds.ts'
import type { Manifest } from '../../api/meta.ts'
import { DEFAULT_NAMESPACE } from '../../api/meta.ts'
import type { LocatedManifest } from '../../api/yaml.ts'
import { isOpError } from '../../lib/errors.ts'
import type { Client, WriteReply } from '../../rpc/messages.ts'
import type { Cli } from '../context.ts'
import { CliError } from '../context.ts'
import { readManifests, readValidManifests } from '../files.ts'

export interface ManifestFlags {
  readonly namespace?: string
  /** false: it is the context's. */
  readonly namespaceGiven?: boolean
  readonly filename?: readonly string[]
  readonly recursive?: boolean
  readonly forceConflicts?: boolean
  readonly fieldManager?: string
  readonly validate?: string
}

type FieldValidation = 'Strict' | 'Warn' | 'Ignore'
/** What becomes of unknown fields. */
const validations: Readonly<Record<string, FieldValidation>> = {
  strict: 'Strict',
  true: 'Strict',
  warn: 'Warn',
  ignore: 'Ignore',
  false: 'Ignore',
}

export const nameOf = (manifest: Manifest) => qualifiedName(manifest.kind as KindName, manifest.metadata.name)

export function checkFileWords(words: readonly string[], flags: ManifestFlags): void {
  if (words.length > 0)
    throw new CliError(`Unexpected args: [${words.join(' ')}]; files are given with -f, one -f for each`)
  if (flags.filename === undefined)
    throw new CliError('must specify -f FILE (a file, a directory, or - for standard input)')
  if (!Object.hasOwn(validations, flags.validate ?? 'strict'))
    throw new CliError(
      `invalid - validate option "${flags.validate}"; must be one of: strict (or true), warn, ignore (or false)`,
    )
}

const validationOf = ({ validate = 'strict' }: ManifestFlags): FieldValidation => validations[validate] ?? 'Strict'

/** All of them, each with its namespace. Nothing was sent anywhere yet. */
export async function wantedIn(cli: Cli, flags: ManifestFlags): Promise<readonly LocatedManifest[]> {
  const read = validationOf(flags) === 'Strict' ? readValidManifests : readManifests
  const located = await read(cli, flags.filename ?? [], flags.recursive === true)
  return located.map((one) => ({ ...one, manifest: inNamespace(one, flags) }))
}

/** A namespace that was asked for must be the manifest's; that of the context only stands in for a missing one. */
function inNamespace({ manifest, file, lineOf }: LocatedManifest, flags: ManifestFlags): Manifest {
  if (!kinds[manifest.kind as KindName].namespaced) return manifest
  const own = manifest.metadata.namespace
  const { namespace, namespaceGiven = namespace !== undefined } = flags
  if (own !== undefined && namespaceGiven && own !== namespace)
    throw new CliError(
      `${file}:${lineOf('metadata.namespace')}: the namespace from the provided object "${own}" does not match the namespace "${namespace ?? ''}". You must pass '--namespace=${own}' to perform this operation.`,
    )
  return { ...manifest, metadata: { ...manifest.metadata, namespace: own ?? namespace ?? DEFAULT_NAMESPACE } }
}

export async function send(
  client: Client,
  object: Manifest,
  flags: ManifestFlags,
  { dryRun, file }: { readonly dryRun: boolean; readonly file: string },
): Promise<WriteReply> {
  try {
    const options = { dryRun, fieldManager: flags.fieldManager ?? 'mctl', fieldValidation: validationOf(flags) }
    return await client.apply({ object, force: flags.forceConflicts === true, options })
  } catch (error) {
    throw conflictIn(object, file, error)
  }
}

/** The store says who holds which fields; a person needs to know of what, and what to do. */
function conflictIn({ kind, metadata }: Manifest, file: string, error: unknown): unknown {
  if (!isOpError(error, 'Conflict') || !error.message.startsWith('Apply failed with')) return error
  return new CliError(`${error.message}
Other managers hold these fields of the ${kind} "${metadata.name}" of ${file} with another value. You can
* take them over: apply again with --force-conflicts;
* leave them to the others: remove the fields from your manifest;
* share them: write the value that they have now.`)
}
