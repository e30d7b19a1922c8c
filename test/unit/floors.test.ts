/** The house's floors (docs/architecture.md): imports point down only. This reads every import of src/ and agent/. */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve, sep } from 'node:path'
import ts from 'typescript'
import { expect, test } from 'vitest'

const root = resolve(import.meta.dirname, '../..')

const mayLookInto: Readonly<Record<string, readonly string[]>> = {
  lib: [],
  api: ['lib'],
  planner: ['api', 'lib'],
  store: ['api', 'lib'],
  rpc: ['api', 'lib'],
  controllers: ['planner', 'store', 'api', 'lib'],
  gitops: ['planner', 'store', 'api', 'lib'],
  gateway: ['api', 'lib'],
  server: ['store', 'rpc', 'planner', 'api', 'lib'],
  cli: ['planner', 'rpc', 'api', 'lib'],
  agent: ['rpc', 'api', 'lib'],
}
const roofs = ['agent/main.ts', 'agent/shardhost/main.ts']

/** The room of a file by its path from the root: `api` of `src/api/node.ts`. */
function roomOf(path: string): string {
  const [floor = '', room = ''] = path.split('/')
  if (roofs.includes(path)) return 'bin'
  return floor === 'src' ? room : floor
}

/** Imports of a file that its room may not make, as `file -> room`. */
function wrongArrows(file: string, text: string): readonly string[] {
  const room = roomOf(file)
  return ts.preProcessFile(text, true, true).importedFiles.flatMap(({ fileName }) => {
    if (fileName.startsWith('/')) return [`${file} -> ${fileName} (imports are relative)`]
    if (!fileName.startsWith('.')) return []
    const target = roomOf(join(dirname(file), fileName).split(sep).join('/'))
    const allowed = room === 'bin' ? [...Object.keys(mayLookInto), 'bin'] : [room, ...(mayLookInto[room] ?? [])]
    return allowed.includes(target) ? [] : [`${file} -> ${target}`]
  })
}

const sources = ['src', 'agent'].flatMap((floor) =>
  readdirSync(join(root, floor), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.(?:ts|mts|mjs|js)$/.test(entry.name))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)).split(sep).join('/')),
)

test('every import points down, and nobody looks into bin', () => {
  expect(sources.flatMap((file) => wrongArrows(file, readFileSync(join(root, file), 'utf8')))).toEqual([])
})

test('every file of src/ stands in a room that has a floor', () => {
  const rooms = new Set(sources.map(roomOf))
  expect([...rooms].filter((room) => room !== 'bin' && !Object.hasOwn(mayLookInto, room))).toEqual([])
  expect(rooms).toContain('api')
})

test.each([
  ['src/api/x.ts', "import { a } from '../store/store.ts'", 'src/api/x.ts -> store'],
  ['src/planner/deep/x.ts', "import type { A } from '../../rpc/messages.ts'", 'src/planner/deep/x.ts -> rpc'],
  ['src/cli/x.ts', "export * from '../store/store.ts'", 'src/cli/x.ts -> store'],
  ['src/server/x.ts', "const a = await import('../bin/server.ts')", 'src/server/x.ts -> bin'],
  ['agent/plan.ts', "import { a } from '../src/planner/ledger.ts'", 'agent/plan.ts -> planner'],
  ['agent/plan.ts', "import { a } from './main.ts'", 'agent/plan.ts -> bin'],
  ['src/gateway/x.ts', "import { a } from '../../agent/plan.ts'", 'src/gateway/x.ts -> agent'],
  ['src/lib/x.ts', "import '../api/meta.ts'", 'src/lib/x.ts -> api'],
])('%s with %s is named', (file, text, arrow) => {
  expect(wrongArrows(file, text)).toEqual([arrow])
})

test.each([
  ['src/controllers/x.ts', "import { a } from '../planner/world.ts'"],
  ['src/cli/x.ts', "import { a } from '../planner/place.ts'"],
  ['agent/main.ts', "import { a } from '../src/bin/wire.ts'"],
  ['src/bin/dev.ts', "import { a } from '../../agent/main.ts'"],
  ['src/store/x.ts', "import { parse } from 'yaml'; import { b } from './store.ts'"],
])('%s may %s', (file, text) => {
  expect(wrongArrows(file, text)).toEqual([])
})
