/**
 * Text in, manifests out, with the line of every field. Nothing here trusts the text: size, depth and aliases are bounded
 * before it is composed, and what would change its meaning silently (duplicate keys, odd numbers, odd keys) is a cause.
 */
import type { CST, Document } from 'yaml'
import { Composer, isMap, isScalar, isSeq, LineCounter, Parser } from 'yaml'
import type { Cause } from '../lib/errors.ts'
import { isKindName } from './kinds.ts'
import type { Manifest } from './meta.ts'
import { checkHead } from './validate.ts'
import { offsetOf, placeOf, readNode } from './yamlnode.ts'
import { tokenFault } from './yamltokens.ts'

/** Largest text of one object, in bytes. */
export const MAX_OBJECT_BYTES = 1_500_000
/** A file must be smaller than this, in bytes. */
export const MAX_FILE_BYTES = 10_000_000
const MAX_LINES = 500_000
const MAX_CAUSES = 100

export interface LocatedManifest {
  readonly manifest: Manifest
  readonly file: string
  /** Line of its first field, from 1. */
  readonly line: number
  /** Line of a field such as `spec.split[1]`, or of the nearest field around it that stands in the file. */
  readonly lineOf: (path: string) => number
}

export interface ParsedFile {
  /** apiVersion and kind are known ones; everything else is for `validate` to judge. */
  readonly manifests: readonly LocatedManifest[]
  readonly causes: readonly Cause[]
}

/** Every document of the file (YAML or JSON; `kind: List` is taken apart; empty documents are skipped), and every cause against it. */
export function parseManifests(text: string | Uint8Array, file: string): ParsedFile {
  const refused = (line: number, message: string): ParsedFile => ({
    manifests: [],
    causes: [{ field: '', message, where: `${file}:${line}` }],
  })
  const bytes = typeof text === 'string' ? Buffer.byteLength(text) : text.byteLength
  if (bytes >= MAX_FILE_BYTES)
    return refused(
      1,
      `the file is too large: ${bytes} bytes, must be less than ${MAX_FILE_BYTES}; split it into several`,
    )
  const decoded = decode(text)
  if (typeof decoded !== 'string') return refused(decoded.line, 'the file is not UTF-8 text')
  return new FileReader(decoded, file).read()
}

/** The causes with the line of the very field that each is about. */
export const locate = (causes: readonly Cause[], parsed: LocatedManifest): Cause[] =>
  causes.map((cause) => ({ ...cause, where: `${parsed.file}:${parsed.lineOf(cause.field)}` }))

function decode(text: string | Uint8Array): string | { readonly line: number } {
  if (typeof text === 'string') return text.startsWith('\uFEFF') ? text.slice(1) : text
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(text)
  } catch {
    return { line: firstBadLine(text) }
  }
}

/** A line feed is never part of another character in UTF-8, so each line can be looked at alone. */
function firstBadLine(bytes: Uint8Array): number {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  let line = 1
  for (let start = 0; start < bytes.length; line++) {
    const feed = bytes.indexOf(0x0a, start)
    const end = feed < 0 ? bytes.length : feed + 1
    try {
      decoder.decode(bytes.subarray(start, end))
    } catch {
      return line
    }
    start = end
  }
  return line
}

/** One pass over one text; collects manifests and causes. */
class FileReader {
  readonly #text: string
  readonly #file: string
  readonly #lines = new LineCounter()
  readonly #manifests: LocatedManifest[] = []
  readonly #causes: Cause[] = []

  constructor(text: string, file: string) {
    this.#text = text
    this.#file = file
  }

  read(): ParsedFile {
    for (const document of this.#compose()) this.#readDocument(document)
    if (this.#causes.length === 0 && this.#manifests.length === 0) this.#blame(0, '', 'the file holds no objects')
    return { manifests: this.#manifests, causes: this.#causes.slice(0, MAX_CAUSES) }
  }

  #compose(): Iterable<Document.Parsed> {
    if (countLines(this.#text) > MAX_LINES) {
      this.#blame(0, '', `the file has too many lines: must be at most ${MAX_LINES}`)
      return []
    }
    const tokens: CST.Token[] = [...new Parser(this.#lines.addNewLine).parse(this.#text)]
    const fault = tokenFault(tokens)
    if (fault !== undefined) {
      this.#blame(fault.offset, '', fault.message)
      return []
    }
    // Duplicate keys are found in yamlnode.ts: the library's own check takes a time that is quadratic in the keys.
    return new Composer({ prettyErrors: false, uniqueKeys: false, intAsBigInt: true, merge: false }).compose(tokens)
  }

  #readDocument(document: Document.Parsed): void {
    const faults = [...document.errors, ...document.warnings]
    for (const fault of faults) this.#blame(fault.pos[0], '', fault.message)
    const { contents } = document
    if (faults.length > 0 || contents === null || (isScalar(contents) && contents.value === null)) return
    const kind = isMap(contents) ? contents.get('kind') : undefined
    if (typeof kind === 'string' && isListKind(kind)) this.#readList(contents)
    else this.#readObject(contents, '')
  }

  /** `kind: List`, or one of a kind such as ModelDeploymentList: each item counts as a document of its own. */
  #readList(list: unknown): void {
    const items: unknown = isMap(list) ? list.get('items', true) : undefined
    if (!isSeq(items))
      return this.#blame(offsetOf(list) ?? 0, '', 'items: Required value: a List must hold a list of items')
    for (const [index, item] of items.items.entries()) this.#readObject(item, `items[${index}]`)
  }

  #readObject(node: unknown, field: string): void {
    const offset = offsetOf(node) ?? 0
    const bytes = this.#bytesOf(node)
    if (bytes > MAX_OBJECT_BYTES)
      return this.#blame(
        offset,
        field,
        `the object is too large: ${bytes} bytes, must have at most ${MAX_OBJECT_BYTES}`,
      )
    let broken = false
    const value = readNode(node as Parameters<typeof readNode>[0], '', (at, cause, kept) => {
      broken ||= !kept
      this.#blame(at, cause.field, cause.message)
    })
    const lineOf = (path: string) => this.#lineAt(offsetOf(placeOf(node, path)) ?? offset)
    const head = checkHead(value)
    for (const cause of head)
      this.#causes.push({
        field: join(field, cause.field),
        message: cause.message,
        where: `${this.#file}:${lineOf(cause.field)}`,
      })
    if (broken || head.length > 0) return
    this.#manifests.push({ manifest: value as Manifest, file: this.#file, line: this.#lineAt(offset), lineOf })
  }

  #bytesOf(node: unknown): number {
    const range = (node as { range?: readonly number[] | null } | null)?.range
    return range === undefined || range === null ? 0 : Buffer.byteLength(this.#text.slice(range[0], range[1]))
  }

  readonly #lineAt = (offset: number): number => Math.max(1, this.#lines.linePos(offset).line)

  #blame(offset: number, field: string, message: string): void {
    this.#causes.push({ field, message, where: `${this.#file}:${this.#lineAt(offset)}` })
  }
}

const isListKind = (kind: string): boolean =>
  kind === 'List' || (kind.endsWith('List') && isKindName(kind.slice(0, -'List'.length)))

const join = (outer: string, inner: string): string =>
  outer === '' || inner === '' ? outer + inner : `${outer}.${inner}`

function countLines(text: string): number {
  let lines = 1
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) lines++
  return lines
}
