/**
 * kubectl's JSONPath templates: `{range .items[*]}{.metadata.name}{"\n"}{end}`. The paths are json-p3's (RFC 9535);
 * here stand the template around them and kubectl's looser way of writing a path.
 */
import { JSONPathError, jsonpath } from 'json-p3'
import type { JSONPathQuery, JSONValue } from 'json-p3'
import { CliError } from '../context.ts'

type Part =
  | { readonly part: 'Text'; readonly text: string }
  | { readonly part: 'Path'; readonly path: Path }
  | { readonly part: 'Range'; readonly path: Path; readonly body: readonly Part[] }

/** A compiled path; `fromRoot` paths begin with `$` and look at the whole object wherever they stand. */
interface Path {
  readonly query: JSONPathQuery
  readonly fromRoot: boolean
}

/** The template as a function from an object to text; CliError when it cannot be understood. A missing field is empty. */
export function jsonPathTemplate(template: string): (value: unknown) => string {
  const parts = new TemplateReader(isBarePath(template) ? `{${template}}` : template).read()
  return (value) => textOfParts(parts, value as JSONValue, value as JSONValue)
}

/** A path as flags such as --sort-by take it, `{.metadata.name}` or `.metadata.name` or `metadata.name`: all values that it finds. */
export function fieldPath(text: string): (value: unknown) => readonly unknown[] {
  const bare = /^\{(.*)\}$/s.exec(text.trim())?.[1] ?? text.trim()
  const { query } = compilePath(/^[.$@[]/.test(bare) ? bare : `.${bare}`)
  return (value) => query.query(value as JSONValue).values()
}

const isBarePath = (template: string): boolean => /^[.$@[]/.test(template) && !template.includes('{')

function textOfParts(parts: readonly Part[], value: JSONValue, root: JSONValue): string {
  return parts
    .map((part) => {
      if (part.part === 'Text') return part.text
      const found = part.path.query.query(part.path.fromRoot ? root : value).values()
      if (part.part === 'Path') return found.map(valueText).join(' ')
      return found.map((item) => textOfParts(part.body, item, root)).join('')
    })
    .join('')
}

/** Texts as they are, everything else as JSON. */
export const valueText = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value))

class TemplateReader {
  readonly #template: string
  #at = 0

  constructor(template: string) {
    this.#template = template
  }

  read(): readonly Part[] {
    const { parts, ended } = this.#parts()
    if (ended) throw fault(this.#template, 'there is an {end} without a {range}')
    return parts
  }

  #parts(): { readonly parts: readonly Part[]; readonly ended: boolean } {
    const parts: Part[] = []
    while (this.#at < this.#template.length) {
      const open = this.#template.indexOf('{', this.#at)
      const text = this.#template.slice(this.#at, open < 0 ? undefined : open)
      if (text !== '') parts.push({ part: 'Text', text })
      if (open < 0) break
      this.#at = open + 1
      const action = this.#action()
      if (action === 'end') return { parts, ended: true }
      if (action.startsWith('range ')) parts.push(this.#range(action.slice('range '.length).trim()))
      else parts.push(...actionParts(action))
    }
    this.#at = this.#template.length
    return { parts, ended: false }
  }

  #range(path: string): Part {
    const { parts, ended } = this.#parts()
    if (!ended) throw fault(this.#template, 'there is a {range} without an {end}')
    return { part: 'Range', path: compilePath(path), body: parts }
  }

  /** What stands between braces; a brace within quotes is none. */
  #action(): string {
    const match = /(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[^{}"'])*\}/sy
    match.lastIndex = this.#at
    const found = match.exec(this.#template)?.[0]
    if (found === undefined) throw fault(this.#template, 'there is a { without its }')
    this.#at += found.length
    return found.slice(0, -1).trim()
  }
}

/** A text in quotes, or a path, or several of them one after the other. */
function actionParts(action: string): readonly Part[] {
  const text = /^(?:"((?:\\.|[^"\\])*)"|'((?:\\.|[^'\\])*)')$/s.exec(action)
  if (text !== null) return [{ part: 'Text', text: unescaped(text[1] ?? text[2] ?? '') }]
  return action === '' ? [] : [{ part: 'Path', path: compilePath(action) }]
}

const escapes: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r' }
const unescaped = (text: string): string => text.replace(/\\(.)/gs, (_, char: string) => escapes[char] ?? char)

function compilePath(text: string): Path {
  const fromRoot = text.startsWith('$')
  try {
    return { query: jsonpath.compile(`$${standardPath(text.replace(/^[$@]/, ''))}`), fromRoot }
  } catch (error) {
    if (error instanceof JSONPathError) throw fault(text, error.message)
    throw error
  }
}

/** `.metadata.labels.a\.b/c` → `['metadata']['labels']['a.b/c']`, in filters, too. What stands in quotes stays. */
export function standardPath(path: string): string {
  let depth = 0
  return path.replace(
    /"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\.\.(?=[[*])|\.\.?((?:\\.|[^\s.[\](){}"'=<>!&|,*?@$~\\])+)|\.\*|[[\]]/gs,
    (token, name: string | undefined) => {
      if (token === '[') depth++
      if (token === ']') depth--
      // A number within brackets, such as the 5 of `[?(@.x > 1.5)]`.
      if (name !== undefined && depth > 0 && /^\.\d/.test(token)) return token
      if (token === '.*') return '[*]'
      if (name === undefined) return token
      return `${token.startsWith('..') ? '..' : ''}['${name.replace(/\\(.)/gs, '$1').replace(/['\\]/g, '\\$&')}']`
    },
  )
}

const fault = (text: string, why: string): CliError => new CliError(`error parsing jsonpath ${text}, ${why}`)
