import { mkdtempSync, rmSync, writeFileSync, mkdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { JsonSchema } from '../../../src/api/schemas.ts'
import { kindNames } from '../../../src/api/kinds.ts'
import { packageRoot, resolveSchema, schemaOf } from '../../../src/api/schemas.ts'

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
