/** `mctl annotate`: sets and removes annotations. */
import type { Define } from '../commandform.ts'
import { examples, namespaceOption, serverOption } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError } from '../context.ts'
import type { MutateFlags } from './mutate.ts'
import { addFiles, addSelection, addWriting, mutate } from './mutate.ts'
import { clashes, pairChanges, pairPatch, partWords } from './pairs.ts'

interface AnnotateFlags extends MutateFlags {
  readonly overwrite?: boolean
}

export const defineAnnotate: Define = (command, cli, done) => {
  command
    .argument('[words...]')
    .usage('(TYPE NAME... | TYPE/NAME... | -f FILE) KEY=VALUE... KEY-... [options]')
    .addOption(serverOption())
    .addOption(namespaceOption())
    .option('--overwrite', 'annotations that have another value get the new one')
  addFiles(addWriting(addSelection(command)))
    .addHelpText('after', examples('mctl annotate node mini-1 note="fan is loud"', 'mctl annotate node mini-1 note-'))
    .action(async (words: string[], flags: AnnotateFlags) => done(await annotate(cli, words, flags)))
}

async function annotate(cli: Cli, words: readonly string[], flags: AnnotateFlags): Promise<number> {
  const { objects, changes } = partWords(words)
  if (changes.length === 0)
    throw new CliError('at least one annotation update is required: KEY=VALUE sets an annotation, KEY- removes it')
  const pairs = pairChanges(changes, 'annotation')
  return mutate(cli, 'annotate', objects, flags, ({ metadata }) => {
    const annotations = metadata.annotations ?? {}
    const found = clashes(annotations, pairs).map((key) => `'${key}' already has a value (${annotations[key] ?? ''})`)
    if (found.length > 0 && flags.overwrite !== true)
      throw new CliError(`--overwrite is false but found the following declared annotation(s): ${found.join('; ')}`)
    const patch = pairPatch(annotations, pairs)
    return {
      type: 'merge',
      ...(patch === undefined ? {} : { patch: { metadata: { annotations: patch } } }),
      sentence: () => 'annotated',
    }
  })
}
