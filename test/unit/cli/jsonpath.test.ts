import { expect, test } from 'vitest'
import { fieldPath, jsonPathTemplate, standardPath } from '../../../src/cli/printers/jsonpath.ts'
import { orderBy } from '../../../src/cli/printers/sort.ts'
import { mergePatchBetween } from '../../../src/lib/mergepatch.ts'
import { skewText } from '../../../src/cli/learn/version.ts'
import fc from 'fast-check'
import { mergePatched } from '../../../src/store/merge.ts'

test.each([
  ['.items[*].metadata.name', "['items'][*]['metadata']['name']"],
  ['.metadata.labels.mctl\\.dev/tier', "['metadata']['labels']['mctl.dev/tier']"],
  ['.labels.a-b', "['labels']['a-b']"],
  ['..name', "..['name']"],
  ['.items[?(@.a-b=="x.y")].c', "['items'][?(@['a-b']==\"x.y\")]['c']"],
  ['.items[?(@.size > 1.5)]', "['items'][?(@['size'] > 1.5)]"],
  ['.*', '[*]'],
  [".a['b.c'][-1:]", "['a']['b.c'][-1:]"],
  ['', ''],
])('kubectl writes %s where RFC 9535 writes %s', (ours, standard) => expect(standardPath(ours)).toBe(standard))

const list = {
  items: [
    { name: 'a', size: 1, tags: ['x', 'y'] },
    { name: 'b', size: 2, sub: { k: [1] } },
  ],
}

test.each([
  ['{.items[*].name}', 'a b'],
  ['{range .items[*]}{.name}={.size}{"\\n"}{end}', 'a=1\nb=2\n'],
  ['{range .items[*]}{range .tags[*]}[{@}]{end}{end}', '[x][y]'],
  ['{.items[?(@.size>1)].name}', 'b'],
  ['{.items[-1].sub}', '{"k":[1]}'],
  ['{.items[0,1].size} of {$.items[*].name}', '1 2 of a b'],
  ['{range .items[*]}{$.items[0].name}{end}', 'aa'],
  ['{..k}', '[1]'],
  ['no path', 'no path'],
  ['{"a } b"}', 'a } b'],
  ['.items[0].name', 'a'],
])('template %s gives %s', (template, text) => expect(jsonPathTemplate(template)(list)).toBe(text))

test('a path of a flag is taken with and without braces and dot', () => {
  for (const path of ['{.items}', '.items', 'items']) expect(fieldPath(path)(list)).toEqual([list.items])
})

test('order is by number, quantity and natural text; what lacks the field is first', () => {
  const order = (values: readonly unknown[]) =>
    orderBy(
      '.v',
      values.map((v) => ({ v })),
    ).map((i) => values[i])
  expect(order([10, 9, undefined, 100])).toEqual([undefined, 9, 10, 100])
  expect(order(['2Gi', '512Mi', '1Gi'])).toEqual(['512Mi', '1Gi', '2Gi'])
  expect(order(['mini-10', 'mini-9'])).toEqual(['mini-9', 'mini-10'])
})

test('the merge patch between two values makes the one of the other', () => {
  const value = fc.letrec((tie) => ({
    map: fc.dictionary(fc.constantFrom('a', 'b', 'c'), fc.oneof(fc.integer(), fc.array(fc.integer()), tie('map')), {
      maxKeys: 3,
    }),
  })).map
  fc.assert(
    fc.property(value, value, (old, fresh) => {
      const patch = mergePatchBetween(old, fresh)
      expect(JSON.parse(JSON.stringify(mergePatched(old, patch ?? {})))).toEqual(JSON.parse(JSON.stringify(fresh)))
    }),
  )
})

test('a server one minor version away is fine, one that is further is told', () => {
  expect(skewText('0.1.0', '0.2.9')).toBeUndefined()
  expect(skewText('0.1.0', 'sim')).toBeUndefined()
  expect(skewText('0.1.0', '0.3.0')).toMatch(/client \(0\.1\) and server \(0\.3\).*upgrade this mctl/)
  expect(skewText('1.4.0', '1.1.0')).toMatch(/upgrade the server/)
})
