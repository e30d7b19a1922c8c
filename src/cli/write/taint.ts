/** `mctl taint node NAME KEY=VALUE:NoSchedule`: keeps new groups off a node that do not tolerate it. */
import type { MctlObject } from '../../api/meta.ts'
import type { Node, Taint } from '../../api/node.ts'
import type { Define } from '../commandform.ts'
import { examples, serverOption } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError } from '../context.ts'
import { targetsOf } from '../targets.ts'
import type { Change, MutateFlags } from './mutate.ts'
import { addWriting, mutate } from './mutate.ts'

interface TaintFlags extends MutateFlags {
  readonly overwrite?: boolean
}

export const defineTaint: Define = (command, cli, done) => {
  command
    .argument('[words...]')
    .usage('NODE NAME... KEY[=VALUE]:NoSchedule... KEY[:NoSchedule]-... [options]')
    .addOption(serverOption())
    .option('--overwrite', 'a taint of the same key and effect gets the new value')
    .option('--all', 'all nodes')
    .option('-l, --selector <labels>', 'only nodes with these labels')
  addWriting(command)
    .addHelpText(
      'after',
      examples('mctl taint node mini-1 dedicated=lab:NoSchedule', 'mctl taint node mini-1 dedicated:NoSchedule-'),
    )
    .action(async (words: string[], flags: TaintFlags) => done(await taint(cli, words, flags)))
}

interface TaintChanges {
  readonly added: readonly Taint[]
  /** Absent effect: all effects of the key. */
  readonly removed: readonly { readonly key: string; readonly effect?: string }[]
}

async function taint(cli: Cli, words: readonly string[], flags: TaintFlags): Promise<number> {
  const isSpec = (word: string) => word.endsWith('-') || /[=:]/.test(word)
  const first = words.findIndex(isSpec)
  const nodes = first < 0 ? words : words.slice(0, first)
  if (first < 0)
    throw new CliError('at least one taint update is required: KEY=VALUE:NoSchedule sets a taint, KEY- removes it')
  const other = targetsOf(nodes, 'taint').find(({ kind }) => kind !== 'Node')
  if (other !== undefined)
    throw new CliError(`invalid resource type ${other.kind.toLowerCase()}, only [node nodes no] is allowed`)
  const changes = parse(words.slice(first))
  return mutate(cli, 'taint', nodes, flags, (object) => taintChange(object, changes, flags.overwrite === true))
}

function parse(words: readonly string[]): TaintChanges {
  const added: Taint[] = []
  const removed: { key: string; effect?: string }[] = []
  for (const word of words) {
    const [, key = '', value, effect, minus] = /^([^=:]+?)(?:=([^:]*))?(?::([^-]*))?(-)?$/.exec(word) ?? []
    if (key === '')
      throw new CliError(`invalid taint spec: ${word}; use KEY[=VALUE]:NoSchedule, or KEY[:NoSchedule]- to remove it`)
    if (effect !== undefined && effect !== 'NoSchedule')
      throw new CliError(`invalid taint spec: ${word}, unsupported taint effect: mctl knows NoSchedule`)
    if (minus !== undefined) removed.push({ key, ...(effect === undefined ? {} : { effect }) })
    else if (effect === undefined)
      throw new CliError(`invalid taint spec: ${word}, must have an effect: ${word}:NoSchedule`)
    else added.push({ key, ...(value === undefined || value === '' ? {} : { value }), effect })
  }
  return { added, removed }
}

function taintChange(object: MctlObject, { added, removed }: TaintChanges, overwrite: boolean): Change {
  const { spec, metadata } = object as Node
  const same = (a: Taint, b: { key: string; effect?: string }) =>
    a.key === b.key && (b.effect === undefined || a.effect === b.effect)
  const clash = added.find((one) => spec.taints.some((old) => same(old, one) && old.value !== one.value))
  if (clash !== undefined && !overwrite)
    throw new CliError(
      `node ${metadata.name} already has ${clash.key} taint(s) with same effect(s) and --overwrite is false`,
    )
  const missing = removed.find((one) => !spec.taints.some((old) => same(old, one)))
  if (missing !== undefined)
    throw new CliError(`taint "${missing.key}${missing.effect === undefined ? '' : `:${missing.effect}`}" not found`)
  const kept = spec.taints.filter((old) => ![...removed, ...added].some((one) => same(old, one)))
  const taints = [...kept, ...added]
  return {
    type: 'merge',
    // A list is replaced whole: never over a taint that somebody else has just set.
    asRead: true,
    ...(JSON.stringify(taints) === JSON.stringify(spec.taints) ? {} : { patch: { spec: { taints } } }),
    sentence: (changed) => (!changed ? 'not tainted' : added.length > 0 ? 'tainted' : 'untainted'),
  }
}
