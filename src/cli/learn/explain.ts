/** `mctl explain TYPE.field`: what a field means, from the schema files that validate it. */
import type { KindName } from '../../api/kinds.ts'
import { kinds } from '../../api/kinds.ts'
import { API_GROUP, API_VERSION } from '../../api/meta.ts'
import type { JsonSchema } from '../../api/schemas.ts'
import { resolveSchema, schemaOf } from '../../api/schemas.ts'
import type { Define } from '../commandform.ts'
import { examples } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError } from '../context.ts'
import { kindOf } from '../targets.ts'

interface ExplainFlags {
  readonly recursive?: boolean
  readonly maxDepth?: string
  readonly apiVersion?: string
}

export const defineExplain: Define = (command, cli, done) => {
  command
    .argument('<field>')
    .usage('TYPE[.field[.field...]] [options]')
    .option('-R, --recursive', 'all fields below, without their descriptions')
    .option('--max-depth <n>', 'with -R: no deeper than this')
    .option('--api-version <version>', `only ${API_VERSION} is there`)
    .addHelpText(
      'after',
      examples('mctl explain md', 'mctl explain md.spec.parallelism.strategy', 'mctl explain node.spec -R'),
    )
    .action((field: string, flags: ExplainFlags) => done(explain(cli, field, flags)))
}

/** A schema with its references followed, and the file that its own references are in. */
interface Place {
  readonly schema: JsonSchema
  readonly home: JsonSchema
}

function explain(cli: Cli, field: string, flags: ExplainFlags): number {
  if (flags.apiVersion !== undefined && flags.apiVersion !== API_VERSION)
    throw new CliError(`couldn't find resource for "${flags.apiVersion}": there is ${API_VERSION}`)
  const [type = '', ...path] = field.replace(`.${API_GROUP}`, '').split('.')
  const kind = kindOf(type)
  const place = walk(kind, path)
  const blocks = [headOf(kind), ...(path.length > 0 ? [`FIELD: ${path.at(-1) ?? ''} <${typeOf(place)}>`] : [])]
  blocks.push(`DESCRIPTION:\n${indented(textOf(place), 4)}`)
  const below = belowOf(place)
  const fields = flags.recursive === true ? tree(below, 2, depthOf(flags.maxDepth)) : list(below).join('\n')
  if (fields !== '') blocks.push(`FIELDS:\n${fields}`)
  cli.terminal.out(`${blocks.join('\n\n').trimEnd()}\n`)
  return 0
}

const headOf = (kind: KindName): string =>
  `GROUP:      ${API_GROUP}\nKIND:       ${kinds[kind].kind}\nVERSION:    ${API_VERSION.split('/')[1] ?? ''}`

function depthOf(text: string | undefined): number {
  if (text === undefined) return Infinity
  const depth = Number(text)
  if (!Number.isInteger(depth) || depth < 1)
    throw new CliError(`--max-depth must be an integer greater than 0, not "${text}"`)
  return depth
}

function walk(kind: KindName, path: readonly string[]): Place {
  let place = resolveSchema(schemaOf(kind), schemaOf(kind))
  let walked = kinds[kind].singular
  for (const name of path) {
    const below = belowOf(place)
    const next = below.schema.properties?.[name]
    if (next === undefined) {
      const known = Object.keys(below.schema.properties ?? {})
      throw new CliError(
        `field "${name}" does not exist\n${known.length === 0 ? `${walked} has no fields.` : `Fields of ${walked} are ${known.join(', ')}.`}`,
      )
    }
    place = resolveSchema(next, below.home)
    walked += `.${name}`
  }
  return place
}

/** Where fields stand: in the object itself, or in the items of its list. */
function belowOf(place: Place): Place {
  const { items } = place.schema
  return items === undefined ? place : resolveSchema(items, place.home)
}

/** `string`, `[]Object`, `map[string]string`, or the values of an enum's type. */
function typeOf({ schema, home }: Place): string {
  if (schema.items !== undefined) return `[]${typeOf(resolveSchema(schema.items, home))}`
  if (schema.properties !== undefined) return 'Object'
  if (typeof schema.additionalProperties === 'object')
    return `map[string]${typeOf(resolveSchema(schema.additionalProperties, home))}`
  if (schema.type === 'object') return 'Object'
  if (schema.type !== undefined) return typeof schema.type === 'string' ? schema.type : schema.type.join('|')
  const example = schema.const ?? schema.enum?.[0]
  return example === undefined ? 'Object' : typeof example
}

function textOf({ schema }: Place): string {
  const parts = [schema.description ?? '<empty>']
  if (schema.enum !== undefined)
    parts.push(`Possible values: ${schema.enum.map((value) => JSON.stringify(value)).join(', ')}.`)
  const { minimum, maximum } = schema
  if (minimum !== undefined)
    parts.push(`At least ${minimum}${maximum !== undefined && maximum < 2 ** 40 ? `, at most ${maximum}` : ''}.`)
  if (schema.default !== undefined && !isEmpty(schema.default))
    parts.push(`Default: ${JSON.stringify(schema.default)}.`)
  return parts.join('\n')
}

const isEmpty = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && Object.keys(value).length === 0

function fieldsOf({ schema, home }: Place): readonly (readonly [name: string, place: Place, required: boolean])[] {
  return Object.entries(schema.properties ?? {})
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, below]) => [name, resolveSchema(below, home), schema.required?.includes(name) === true])
}

const headLine = (name: string, place: Place, required: boolean): string =>
  `${name}\t<${typeOf(place)}>${required ? ' -required-' : ''}`

const list = (place: Place): readonly string[] =>
  fieldsOf(place).map(
    ([name, below, required]) => `${indented(headLine(name, below, required), 2)}\n${indented(textOf(below), 4)}\n`,
  )

function tree(place: Place, blanks: number, depth: number): string {
  return fieldsOf(place)
    .map(([name, below, required]) => {
      const head = indented(headLine(name, below, required), blanks)
      const inner = depth <= 1 ? '' : tree(belowOf(below), blanks + 2, depth - 1)
      return inner === '' ? head : `${head}\n${inner}`
    })
    .join('\n')
}

const WIDTH = 80

/** Lines of at most 80 characters, all with so many blanks before them. */
function indented(text: string, blanks: number): string {
  return text
    .split('\n')
    .flatMap((line) => wrapped(line, WIDTH - blanks))
    .map((line) => ' '.repeat(blanks) + line)
    .join('\n')
}

function wrapped(line: string, width: number): readonly string[] {
  const lines: string[] = []
  let current = ''
  for (const word of line.split(' ')) {
    if (current !== '' && current.length + 1 + word.length > width) {
      lines.push(current)
      current = word
    } else current = current === '' ? word : `${current} ${word}`
  }
  return [...lines, current]
}
