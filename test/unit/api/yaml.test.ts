import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { causeText } from '../../../src/api/causes.ts'
import { applyDefaults } from '../../../src/api/default.ts'
import { validate } from '../../../src/api/validate.ts'
import { locate, MAX_FILE_BYTES, parseManifests } from '../../../src/api/yaml.ts'

const head = 'apiVersion: mctl.dev/v1alpha1\nkind: ModelDeployment\n'
const whole = `${head}metadata: {name: a}\nspec: {model: {source: "file:m"}}\n`

/** Everything that is wrong with a file, located, as lines: what `mctl apply` prints. */
function faultsOf(text: string | Uint8Array): readonly string[] {
  const { manifests, causes } = parseManifests(text, 'f.yaml')
  const invalid = manifests.flatMap((parsed) => locate(validate(applyDefaults(parsed.manifest)), parsed))
  return [...causes, ...invalid].map(causeText)
}
const namesIn = (text: string | Uint8Array) => parseManifests(text, 'f').manifests.map((m) => m.manifest.metadata.name)

describe('what is read', () => {
  test('documents in their order, empty ones skipped', () => {
    const text = `---\n# nothing\n---\n${whole}---\nnull\n---\n${whole.replace('name: a', 'name: b')}---\n`
    expect(namesIn(text)).toEqual(['a', 'b'])
    expect(faultsOf(text)).toEqual([])
  })
  test('a List as its items, of any kind or of one', () => {
    const item = `- ${whole.trimEnd().replaceAll('\n', '\n  ')}\n`
    for (const kind of ['List', 'ModelDeploymentList'])
      expect(namesIn(`apiVersion: v1\nkind: ${kind}\nmetadata: {resourceVersion: ""}\nitems:\n${item}${item}`)).toEqual(
        ['a', 'a'],
      )
    expect(faultsOf('apiVersion: v1\nkind: List\nitems: []\n')).toEqual(['f.yaml:1: the file holds no objects'])
  })
  test('JSON, tabs and all', () => {
    const json = JSON.stringify({ apiVersion: 'mctl.dev/v1alpha1', kind: 'Node', metadata: { name: 'n' } }, null, '\t')
    expect(namesIn(json)).toEqual(['n'])
  })
  test('UTF-8 with and without a byte order mark', () => {
    for (const text of [`\uFEFF${whole}`, Buffer.from(`\uFEFF${whole}`), Buffer.from(whole)])
      expect(namesIn(text)).toEqual(['a'])
  })
  test('yes and no are words, not truth values', () => {
    expect(faultsOf(whole.replace('spec: {', 'spec: {paused: yes, '))).toEqual([
      'f.yaml:4: spec.paused: Invalid value: "yes": must be true or false',
    ])
  })
  test('any JSON value comes through a manifest unchanged', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 4 })), (spec) => {
        const text = JSON.stringify(
          { apiVersion: 'mctl.dev/v1alpha1', kind: 'Node', metadata: { name: 'n' }, spec },
          null,
          1,
        )
        const { manifests, causes } = parseManifests(text, 'f')
        if (causes.some((cause) => /9007199254740991/.test(cause.message))) return
        expect(causes).toEqual([])
        expect(manifests[0]?.manifest['spec']).toEqual((JSON.parse(text) as { spec: unknown }).spec)
      }),
    )
  })
})

describe('every cause points to its very line', () => {
  test('fields, list entries, keys with dots, missing fields', () => {
    const text = `# a comment
${head}metadata:
  name: a
  labels:
    mctl.dev/a: x
    a b: y
spec:
  model:
    source: file:m
  replicas: -1
  parallelism:
    strategy: Pipeline
    split:
    - 2
    - 0
  engine:
    name: mlx
    args: [
      --prefill-step-size=8,
      --pipeline
    ]
  serving: {contextTokens: 10,
    maxOutputTokens: 11}
  colour: red
`
    expect(faultsOf(text).map((fault) => fault.split(':').slice(0, 3).join(':'))).toEqual([
      'f.yaml:26: unknown field "spec.colour"',
      'f.yaml:12: spec.replicas',
      'f.yaml:17: spec.parallelism.split[1]',
      'f.yaml:6: metadata.labels',
      'f.yaml:25: spec.serving.maxOutputTokens',
      'f.yaml:22: spec.engine.args[1]',
    ])
  })
  test('the nearest field around one that is not there, in the second document too', () => {
    expect(faultsOf(`${whole}---\n${head}metadata:\n  name: b\nspec:\n  replicas: 1\n`)).toEqual([
      'f.yaml:10: spec.model: Required value',
    ])
  })
  test('an item of a List', () => {
    expect(
      faultsOf(`kind: List\nitems:\n- ${head.replaceAll('\n', '\n  ')}metadata: {name: a}\n  spec: {}\n- kind: Pod\n`),
    ).toEqual([
      'f.yaml:7: items[1].apiVersion: Required value',
      expect.stringMatching(/^f.yaml:7: items\[1\].kind: Unsupported value: "Pod"/),
      'f.yaml:6: spec.model: Required value',
    ])
  })
})

