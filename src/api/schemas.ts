/**
 * The schema files of schemas/v1alpha1, read once, and one compiled validator per kind. The files lie beside `src` in a
 * checkout and beside `dist` when built, so the root is found by its package.json.
 */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type * as ajvModule from 'ajv/dist/2020.js'
import type { Ajv2020, ValidateFunction } from 'ajv/dist/2020.js'
import type { KindName } from './kinds.ts'
import { kindNames } from './kinds.ts'
import type { StandaloneSource } from './standalone.ts'
import { hashOf, loadStandalone, writeStandalone } from './standalone.ts'

/** The part of JSON Schema that the files use; `x-message` and `x-tooLong` put a rule into words. */
export interface JsonSchema {
  readonly $id?: string
  readonly $ref?: string
  readonly $defs?: Readonly<Record<string, JsonSchema>>
  readonly title?: string
  readonly description?: string
  readonly type?: string | readonly string[]
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly required?: readonly string[]
  readonly additionalProperties?: boolean | JsonSchema
  readonly items?: JsonSchema
  readonly enum?: readonly unknown[]
  readonly const?: unknown
  readonly default?: unknown
  readonly minimum?: number
  readonly maximum?: number
  readonly maxLength?: number
  readonly pattern?: string
  readonly 'x-message'?: string
  readonly 'x-tooLong'?: string
}

/** The folder of mctl's own package.json, from src/ and from dist/src/ alike. */
export function packageRoot(from: string = dirname(fileURLToPath(import.meta.url))): string {
  for (let folder = from; ; folder = dirname(folder)) {
    if (isPackageRoot(folder)) return folder
    if (dirname(folder) === folder) throw new Error(`bug: no package.json of mctl above ${from}`)
  }
}

function isPackageRoot(folder: string): boolean {
  try {
    const description = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { name?: unknown }
    return description.name === 'mctl'
  } catch {
    return false
  }
}

const META_FILE = 'meta.schema.json'
const fileOf = (kind: KindName): string => `${kind.toLowerCase()}.schema.json`
const texts = new Map<string, string>()
const files = new Map<string, JsonSchema>()
let root: string | undefined

function textNamed(name: string): string {
  const text = texts.get(name) ?? readFileSync(join((root ??= packageRoot()), 'schemas', 'v1alpha1', name), 'utf8')
  texts.set(name, text)
  return text
}

function fileNamed(name: string): JsonSchema {
  const schema = files.get(name) ?? (JSON.parse(textNamed(name)) as JsonSchema)
  files.set(name, schema)
  return schema
}

/** The schema of a kind as it stands in its file; references are not followed (see `resolveSchema`). */
export const schemaOf = (kind: KindName): JsonSchema => fileNamed(fileOf(kind))

/**
 * A schema with its `$ref` followed and what stands beside it laid over it. `home` is the schema file that the
 * reference stands in; the answer's own `home` is where its own references stand.
 */
export function resolveSchema(schema: JsonSchema, home: JsonSchema): { schema: JsonSchema; home: JsonSchema } {
  if (schema.$ref === undefined) return { schema, home }
  const { $ref, ...beside } = schema
  const [file = '', pointer = ''] = $ref.split('#')
  const source = file === '' ? home : fileNamed(file)
  const definition = source.$defs?.[pointer.replace('/$defs/', '')]
  if (definition === undefined) throw new Error(`bug: schema reference ${$ref} leads nowhere`)
  const target = resolveSchema(definition, source)
  const properties = { ...target.schema.properties, ...beside.properties }
  const merged = { ...target.schema, ...beside }
  return { schema: Object.keys(properties).length > 0 ? { ...merged, properties } : merged, home: target.home }
}

const validators = new Map<KindName, ValidateFunction>()
const require = createRequire(import.meta.url)
let ajv: Ajv2020 | undefined

/** Where `npm run build` puts ready-made validators. */
export const standaloneFolder = (): string => join((root ??= packageRoot()), 'dist', 'validators')

/** Of all files, for parts of one stand in others. */
let hash: string | undefined
const sourceOf = (kind: KindName): StandaloneSource => ({
  kind: kind.toLowerCase(),
  hash: (hash ??= hashOf([META_FILE, ...kindNames.map(fileOf)].map(textNamed))),
})

/** The validator of a kind: all errors at once, with the data and the schema that they are about. */
export function validatorOf(kind: KindName): ValidateFunction {
  const validator = validators.get(kind) ?? loadStandalone(standaloneFolder(), sourceOf(kind)) ?? compiled(kind)
  validators.set(kind, validator)
  return validator
}

const compiled = (kind: KindName): ValidateFunction => (ajv ??= ajvWithAllFiles(false)).compile(schemaOf(kind))

type StandaloneCode = (ajv: Ajv2020, validator: ValidateFunction) => string

/** Makes the validators of all kinds ready, for those who call the command line. */
export function writeValidators(folder: string = standaloneFolder()): void {
  const standaloneCode = require('ajv/dist/standalone/index.js') as StandaloneCode
  const withSource = ajvWithAllFiles(true)
  writeStandalone(
    folder,
    kindNames.map((kind) => ({
      source: sourceOf(kind),
      code: standaloneCode(withSource, withSource.compile(schemaOf(kind))),
    })),
  )
}

/** Loaded when it is needed: it is the largest part of what a call of the command line would load. */
function ajvWithAllFiles(source: boolean): Ajv2020 {
  const ours = { allErrors: true, verbose: true, strict: true, strictTypes: false, allowUnionTypes: true }
  const fresh = new (require('ajv/dist/2020.js') as typeof ajvModule).Ajv2020({ ...ours, code: { source } })
  fresh.addVocabulary(['x-message', 'x-tooLong'])
  for (const name of [META_FILE, ...kindNames.map(fileOf)]) fresh.addSchema(fileNamed(name))
  return fresh
}
