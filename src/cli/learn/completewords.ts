/** What may come next on a command line: commands, flags, types, names of objects. One a line, its meaning behind a tab. */
import { Command } from 'commander'
import { findKind, kinds } from '../../api/kinds.ts'
import type { KindName } from '../../api/kinds.ts'
import { catalog } from '../catalog.ts'
import type { Define } from '../commandform.ts'
import { contextOf, followContext } from '../config/current.ts'
import { configPath, readConfig } from '../config/file.ts'
import type { Cli } from '../context.ts'
import { withClient } from '../context.ts'
import { selectionOf } from '../get/flags.ts'

/** A shell does not wait for a server that does not answer. */
const PATIENCE_MS = 1500
const FILES = ':files'

export const defineCompleteWords: Define = (command, cli, done) => {
  command.argument('[words...]').action(async (words: string[]) => {
    const found = await completions(cli, words)
    cli.terminal.out(found.map((one) => `${one}\n`).join(''))
    done(0)
  })
}

/** The words so far without `mctl`; the last one is the one that is being typed. `:files` leaves it to the shell. */
export async function completions(cli: Cli, words: readonly string[]): Promise<readonly string[]> {
  const typed = words.at(-1) ?? ''
  const before = words.slice(0, -1)
  const [name, ...given] = before
  const startsSo = (one: string) => one.startsWith(typed)
  if (name === undefined)
    return catalog
      .filter((entry) => entry.hidden !== true && startsSo(entry.name))
      .map((entry) => `${entry.name}\t${entry.summary}`)
  const entry = catalog.find((one) => one.name === name)
  if (entry === undefined) return []
  let command = new Command(name)
  ;(await entry.load())(command, cli, () => {})
  followContext(command, cli)
  const rest = [...given]
  for (let below = subOf(command, rest[0]); below !== undefined; below = subOf(command, rest[0])) {
    command = below
    rest.shift()
  }
  const last = rest.at(-1)
  const open =
    last === undefined
      ? undefined
      : command.options.find(({ short, long, required }) => required && (short === last || long === last))
  if (open !== undefined) return valueOf(cli, open.attributeName(), typed, rest)
  if (typed.startsWith('-'))
    return command.options.flatMap(({ long, description, hidden }) =>
      long && !hidden && startsSo(long) ? [`${long}\t${description}`] : [],
    )
  if (command.commands.length > 0)
    return command.commands.filter((sub) => startsSo(sub.name())).map((sub) => `${sub.name()}\t${sub.description()}`)
  return objectWords(cli, name, plainWords(command, rest), typed, rest)
}

const subOf = (command: Command, word: string | undefined) => command.commands.find((sub) => sub.name() === word)

/** Without flags and their values. */
function plainWords(command: Command, words: readonly string[]): readonly string[] {
  const plain: string[] = []
  for (let i = 0; i < words.length; i++) {
    const word = words[i] ?? ''
    if (!word.startsWith('-')) plain.push(word)
    else if (command.options.some((o) => o.required && (o.short === word || o.long === word))) i++
  }
  return plain
}

async function valueOf(cli: Cli, option: string, typed: string, words: readonly string[]): Promise<readonly string[]> {
  if (['filename', 'nodes', 'patchFile', 'dataDir', 'modelsDir'].includes(option)) return [FILES]
  if (option === 'context')
    return readConfig(configPath(cli.env)).contexts.flatMap(({ name }) => (name.startsWith(typed) ? [name] : []))
  if (option === 'output')
    return ['wide', 'yaml', 'json', 'name', 'jsonpath=', 'custom-columns='].filter((o) => o.startsWith(typed))
  if (option === 'dryRun') return ['none', 'client', 'server'].filter((o) => o.startsWith(typed))
  if (option === 'for' && typed.includes('/')) return slashNames(cli, typed, words)
  return []
}

const nodeCommands = ['cordon', 'uncordon', 'drain']
const objectCommands = [
  'get',
  'describe',
  'delete',
  'edit',
  'patch',
  'label',
  'annotate',
  'taint',
  'wait',
  'logs',
  'scale',
  'events',
]

async function objectWords(
  cli: Cli,
  name: string,
  plain: readonly string[],
  typed: string,
  words: readonly string[],
): Promise<readonly string[]> {
  if (nodeCommands.includes(name)) return namesOf(cli, 'Node', typed, words)
  if (name === 'completion') return ['bash', 'zsh', 'fish'].filter((shell) => shell.startsWith(typed))
  if (name === 'explain') return typesWith(typed)
  if (!objectCommands.includes(name)) return []
  if (typed.includes('/')) return slashNames(cli, typed, words)
  const kind = findKind((plain[0] ?? '').split(',')[0] ?? '')
  if (kind !== undefined) return namesOf(cli, kind.kind, typed, words)
  if (name === 'logs') return [...typesWith(typed), ...(await namesOf(cli, 'Shard', typed, words))]
  return plain.length === 0 ? typesWith(typed) : []
}

const typesWith = (typed: string): readonly string[] =>
  Object.values(kinds).flatMap(({ plural, kind }) => (plural.startsWith(typed) ? [`${plural}\t${kind}`] : []))

async function slashNames(cli: Cli, typed: string, words: readonly string[]): Promise<readonly string[]> {
  const [type = '', begun = ''] = typed.split('/')
  const kind = findKind(type)
  return kind === undefined ? [] : (await namesOf(cli, kind.kind, begun, words)).map((name) => `${type}/${name}`)
}

/** Names as the server knows them now; none when it does not answer soon. */
async function namesOf(cli: Cli, kind: KindName, typed: string, words: readonly string[]): Promise<readonly string[]> {
  const flag = (...names: readonly string[]) => {
    const at = words.findIndex((word) => names.includes(word))
    return at < 0 ? undefined : words[at + 1]
  }
  try {
    const context = contextOf(cli, flag('--context'))
    const namespace = flag('-n', '--namespace') ?? context?.namespace
    const server = flag('-s', '--server') ?? (cli.env['MCTL_SERVER'] ? undefined : context?.server)
    return await withClient(cli, server, async (client) => {
      const selection = selectionOf(kind, namespace === undefined ? {} : { namespace })
      const { items } = await client.list(selection, { timeoutMs: PATIENCE_MS })
      return items.flatMap(({ metadata }) => (metadata.name.startsWith(typed) ? [metadata.name] : []))
    })
  } catch {
    // A shell has no place to show an error in the midst of a line: nothing is offered.
    return []
  }
}
