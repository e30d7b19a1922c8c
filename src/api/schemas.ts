/**
 * The schema files of schemas/v1alpha1, read once, and one compiled validator per kind. The files lie beside `src` in a
 * checkout and beside `dist` when built, so the root is found by its package.json.
 */
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ValidateFunction } from 'ajv/dist/2020.js'
import { Ajv2020 } from 'ajv/dist/2020.js'
import type { KindName } from './kinds.ts'
import { kindNames } from './kinds.ts'

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
const files = new Map<string, JsonSchema>()

function fileNamed(name: string): JsonSchema {
  let schema = files.get(name)
  if (schema === undefined) {
    schema = JSON.parse(readFileSync(join(packageRoot(), 'schemas', 'v1alpha1', name), 'utf8')) as JsonSchema
    files.set(name, schema)
  }
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
let ajv: Ajv2020 | undefined

/** The compiled validator of a kind: all errors at once, with the data and the schema that they are about. */
export function validatorOf(kind: KindName): ValidateFunction {
  let validator = validators.get(kind)
  if (validator === undefined) {
    ajv ??= ajvWithAllFiles()
    validator = ajv.compile(schemaOf(kind))
    validators.set(kind, validator)
  }
  return validator
}

function ajvWithAllFiles(): Ajv2020 {
  const fresh = new Ajv2020({ allErrors: true, verbose: true, strict: true, strictTypes: false, allowUnionTypes: true })
  fresh.addVocabulary(['x-message', 'x-tooLong'])
  for (const name of [META_FILE, ...kindNames.map(fileOf)]) fresh.addSchema(fileNamed(name))
  return fresh
}
