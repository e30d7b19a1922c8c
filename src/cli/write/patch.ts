/** `mctl patch`: a JSON merge patch or a JSON patch, in JSON or YAML. */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { parse } from 'yaml'
import { messageOf } from '../../lib/errors.ts'
import type { Define } from '../commandform.ts'
import { examples, namespaceOption, serverOption } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError } from '../context.ts'
import type { MutateFlags } from './mutate.ts'
import { addFiles, addWriting, mutate } from './mutate.ts'

interface PatchFlags extends MutateFlags {
  readonly patch?: string
  readonly patchFile?: string
  readonly type: string
}

export const definePatch: Define = (command, cli, done) => {
  command
    .argument('[words...]')
    .usage('(TYPE NAME | TYPE/NAME | -f FILE) (-p PATCH | --patch-file FILE) [options]')
    .addOption(serverOption())
    .addOption(namespaceOption())
    .option('-p, --patch <patch>', 'the patch, in JSON or YAML')
    .option('--patch-file <file>', 'a file with the patch')
    .option('--type <merge|json>', 'merge: maps are merged, all else replaced; json: a list of operations', 'merge')
  addFiles(addWriting(command))
    .addHelpText(
      'after',
      examples(
        'mctl patch node mini-1 -p \'{"spec":{"systemReserve":"5Gi"}}\'',
        'mctl patch node mini-1 --type=json -p \'[{"op":"remove","path":"/spec/systemReserve"}]\'',
      ),
    )
    .action(async (words: string[], flags: PatchFlags) => done(await patch(cli, words, flags)))
}

async function patch(cli: Cli, words: readonly string[], flags: PatchFlags): Promise<number> {
  const { type } = flags
  if (type === 'strategic')
    throw new CliError(
      'a strategic merge patch is not supported: use --type=merge, in which a list replaces the whole list',
    )
  if (type !== 'merge' && type !== 'json') throw new CliError(`--type must be one of [json merge], not "${type}"`)
  const content = patchOf(cli, flags)
  return mutate(cli, 'patch', words, flags, () => ({
    type,
    patch: content,
    sentence: (changed) => (changed ? 'patched' : 'patched (no change)'),
  }))
}

function patchOf(cli: Cli, { patch, patchFile }: PatchFlags): unknown {
  if ((patch === undefined) === (patchFile === undefined))
    throw new CliError('must specify --patch or --patch-file, and only one of them')
  const text = patch ?? read(cli, patchFile ?? '')
  try {
    const content: unknown = parse(text)
    if (typeof content === 'object' && content !== null) return content
  } catch (error) {
    throw new CliError(`unable to parse the patch: ${messageOf(error).split('\n')[0] ?? ''}`)
  }
  throw new CliError(`unable to parse the patch: it must be a map or a list, not ${JSON.stringify(text)}`)
}

function read(cli: Cli, path: string): string {
  try {
    return readFileSync(resolve(cli.cwd, path), 'utf8')
  } catch (error) {
    throw new CliError(`unable to read patch file: ${messageOf(error)}`)
  }
}
