import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { Manifest } from '../../../src/api/meta.ts'
import type { JsonSchema } from '../../../src/api/schemas.ts'
import { kindNames } from '../../../src/api/kinds.ts'
import { packageRoot, resolveSchema, schemaOf, validatorOf, writeValidators } from '../../../src/api/schemas.ts'
import { deployment, manifestOf } from './manifests.ts'

/** Every field of a kind with its path, references followed. */
function fieldsOf(
  path: string,
  unresolved: JsonSchema,
  unresolvedHome: JsonSchema,
): readonly (readonly [string, JsonSchema])[] {
  const { schema, home } = resolveSchema(unresolved, unresolvedHome)
  const below = [
    ...Object.entries(schema.properties ?? {}).flatMap(([key, property]) => fieldsOf(`${path}.${key}`, property, home)),
    ...(schema.items === undefined ? [] : fieldsOf(`${path}[]`, schema.items, home)),
  ]
  return [[path, schema], ...below]
}

test.each(kindNames)('every field of %s is described, and every map of it is closed', (kind) => {
  const fields = fieldsOf(kind, schemaOf(kind), schemaOf(kind))
  expect(fields.filter(([path, schema]) => !path.endsWith('[]') && !schema.description).map(([path]) => path)).toEqual(
    [],
  )
  const open = fields.filter(([, schema]) => schema.properties !== undefined && schema.additionalProperties !== false)
  expect(open.map(([path]) => path)).toEqual([])
  expect(fields.length).toBeGreaterThan(10)
})

test('the package is found from any folder below it, past the packages of others', () => {
  const root = mkdtempSync(join(tmpdir(), 'mctl-root-'))
  try {
    const deep = join(root, 'dist', 'src', 'api')
    mkdirSync(deep, { recursive: true })
    writeFileSync(join(root, 'package.json'), '{"name": "mctl"}')
    writeFileSync(join(root, 'dist', 'package.json'), '{"type": "module"}')
    writeFileSync(join(root, 'dist', 'src', 'package.json'), 'no json')
    expect(packageRoot(deep)).toBe(root)
    expect(() => packageRoot('/')).toThrow('no package.json of mctl')
  } finally {
    rmSync(root, { recursive: true })
  }
})

test('a ready-made validator finds what the compiled one finds, to the word', () => {
  // Within the package: the programs look for parts of ajv.
  mkdirSync(join(packageRoot(), 'dist'), { recursive: true })
  const folder = mkdtempSync(join(packageRoot(), 'dist', 'validators-'))
  try {
    writeFileSync(join(folder, 'node-of-an-older-schema.cjs'), '')
    writeValidators(folder)
    const names = readdirSync(folder).sort()
    expect(names.map((name) => name.split('-')[0])).toEqual(kindNames.map((kind) => kind.toLowerCase()).sort())
    for (const kind of kindNames) {
      const file = names.find((name) => name.startsWith(`${kind.toLowerCase()}-`)) ?? ''
      const ready = createRequire(import.meta.url)(join(folder, file)) as ReturnType<typeof validatorOf>
      const compiled = validatorOf(kind)
      for (const manifest of [...bent(kind), deployment({ replicas: -1, colour: 'red', model: { source: 7 } })]) {
        expect([ready(manifest), ready.errors]).toEqual([compiled(manifest), compiled.errors])
      }
    }
    expect(validatorOf('Node')(manifestOf('Node', { spec: { unschedulable: 'yes' } }))).toBe(false)
  } finally {
    rmSync(folder, { recursive: true })
  }
})

/** Objects of the kind in which something is wrong in every way that the schemas know. */
const bent = (kind: string): readonly Manifest[] => [
  manifestOf(kind),
  manifestOf(kind, { spec: 3, extra: [] }, { name: 'X'.repeat(300), labels: { a: 1 }, uid: 5 }),
  manifestOf(kind, { spec: { spec: {} }, status: { conditions: [{ type: 1 }], phase: 'Odd' } }, { finalizers: 'none' }),
]