describe('what is refused', () => {
  test.each([
    ['an empty file', '', 'f.yaml:1: the file holds no objects'],
    ['only comments', '# hello\n', 'f.yaml:1: the file holds no objects'],
    ['no map', '- a\n', 'f.yaml:1: must be a map with apiVersion, kind and metadata'],
    ['no map', 'hello', 'f.yaml:1: must be a map with apiVersion, kind and metadata'],
    ['tabs', 'a:\n\tb: 1', 'f.yaml:2: Tabs are not allowed as indentation'],
    ['broken quotes', 'a: "b', 'f.yaml:1: Missing closing "quote'],
    ['a tag', 'a: !secret x', 'f.yaml:1: Unresolved tag: !secret'],
    ['an alias', 'a: &x 1\nb: *x', 'f.yaml:2: aliases are not supported: write the value out instead of *x'],
    [
      'a list without items',
      'apiVersion: v1\nkind: List',
      'f.yaml:1: items: Required value: a List must hold a list of items',
    ],
  ])('%s', (_, text, fault) => {
    expect(faultsOf(text)).toEqual([fault])
  })

  test('duplicate keys, beside everything else that is wrong', () => {
    expect(faultsOf(`${whole}  \n`.replace('spec: {', 'spec: {replicas: 1, replicas: -1, '))).toEqual([
      'f.yaml:4: spec.replicas: duplicate field "spec.replicas"',
      'f.yaml:4: spec.replicas: Invalid value: -1: must be greater than or equal to 0',
    ])
  })
  test.each([
    ['12345678901234567890', 'must be within ±9007199254740991; a number beyond it would lose digits'],
    ['.nan', 'must be a finite number'],
    ['-.inf', 'must be a finite number'],
    ['1e999', 'must be a finite number'],
  ])('the number %s', (number, detail) => {
    expect(faultsOf(whole.replace('spec: {', `spec: {replicas: ${number}, `))).toEqual([
      `f.yaml:4: spec.replicas: Invalid value: "${number}": ${detail}`,
    ])
  })
  test.each(['1: a', 'true: a', '[a]: b', '{a: 1}: b', '? null\n: a'])('the key of %s', (pair) => {
    expect(faultsOf(`${head}metadata: {name: a}\nspec:\n  ${pair.replace('\n', '\n  ')}\n`)[0]).toContain(
      'keys must be strings',
    )
  })
  test('a __proto__ key is one more unknown field, not a prototype', () => {
    expect(faultsOf(whole.replace('spec: {', 'spec: {__proto__: {replicas: 7}, '))).toEqual([
      'f.yaml:4: unknown field "spec.__proto__"',
    ])
    expect(({} as { replicas?: number }).replicas).toBeUndefined()
  })
  test('bytes that are no UTF-8, with their line', () => {
    expect(faultsOf(new Uint8Array([0x61, 0x0a, 0x62, 0x0a, 0xc3, 0x28]))).toEqual([
      'f.yaml:3: the file is not UTF-8 text',
    ])
    expect(faultsOf(Buffer.from(whole, 'utf16le'))).not.toEqual([])
  })
  test('a file of 10 MB, and an object of more than 1.5 MB', () => {
    expect(faultsOf('#'.repeat(MAX_FILE_BYTES))).toEqual([expect.stringContaining('f.yaml:1: the file is too large')])
    const big = whole.replace('name: a', `name: a, annotations: {a: ${'x'.repeat(1_500_000)}}`)
    expect(faultsOf(`${whole}---\n${big}`)).toEqual([expect.stringContaining('f.yaml:6: the object is too large')])
  })
  test.each([
    ['brackets', '['.repeat(100_000)],
    ['maps in maps', '{a: '.repeat(50_000)],
    ['lists in lists on a line', '- '.repeat(20_000)],
    ['questions', '? '.repeat(10_000)],
  ])('a tower of %s, without falling over', (_, text) => {
    expect(faultsOf(text)).toEqual(['f.yaml:1: nested too deeply: must be at most 64 levels'])
  })
  test('a billion laughs', () => {
    const text = ['a: &a [x,x]', 'b: &b [*a,*a]', 'c: &c [*b,*b]'].join('\n')
    expect(faultsOf(text)).toEqual([expect.stringContaining('f.yaml:2: aliases are not supported')])
  })
  test('thousands of keys without waiting for ever, and with a bounded answer', () => {
    const keys = Array.from({ length: 20_000 }, (_, i) => `k${i}: 1`).join('\n')
    expect(faultsOf(`${head}${keys}\n`).length).toBeLessThanOrEqual(101)
    expect(faultsOf('\n'.repeat(600_000))).toEqual(['f.yaml:1: the file has too many lines: must be at most 500000'])
  })
  test('no text makes it throw', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.uint8Array(),
          fc
            .array(
              fc.constantFrom(
                '- ',
                '? ',
                ': ',
                '\n',
                ' ',
                '[',
                '{',
                '}',
                '"',
                '&a ',
                '|',
                '>',
                '---\n',
                'a',
                '#',
                '%',
                '\t',
              ),
            )
            .map((p) => p.join('')),
        ),
        (text) => {
          parseManifests(text, 'f')
        },
      ),
      { numRuns: 500 },
    )
  })
})
