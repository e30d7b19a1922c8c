/** `mctl label`: sets and removes labels. */
import type { Define } from '../commandform.ts'
import { examples, namespaceOption, serverOption } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError, withClient } from '../context.ts'
import { refsOf } from '../targets.ts'
import type { Change, MutateFlags } from './mutate.ts'
import { addFiles, addSelection, addWriting, mutate } from './mutate.ts'
import type { PairChanges } from './pairs.ts'
import { clashes, pairChanges, pairPatch, partWords } from './pairs.ts'
import { qualifiedName } from '../../api/kinds.ts'
import type { MctlObject } from '../../api/meta.ts'

interface LabelFlags extends MutateFlags {
  readonly overwrite?: boolean
  readonly list?: boolean
}

export const defineLabel: Define = (command, cli, done) => {
  command
    .argument('[words...]')
    .usage('(TYPE NAME... | TYPE/NAME... | -f FILE) KEY=VALUE... KEY-... [options]')
    .addOption(serverOption())
    .addOption(namespaceOption())
    .option('--overwrite', 'labels that have another value get the new one')
    .option('--list', 'print the labels')
  addFiles(addWriting(addSelection(command)))
    .addHelpText(
      'after',
      examples('mctl label node mini-1 rack=left', 'mctl label node mini-1 rack-', 'mctl label nodes --all --list'),
    )
    .action(async (words: string[], flags: LabelFlags) => done(await label(cli, words, flags)))
}

async function label(cli: Cli, words: readonly string[], flags: LabelFlags): Promise<number> {
  const { objects, changes } = partWords(words)
  if (flags.list && changes.length === 0) return list(cli, objects, flags)
  if (changes.length === 0)
    throw new CliError('at least one label update is required: KEY=VALUE sets a label, KEY- removes it')
  const pairs = pairChanges(changes, 'label')
  return mutate(cli, 'label', objects, flags, (object) => labelChange(cli, object, pairs, flags.overwrite === true))
}

function labelChange(cli: Cli, { metadata }: MctlObject, pairs: PairChanges, overwrite: boolean): Change {
  const labels = metadata.labels ?? {}
  const clash = clashes(labels, pairs)[0]
  if (clash !== undefined && !overwrite)
    throw new CliError(`'${clash}' already has a value (${labels[clash] ?? ''}), and --overwrite is false`)
  for (const key of pairs.removed) if (labels[key] === undefined) cli.terminal.err(`label "${key}" not found.\n`)
  const patch = pairPatch(labels, pairs)
  const verb = pairs.set.size === 0 ? 'unlabeled' : 'labeled'
  return {
    type: 'merge',
    ...(patch === undefined ? {} : { patch: { metadata: { labels: patch } } }),
    sentence: (changed) => (changed ? verb : 'not labeled'),
  }
}

async function list(cli: Cli, words: readonly string[], flags: LabelFlags): Promise<number> {
  return withClient(cli, flags.server, async (client) => {
    const refs = await refsOf(cli, client, words, 'label', flags)
    for (const ref of refs) {
      const { object } = await client.get({ ref })
      if (refs.length > 1) cli.terminal.out(`Listing labels for ${qualifiedName(ref.kind, ref.name)}:\n`)
      const labels = Object.entries(object.metadata.labels ?? {}).sort(([a], [b]) => (a < b ? -1 : 1))
      cli.terminal.out(labels.map(([key, value]) => `${refs.length > 1 ? ' ' : ''}${key}=${value}\n`).join(''))
    }
    return 0
  })
}
