/** Which objects a command is about: `TYPE NAME…`, `TYPE/NAME…`, `TYPE,TYPE`, or all of a type. */
import type { KindName } from '../api/kinds.ts'
import { findKind, kinds } from '../api/kinds.ts'
import { DEFAULT_NAMESPACE } from '../api/meta.ts'
import type { Client, ObjectRef } from '../rpc/messages.ts'
import { CliError } from './context.ts'

/** An object by name; without a name all of the kind. */
export interface Target {
  readonly kind: KindName
  readonly name: string | undefined
}

const allTypes = Object.values(kinds)
  .map((kind) => (kind.shortNames.length > 0 ? `${kind.plural} (${kind.shortNames.join(', ')})` : kind.plural))
  .join(', ')

/** The kind that a word names, or the error that kubectl gives. */
export function kindOf(word: string): KindName {
  const facts = findKind(word)
  if (facts === undefined)
    throw new CliError(`the server doesn't have a resource type "${word}"\nIts types are ${allTypes}.`)
  return facts.kind
}

export const refOf = (kind: KindName, name: string, namespace: string | undefined): ObjectRef => ({
  kind,
  name,
  namespace: kinds[kind].namespaced ? (namespace ?? DEFAULT_NAMESPACE) : '',
})

/** What the words name. `verb` is the command's, for the sentence that is said when there are none. */
export function targetsOf(words: readonly string[], verb: string): readonly Target[] {
  const [first, ...names] = words
  if (first === undefined) throw new CliError(noWordsText(verb))
  if (words.some((word) => word.includes('/'))) return words.map((word) => slashTarget(word, verb))
  const types = first.split(',').map(kindOf)
  return types.flatMap((kind): Target[] =>
    names.length === 0 ? [{ kind, name: undefined }] : names.map((name) => ({ kind, name })),
  )
}

/** kubectl's sentences: a command that changes or awaits something wants objects, one that shows wants a type. */
function noWordsText(verb: string): string {
  const help = `See 'mctl ${verb} --help' for help and examples`
  if (verb !== 'get' && verb !== 'describe')
    return `You must provide one or more resources by argument, for example \`mctl ${verb} md/NAME\`.\n${help}`
  return `You must specify the type of resource to ${verb}.\nTypes are ${allTypes}.\n${help}`
}

function slashTarget(word: string, verb: string): Target {
  const [type, name, ...rest] = word.split('/')
  if (type === undefined || name === undefined)
    throw new CliError(
      `there is no need to specify a resource type as a separate argument when passing arguments in resource/name form (e.g. 'mctl ${verb} resource/<resource_name>' instead of 'mctl ${verb} resource resource/<resource_name>')`,
    )
  if (rest.length > 0) throw new CliError('arguments in resource/name form may not have more than one slash')
  if (type === '' || name === '')
    throw new CliError('arguments in resource/name form must have a single resource and name')
  return { kind: kindOf(type), name }
}

export interface TargetFlags {
  readonly namespace?: string
  readonly all?: boolean
  readonly selector?: string
}

/** The references of what the words name. A type without a name needs `--all` or a selector: nobody deletes all by oversight. */
export async function refsOf(
  client: Client,
  words: readonly string[],
  verb: string,
  flags: TargetFlags,
): Promise<readonly ObjectRef[]> {
  const targets = targetsOf(words, verb)
  const ofAll = flags.all === true || flags.selector !== undefined
  if (ofAll && targets.some((target) => target.name !== undefined))
    throw new CliError(
      flags.selector === undefined
        ? 'setting --all with names makes no sense: give names, or --all'
        : 'name cannot be provided when a selector is specified',
    )
  if (flags.all === true && flags.selector !== undefined)
    throw new CliError('setting both --all and a selector makes no sense: give one of them')
  if (!ofAll && targets.some((target) => target.name === undefined))
    throw new CliError('resource(s) were provided, but no name was specified; use --all for all of them')
  const refs = targets.map(async ({ kind, name }) =>
    name === undefined ? refsOfKind(client, kind, flags) : [refOf(kind, name, flags.namespace)],
  )
  return (await Promise.all(refs)).flat()
}

async function refsOfKind(client: Client, kind: KindName, flags: TargetFlags): Promise<readonly ObjectRef[]> {
  const { namespace } = refOf(kind, '', flags.namespace)
  const { items } = await client.list({
    kind,
    ...(namespace === '' ? {} : { namespace }),
    ...(flags.selector === undefined ? {} : { labelSelector: flags.selector }),
  })
  return items.map((item) => refOf(kind, item.metadata.name, item.metadata.namespace))
}
