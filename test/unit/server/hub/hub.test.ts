/** The hub client against a hub with the real one's manners, over real sockets. */
import { createHash } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { digestOf } from '../../../../src/api/modelfiles/digest.ts'
import { shapeOfModel } from '../../../../src/api/modelfiles/shape.ts'
import { systemClock, systemRandom } from '../../../../src/lib/clock.ts'
import { messageOf } from '../../../../src/lib/errors.ts'
import type { HubOptions } from '../../../../src/server/hub/hub.ts'
import { createHub } from '../../../../src/server/hub/hub.ts'
import { checkedEndpoint } from '../../../../src/server/hub/refusals.ts'
import { about, TestHub, virtual } from '../../../support/hub.ts'
import { folder, json, llama, llamaConfig, llamaLayer, llamaOuter, safetensors } from '../../api/modelfiles/folder.ts'
import { ggufFile, Q4_K } from '../../api/modelfiles/gguffile.ts'
import { headerOnly } from '../../api/modelfiles/virtual.ts'

const NAME = 'mlx-community/tiny'
const small = {
  'config.json': json(llamaConfig),
  'tokenizer.json': json({ version: '1.0' }),
  'README.md': Buffer.from('# tiny'),
  'model.safetensors': safetensors(llama()),
  'adapters.safetensors': safetensors({ a: ['U8', 9] }),
}
let hub: TestHub
beforeEach(async () => {
  hub = await TestHub.start()
})
afterEach(() => hub.stop())

const client = (options: Partial<HubOptions> = {}) =>
  createHub({
    endpoint: hub.endpoint,
    clock: systemClock,
    random: systemRandom,
    stallMs: 300,
    firstBackoffMs: 5,
    ...options,
  })
const read = (revision = 'main', options: Partial<HubOptions> = {}, name = NAME) =>
  client(options).read(name, revision, new AbortController().signal)
const failure = async (promise: Promise<unknown>): Promise<{ code: string; text: string }> => {
  const error = (await promise.then(
    () => ({ code: 'none' }),
    (thrown: unknown) => thrown,
  )) as Error & { code: string }
  return { code: error.code, text: messageOf(error) }
}
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

describe('a model is read by its headers', () => {
  test('shape, commit, files with their sha256, and the digest that an agent will find', async () => {
    const commit = hub.commit(NAME, small)
    const model = await read()
    const needed = ['config.json', 'model.safetensors', 'tokenizer.json'] as const
    expect(model.files).toEqual(
      needed.map((name) => ({ name, sizeBytes: small[name].byteLength, sha256: sha256(small[name]) })),
    )
    expect(model).toMatchObject({ resolvedRevision: commit, digest: digestOf(model.files) })
    expect(model.shape).toEqual(await shapeOfModel(folder(small)))
  })
  test('a hundred files of five gigabytes cost some megabytes of reading', async () => {
    const layers = 100
    const names = Array.from({ length: layers }, (_, i) => `model-${String(i).padStart(3, '0')}.safetensors`)
    const parts = names.map((file, i) => {
      const wide = { [`model.layers.${i}.mlp.extra.weight`]: ['F16', 2_500_000, 1000] as const }
      return [file, { ...llamaLayer(i), ...wide, ...(i === 0 ? llamaOuter() : {}) }] as const
    })
    const weight_map = Object.fromEntries(parts.flatMap(([file, part]) => Object.keys(part).map((t) => [t, file])))
    hub.commit(NAME, {
      'config.json': json({ ...llamaConfig, num_hidden_layers: layers }),
      'model.safetensors.index.json': json({ weight_map }),
      ...Object.fromEntries(parts.map(([file, part]) => [file, virtual(headerOnly(part))])),
    })
    const { shape, files } = await read()
    expect(files).toHaveLength(layers + 2)
    expect(shape.weightBytes).toBeGreaterThan(500e9)
    expect(hub.bytesSent()).toBeLessThan(15e6)
  })
  test('a GGUF file, too', async () => {
    const metadata = {
      'general.architecture': 'llama',
      'llama.block_count': 1,
      'llama.embedding_length': 256,
      'llama.attention.head_count': 8,
    }
    const file = ggufFile(metadata, {
      'token_embd.weight': [Q4_K, 256, 10],
      'blk.0.attn_k.weight': [Q4_K, 256, 256],
      'blk.0.ffn_up.weight': [Q4_K, 2 ** 14, 2 ** 20],
    })
    hub.commit(NAME, { 'tiny-q4.gguf': virtual(file), 'README.md': Buffer.from('x') })
    const model = await read()
    expect(model.shape).toMatchObject({ format: 'Gguf', layers: 1 })
    expect(model.files.map(({ name }) => name)).toEqual(['tiny-q4.gguf'])
    expect(hub.bytesSent()).toBeLessThan(5e6)
  })
  test('a listing of several pages is read to its end', async () => {
    hub.pageSize = 2
    hub.commit(NAME, small)
    expect((await read()).files).toHaveLength(3)
    expect(hub.requests.filter(about('tree'))).toHaveLength(3)
  })
})

