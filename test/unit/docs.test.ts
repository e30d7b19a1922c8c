/** Documents that must say what the code says: every reason that is written, and every mark of what no Mac has shown. */
import { readFileSync, readdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'

const root = resolve(import.meta.dirname, '../..')
const textOf = (path: string) => readFileSync(join(root, path), 'utf8')

const filesOf = (...dirs: string[]) =>
  dirs.flatMap((dir) =>
    readdirSync(join(root, dir), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && /\.(ts|py|sh)$/.test(entry.name))
      .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1)),
  )

test('docs/conditions.md has every reason that the code writes, and no other', () => {
  const written = new Set<string>()
  for (const file of filesOf('src/planner', 'src/controllers', 'src/gitops', 'src/server', 'src/store', 'agent'))
    for (const [, value = ''] of textOf(file).matchAll(/\breason(?:\??:| =)([^,;\n]*)/g))
      for (const [, reason = ''] of value.matchAll(/'([A-Z][A-Za-z]+)'/g)) written.add(reason)
  const told = [...textOf('docs/conditions.md').matchAll(/`([A-Z][A-Za-z]+)`/g)].map(([, reason]) => reason ?? '')
  // What a word in the document stands for may also be an exit or an event that operations.md explains.
  expect([...written].filter((reason) => !told.includes(reason)).sort()).toEqual([])
  expect(told.filter((reason) => !written.has(reason) && !isObject(reason)).sort()).toEqual([])
})

const isObject = (word: string) =>
  ['ModelDeployment', 'ShardGroup', 'Node', 'Sync', 'True', 'False', 'Unknown'].includes(word)

test('docs/conditions.md names every type of condition', () => {
  const types = new Set<string>()
  for (const file of filesOf('src/planner', 'src/gitops', 'agent'))
    for (const [, type = ''] of textOf(file).matchAll(/\btype(?::| =) '([A-Z]\w+)'[^}\n]*\n?[^}\n]*(?:status|reason)/g))
      types.add(type)
  const known = [...textOf('docs/conditions.md').matchAll(/^\| ([A-Z][A-Za-z, ]+) \|/gm)].flatMap(([, names = '']) =>
    names.split(', '),
  )
  for (const event of ['Normal', 'Warning', 'Stop']) types.delete(event)
  expect(types.size).toBeGreaterThan(5)
  expect([...types].filter((type) => !known.includes(type))).toEqual([])
})

test('docs/not-verified.md names every file that says so, each of them is there, and the README links it', () => {
  const marked = filesOf('src', 'agent').filter((file) => /not verified on hardware/i.test(textOf(file)))
  expect(marked.length).toBeGreaterThan(2)
  const named = [...textOf('docs/not-verified.md').matchAll(/`((?:src|agent)\/[^`]+)`/g)].map(([, path]) => path ?? '')
  expect(marked.filter((file) => !named.some((path) => file === path || file.startsWith(`${path}/`)))).toEqual([])
  for (const path of named) expect(() => readdirSync(join(root, path.replace(/\/[^/]+\.ts$/, '')))).not.toThrow()
  for (const path of named.filter((name) => name.endsWith('.ts'))) expect(textOf(path)).not.toBe('')
  expect(textOf('README.md')).toContain('docs/not-verified.md')
})
