/** Which objects a command is about: `TYPE NAME…`, `TYPE/NAME…`, `TYPE,TYPE`, all of a type, or those of files. */
import type { KindName } from '../api/kinds.ts'
import { findKind, kinds } from '../api/kinds.ts'
import { DEFAULT_NAMESPACE } from '../api/meta.ts'
import type { Client, ObjectRef } from '../rpc/messages.ts'
import type { Cli } from './context.ts'
import { CliError } from './context.ts'
import { habitOfType } from './habits.ts'

/** An object by name; without a name all of the kind. */
export interface Target {
  readonly kind: KindName
  readonly name: string | undefined
  /** Of an object of a file that names one. */
  readonly namespace?: string
  readonly file?: string
}

/** What `all` stands for: what runs, and why. */
const everything: readonly KindName[] = ['ModelDeployment', 'ShardGroup', 'Shard']

const allTypes = Object.values(kinds)
  .map((kind) => (kind.shortNames.length > 0 ? `${kind.plural} (${kind.shortNames.join(', ')})` : kind.plural))
  .join(', ')

/** The kind that a word names, or the error that kubectl gives. */
export function kindOf(word: string): KindName {
  const facts = findKind(word)
  if (facts === undefined) {
    const habit = habitOfType(word)
    throw new CliError(
      `the server doesn't have a resource type "${word}"\n${habit === undefined ? '' : `In mctl ${habit}.\n`}Its types are ${allTypes}.`,
    )
  }
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
  const types = first.split(',').flatMap((type) => (type.toLowerCase() === 'all' ? everything : [kindOf(type)]))
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
  readonly filename?: readonly string[]
  readonly recursive?: boolean
  readonly all?: boolean
  readonly selector?: string
  readonly fieldSelector?: string
}

/** What the words name, or the files hold: one of both. */
export async function targetsFrom(
  cli: Cli,
  words: readonly string[],
  verb: string,
  { filename, recursive, namespace, all, selector, fieldSelector }: TargetFlags,
): Promise<readonly Target[]> {
  if (filename === undefined) return targetsOf(words, verb)
  if (words.length > 0 || all === true || selector !== undefined || fieldSelector !== undefined)
    throw new CliError('when files are given with -f, neither names nor --all nor a selector may be')
  const { readManifests } = await import('./files.ts')
  const located = await readManifests(cli, filename, recursive === true)
  return located.map(({ manifest: { kind, metadata }, file }) => {
    const own = metadata.namespace ?? namespace
    return { kind: kindOf(kind), name: metadata.name, ...(own === undefined ? {} : { namespace: own }), file }
  })
}

/** The references of what the words or files name. A type without a name needs `--all` or a selector: nobody deletes all by oversight. */
export async function refsOf(
  cli: Cli,
  client: Client,
  words: readonly string[],
  verb: string,
  flags: TargetFlags,
): Promise<readonly ObjectRef[]> {
  const targets = await targetsFrom(cli, words, verb, flags)
  checkSelection(targets, flags)
  const refs = targets.map(async ({ kind, name, namespace = flags.namespace }) =>
    name === undefined ? refsOfKind(client, kind, flags) : [refOf(kind, name, namespace)],
  )
  return (await Promise.all(refs)).flat()
}

function checkSelection(targets: readonly Target[], flags: TargetFlags): void {
  const selected = flags.selector !== undefined || flags.fieldSelector !== undefined
  const named = targets.some((target) => target.name !== undefined)
  if (named && (flags.all === true || selected))
    throw new CliError(
      selected
        ? 'name cannot be provided when a selector is specified'
        : 'setting --all with names makes no sense: give names, or --all',
    )
  if (flags.all === true && flags.selector !== undefined)
    throw new CliError('setting both --all and a selector makes no sense: give one of them')
  if (flags.all !== true && !selected && targets.some((target) => target.name === undefined))
    throw new CliError('resource(s) were provided, but no name was specified; use --all for all of them')
}

/** All of the kind that the selectors pick. */
export async function refsOfKind(client: Client, kind: KindName, flags: TargetFlags): Promise<readonly ObjectRef[]> {
  const { namespace } = refOf(kind, '', flags.namespace)
  const { items } = await client.list({
    kind,
    ...(namespace === '' ? {} : { namespace }),
    ...(flags.selector === undefined ? {} : { labelSelector: flags.selector }),
    ...(flags.fieldSelector === undefined ? {} : { fieldSelector: flags.fieldSelector }),
  })
  return items.map((item) => refOf(kind, item.metadata.name, item.metadata.namespace))
}