describe('a revision is one commit', () => {
  test('by branch, tag or commit', async () => {
    const old = hub.commit(NAME, small, { branch: 'v1.0' })
    const wide = safetensors(llama('F32'))
    const young = hub.commit(NAME, { ...small, 'model.safetensors': wide })
    expect((await read('main')).resolvedRevision).toBe(young)
    expect((await read('v1.0')).resolvedRevision).toBe(old)
    expect((await read(old)).digest).toBe((await read('v1.0')).digest)
  })
  test.each(['tree', 'resolve', 'content'] as const)(
    'a branch that moves before the %s changes nothing',
    async (when) => {
      const commit = hub.commit(NAME, small)
      const run = () => void hub.commit(NAME, { 'config.json': json({}), 'model.safetensors': new Uint8Array(3) })
      hub.fault(about(when), { run }, 1)
      const model = await read()
      expect(model.resolvedRevision).toBe(commit)
      expect(model.shape).toEqual(await shapeOfModel(folder(small)))
    },
  )
})

describe('what passes is waited out', () => {
  test.each([
    ['429', 'info', { answer: 429, headers: { 'retry-after': '0' } }],
    ['503', 'tree', { answer: 503 }],
    ['500', 'content', { answer: 500 }],
    ['a stall before the answer', 'info', { stallAfterBytes: 0 }],
    ['a stall within the answer', 'content', { stallAfterBytes: 100 }],
    ['a cut', 'content', { cutAfterBytes: 10 }],
    ['a part that is shorter than it says', 'content', { liesAboutLengthBy: 5 }],
  ] as const)('%s', async (_, where, fault) => {
    hub.commit(NAME, small)
    hub.fault(about(where), fault, 2)
    expect((await read()).files).toHaveLength(3)
  })
  test('a small file that comes corrupted is read again', async () => {
    hub.commit(NAME, small)
    hub.fault(about('content', 'tokenizer.json'), { corruptsByte: 3 }, 1)
    expect((await read()).files[2]?.sha256).toBe(sha256(small['tokenizer.json']))
  })
})

