/**
 * What people are told to type can be typed: every `mctl …` of the documents, of the comments and messages of the program
 * and of its examples names a command that there is, with flags that it has.
 */
import { readFileSync, readdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { Command, CommanderError } from 'commander'
import { expect, test } from 'vitest'
import { catalog } from '../../src/cli/catalog.ts'
import { followContext } from '../../src/cli/config/current.ts'
import type { Cli } from '../../src/cli/context.ts'

const root = resolve(import.meta.dirname, '../..')
const textOf = (path: string) => readFileSync(join(root, path), 'utf8')
const filesBelow = (dir: string, name: RegExp) =>
  readdirSync(join(root, dir), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && name.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))

interface Told {
  readonly where: string
  readonly words: readonly string[]
  /** A line of a block, to be typed as it stands; else a mention, which may leave out what everybody knows. */
  readonly whole: boolean
}

/** Up to where the shell begins something else; `…` stands for what is left out. */
const wordsOf = (line: string): readonly string[] => {
  const [command = ''] = line.split(/\s+#\s|\s*(?:[|;>]|&&|&$|& )\s*|…| · /)
  return (command.match(/"[^"]*"|'[^']*'|[^\s]+/g) ?? []).map((word) => word.replace(/^["']|["'\\]$/g, ''))
}

const told = (where: string, line: string, whole: boolean): Told => ({ where, words: wordsOf(line), whole })

/** `mctl …` in backticks; in TypeScript the backticks of a template are escaped, and `${…}` stands for a word. */
function mentionsIn(path: string, text: string): readonly Told[] {
  const plain = text.replace(/\$\{[^}]*\}/g, 'X').replace(/Not built: `[^`]*`/g, '')
  return [...plain.matchAll(/\\?`(?:npx )?mctl ([^`\\\n]+)/g)].map((match) => told(path, match[1] ?? '', false))
}

/** Lines of fenced and indented blocks whose first word, after assignments, npx and sudo, is mctl. */
function linesIn(path: string, text: string): readonly Told[] {
  let fence: string | undefined
  return text.split('\n').flatMap((line, index) => {
    const [, language] = /^```(\w*)$/.exec(line) ?? []
    if (language !== undefined) {
      fence = fence === undefined ? language : undefined
      return []
    }
    const typed = fence === 'sh' ? line : fence === undefined ? /^ {4}(\S.*)$/.exec(line)?.[1] : undefined
    const [, command] = /^(?:export |KEY=\$\()?(?:[A-Z_]+=\S*\s+|sudo -E |npx )*mctl (.*)$/.exec(typed ?? '') ?? []
    return command === undefined ? [] : [told(`${path}:${index + 1}`, command.replace(/\)$/, ''), true)]
  })
}

const documents = ['README.md', 'CHANGELOG.md', ...filesBelow('docs', /\.md$/), ...filesBelow('manifests', /\.md$/)]
const sources = ['src', 'agent'].flatMap((dir) => filesBelow(dir, /\.(ts|mjs)$/))
const schemas = filesBelow('schemas', /\.json$/)

const programs = new Map<string, Command>()
async function commandOf(name: string): Promise<Command | undefined> {
  const known = programs.get(name)
  if (known !== undefined) return known
  const entry = catalog.find((one) => one.name === name)
  if (entry === undefined) return undefined
  const silent = { writeOut: () => {}, writeErr: () => {}, outputError: () => {} }
  const command = new Command('mctl').exitOverride().configureOutput(silent).command(name)
  // To define is not to run: nothing of it is called.
  ;(await entry.load())(command, { env: {} } as Cli, () => {})
  followContext(command, { env: {} } as Cli)
  programs.set(name, command)
  return command
}

/** What would be said of it; undefined: it can be typed. */
async function objectionTo({ words, whole }: Told): Promise<string | undefined> {
  const [name = '', ...rest] = words
  if (name === '' || name === 'help' || name.startsWith('-')) return undefined
  const top = await commandOf(name.replace(/[.,]$/, ''))
  if (top === undefined) return /^[A-Z]|^X$/.test(name) ? undefined : `there is no command "${name}"`
  let command = top
  let left = rest
  while (command.commands.length > 0 && left[0] !== undefined && !left[0].startsWith('-')) {
    // `backup|restore` names two; a placeholder names any.
    const names = left[0].split('|')
    const below = command.commands.find((one) => names.includes(one.name()))
    if (below === undefined) {
      if (command.registeredArguments.length > 0 || /^[A-Z]/.test(left[0])) break
      return `"${name}" has no "${left[0]}"`
    }
    command = below
    left = left.slice(1)
  }
  try {
    const { operands, unknown } = command.parseOptions([...left])
    if (unknown.length > 0) return `"${command.name()}" does not know ${unknown[0]}`
    const { registeredArguments: wanted } = command
    const isTooMuch = operands.length > wanted.length && wanted.at(-1)?.variadic !== true
    if (whole && isTooMuch) return `"${command.name()}" takes no ${operands.at(-1)}`
    if (whole && operands.length < wanted.filter(({ required }) => required).length)
      return `"${command.name()}" lacks an argument`
    return undefined
  } catch (error) {
    // `mctl apply -f` in a sentence is enough said.
    if (!(error instanceof CommanderError)) throw error
    return !whole && error.code === 'commander.optionMissingArgument' ? undefined : error.message
  }
}

const objectionsTo = async (all: readonly Told[]) => {
  const objections: string[] = []
  for (const one of all) {
    const objection = await objectionTo(one)
    if (objection !== undefined) objections.push(`${one.where}: mctl ${one.words.join(' ')}: ${objection}`)
  }
  return objections
}

test('what the documents tell people to type can be typed', async () => {
  const lines = documents.flatMap((path) => linesIn(path, textOf(path)))
  const mentions = documents.flatMap((path) => mentionsIn(path, textOf(path)))
  expect(lines.length).toBeGreaterThan(15)
  expect(mentions.length).toBeGreaterThan(100)
  expect(await objectionsTo([...lines, ...mentions])).toEqual([])
})

test('so can what the program says', async () => {
  const mentions = [...sources, ...schemas].flatMap((path) => mentionsIn(path, textOf(path)))
  expect(mentions.length).toBeGreaterThan(100)
  expect(await objectionsTo(mentions)).toEqual([])
})

test.each([
  ['get nodes --colour', '"get" does not know --colour'],
  ['gett nodes', 'there is no command "gett"'],
  ['user rename ann', '"user" has no "rename"'],
  ['user create', '"create" lacks an argument'],
  ['config use-context a b', '"use-context" takes no b'],
  ['scale md/x --replicas', "error: option '--replicas <count>' argument missing"],
])('mctl %s is found out', async (line, objection) => {
  expect(await objectionTo(told('here', line, true))).toBe(objection)
})