describe('what does not pass is said in words', () => {
  test.each([
    ['a hub that is down', about('info'), { answer: 503 }, 'Unavailable', 'it answers 503'],
    ['a hub that is silent', about('tree'), { stallAfterBytes: 0 }, 'Unavailable', 'no answer for 0.3 s'],
    ['too many requests', about('info'), { answer: 429 }, 'Unavailable', 'it answers 429'],
    ['no JSON', about('info'), { answer: 200, body: '<html>' }, 'Unavailable', 'its answer is not understood'],
    ['no commit', about('info'), { answer: 200, body: '{"id": "x"}' }, 'Unavailable', 'names no commit for main'],
    [
      'a listing of nothing',
      about('tree'),
      { answer: 200, body: '[{"type": "file"}]' },
      'Unavailable',
      'without a name',
    ],
    [
      'no parts of files',
      about('content', 'model.safetensors'),
      { ignoresRange: true },
      'Unavailable',
      'parts of a file',
    ],
    [
      'a lie about a length',
      about('content', 'model.safetensors'),
      { headers: { 'content-range': `bytes 0-${small['model.safetensors'].byteLength - 1}/999999` } },
      'Unavailable',
      'of 999999 bytes, expected',
    ],
    [
      'another commit',
      about('resolve'),
      { headers: { 'x-repo-commit': 'f'.repeat(40) } },
      'Unavailable',
      'of commit ffff',
    ],
    [
      'another sha256',
      about('resolve', 'model.safetensors'),
      { headers: { 'x-linked-etag': `"${'0'.repeat(64)}"` } },
      'Unavailable',
      'of sha256 0000',
    ],
    [
      'corruption for ever',
      about('content', 'config.json'),
      { corruptsByte: 3 },
      'Unavailable',
      'the hub answers config.json',
    ],
    [
      'a redirect to a file',
      about('resolve'),
      { answer: 302, headers: { location: 'file:///etc/passwd' } },
      'Unavailable',
      'not followed',
    ],
    [
      'redirects in a circle',
      about('resolve'),
      { answer: 302, headers: { location: '/x/y/resolve/main/z' } },
      'Unavailable',
      'redirects',
    ],
  ] as const)('%s', async (_, where, fault, code, text) => {
    hub.commit(NAME, small)
    hub.fault(where, fault)
    const told = await failure(read('main', { attempts: 2 }))
    expect(told.code).toBe(code)
    expect(told.text).toContain(text)
  })
  test('a large header that lies about its file is refused by name', async () => {
    hub.commit(NAME, { ...small, 'model.safetensors': safetensors(llama()).subarray(0, 900) })
    expect(await failure(read())).toMatchObject({
      code: 'Invalid',
      text: expect.stringContaining('read model file model.safetensors: the file is truncated') as string,
    })
  })
  test.each([
    ['no such revision', NAME, 'v9', 'has no revision v9'],
    [
      'no such repository',
      'mlx-community/nothing',
      'main',
      'no such repository, or a private one: check the name, or start the server with HF_TOKEN',
    ],
  ])('%s', async (_, name, revision, text) => {
    hub.commit(NAME, small)
    const told = await failure(read(revision, {}, name))
    expect(told).toEqual({
      code: 'NotFound',
      text: `read hf://${name}: ${text.startsWith('no such') ? text : `it ${text}: see ${hub.endpoint}/${name}/commits/main`}`,
    })
  })
  test('nobody listens', async () => {
    await hub.stop()
    const told = await failure(read('main', { attempts: 2 }))
    expect(told.code).toBe('Unavailable')
    expect(told.text).toContain('ECONNREFUSED')
  })
  test('a stop ends it at once', async () => {
    hub.commit(NAME, small)
    hub.fault(about('info'), { stallAfterBytes: 0 })
    const stop = new AbortController()
    const reading = failure(client({ stallMs: 60_000 }).read(NAME, 'main', stop.signal))
    while (hub.requests.length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
    stop.abort()
    expect(await reading).toMatchObject({ code: 'Cancelled' })
  })
})

describe('a token', () => {
  const token = 'secret-of-a-mirror'
  beforeEach(() => {
    hub.members.add(token)
    hub.strangers.add('stranger')
  })
  test.each([{ gated: true }, { private: true }])('opens %j, and goes to the hub alone', async (closed) => {
    hub.commit(NAME, small, closed)
    expect((await read('main', { token })).files).toHaveLength(3)
    const stored = hub.requests.filter(({ about: what, path }) => what === 'content' && path.startsWith('/repos/'))
    expect(stored.length).toBeGreaterThan(0)
    expect(stored.every(({ authorization }) => authorization === undefined)).toBe(true)
    expect(hub.requests.filter(about('info')).every(({ authorization }) => authorization === `Bearer ${token}`)).toBe(
      true,
    )
  })
  test('a listing that leads to another server does not get it', async () => {
    hub.commit(NAME, small)
    const link = `<${hub.storage}/api/models/x?cursor=1>; rel="next"`
    hub.fault(about('tree'), { headers: { link } })
    expect((await failure(read('main', { token }))).text).toContain('its listing leads to another server')
    expect(hub.requests.some(({ path }) => path === '/api/models/x')).toBe(false)
  })
  test.each([
    [undefined, { gated: true }, 'Unauthorized', 'is gated: accept its terms at'],
    ['stranger', { gated: true }, 'Unauthorized', 'the account of HF_TOKEN has no access'],
    [undefined, { private: true }, 'NotFound', 'or start the server with HF_TOKEN'],
    ['stranger', { private: true }, 'NotFound', 'check the name and what HF_TOKEN may read'],
    ['expired-token', {}, 'Unauthorized', 'the hub refuses HF_TOKEN (401)'],
  ] as const)('%s for %j is not enough: what to do is said, the token is not', async (mine, closed, code, text) => {
    hub.commit(NAME, small, closed)
    const told = await failure(read('main', mine === undefined ? {} : { token: mine }))
    expect(told.code).toBe(code)
    expect(told.text).toContain(text)
    if (mine !== undefined) expect(told.text).not.toContain(mine)
  })
})

test.each([
  ['https://huggingface.co', 'https://huggingface.co'],
  ['http://127.0.0.1:80/hub/', 'http://127.0.0.1:80/hub'],
])('the endpoint %s', (text, endpoint) => {
  expect(checkedEndpoint(text)).toBe(endpoint)
})
test.each(['', 'huggingface.co', 'ftp://x', 'https://user:pass@x', 'https://x/?a=b'])('is refused: %s', (text) => {
  expect(() => checkedEndpoint(text)).toThrow('HF_ENDPOINT must be')
})
