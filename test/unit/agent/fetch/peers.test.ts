/** Nodes with a folder and a models door each, over real HTTP: the hub is asked once, and a peer is never believed. */
import { createHash } from 'node:crypto'
import { mkdtempSync } from 'node:fs'
import { readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { chooseNext, HUB, mayAskHub } from '../../../../agent/fetch/choose.ts'
import type { ModelsDoor } from '../../../../agent/fetch/door.ts'
import { openDoor } from '../../../../agent/fetch/door.ts'
import { ModelFetcher } from '../../../../agent/fetch/fetcher.ts'
import { localTransfers } from '../../../../agent/fetch/transfer/local.ts'
import { hubRequests, peerDoors } from '../../../../agent/fetch/hub.ts'
import type { Offer, Offers } from '../../../../agent/fetch/peers.ts'
import type { Peer } from '../../../../src/api/peers.ts'
import type { Clock } from '../../../../src/lib/clock.ts'
import { sleep, systemClock } from '../../../../src/lib/clock.ts'
import { silentLogger } from '../../../../src/lib/log.ts'
import { wantedShard } from '../../../support/agentworld.ts'
import { COMMIT, FileHub, faults } from '../../../support/filehub.ts'
import { SeededRandom } from '../../../support/virtualclock.ts'

/** The waits of a minute in three seconds. */
const hasty: Clock = {
  ...systemClock,
  monotonicMs: () => systemClock.monotonicMs() * 20,
  after: (delayMs, run) => systemClock.after(delayMs / 20, run),
}
const BIG = 'model-1.safetensors'
const BIG_BYTES = 3_000_000
const files = {
  'config.json': '{}',
  [BIG]: Buffer.alloc(BIG_BYTES, 'big'),
  ...Object.fromEntries([2, 3, 4, 5, 6].map((n) => [`model-${n}.safetensors`, Buffer.alloc(100_000, n)])),
}
const FOLDER = `hf/demo--tiny@${COMMIT.slice(0, 12)}`

interface TestNode {
  readonly fetcher: ModelFetcher
  readonly door: ModelsDoor
  readonly dir: string
  readonly warnings: Readonly<Record<string, unknown>>[]
  fetch(): Promise<void>
  read(file: string): Promise<Buffer>
}

let hub: FileHub
let endpoint: string
let peers: Peer[]
const ends: (() => Promise<unknown>)[] = []

beforeEach(async () => {
  hub = new FileHub(files)
  endpoint = await hub.open()
  peers = []
  ends.push(() => hub.close())
})
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end()
})

async function aNode(name: string, clock: Clock = hasty): Promise<TestNode> {
  const modelsDir = mkdtempSync(join(tmpdir(), 'mctl-peers-'))
  const warnings: Readonly<Record<string, unknown>>[] = []
  const log = {
    ...silentLogger,
    warn: (message: string, facts?: object) => void warnings.push({ message, ...facts }),
  }
  const fetcher = new ModelFetcher({
    transfers: localTransfers(clock),
    request: hubRequests({ endpoint, token: 'secret' }),
    endpoint,
    peersOf: () => Promise.resolve(peers),
    peers: { own: name, ...peerDoors() },
    modelsDir,
    bootId: 'boot',
    volume: () => Promise.resolve(undefined),
    lock: () => ({ release: () => {} }),
    clock,
    random: new SeededRandom(1),
    log,
  })
  const door = await openDoor({ address: '127.0.0.1', modelsDir, bootId: 'boot', claims: fetcher.claims, log })
  peers.push({ node: name, address: door.address, port: door.port })
  let over = false
  ends.push(
    () => Promise.resolve((over = true)),
    () => rm(modelsDir, { recursive: true }),
    () => door.close(),
    () => fetcher.close(),
  )
  const dir = join(modelsDir, FOLDER)
  const shard = wantedShard({ source: 'hf://demo/tiny', digest: 'sha256:d', revision: COMMIT, files: hub.list() })
  return {
    fetcher,
    door,
    dir,
    warnings,
    read: (file) => readFile(join(dir, file)),
    async fetch() {
      fetcher.begin(shard)
      while (!over) {
        const state = fetcher.states().get(shard.metadata.uid)
        if (state?.kind === 'Done') return
        if (state?.kind === 'Failed') throw new Error(state.message)
        await sleep(systemClock, 5)
      }
    },
  }
}

const sha = (content: Uint8Array): string => createHash('sha256').update(content).digest('hex')
const contentOf = (file: string): Buffer => hub.files.get(file) ?? Buffer.alloc(0)
async function expectAll(node: TestNode): Promise<void> {
  for (const file of hub.files.keys()) expect((await node.read(file)).equals(contentOf(file))).toBe(true)
}
/** So many bytes of the large file are on its disk. */
async function untilPart(node: TestNode, bytes: number): Promise<void> {
  const size = () =>
    stat(join(node.dir, `${BIG}.part`)).then(
      (s) => s.size,
      () => 0,
    )
  while ((await size()) < bytes) await sleep(systemClock, 5)
}
/** A door that says and sends what it likes. */
async function aLiar(
  name: string,
  send: (sha256: string) => Buffer,
  stateAt: (look: number) => Offer['state'] = () => 'Here',
): Promise<void> {
  let looks = 0
  const server = createServer((request, response) => {
    const sha256 = /^\/v1\/files\/(.*)$/.exec(request.url ?? '')?.[1]
    if (sha256 !== undefined) return void response.end(send(sha256))
    const state = stateAt((looks += 1))
    const list = hub.list().map((file) => [file.sha256, state])
    response.end(JSON.stringify({ files: Object.fromEntries(list) as object }))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  peers.push({ node: name, address: '127.0.0.1', port: (server.address() as AddressInfo).port })
  ends.push(() => new Promise((resolve) => server.close(resolve).closeAllConnections()))
}

describe('nodes that need the same model', () => {
  test('one after the other: the second gets every file from the first, and the hub hears nothing', async () => {
    const [first, second] = [await aNode('a', systemClock), await aNode('b', systemClock)]
    await first.fetch()
    const asked = hub.asked.length
    await second.fetch()
    await expectAll(second)
    expect(hub.asked.length).toBe(asked)
  })

  test('at the same time: the hub is asked once for each file, and both get all of it', async () => {
    const nodes = [await aNode('a', systemClock), await aNode('b', systemClock), await aNode('c', systemClock)]
    hub.faults.set(BIG, [faults.slow(300_000, 20)])
    await Promise.all(nodes.map((node) => node.fetch()))
    for (const node of nodes) await expectAll(node)
    expect(hub.asked.map(({ file }) => file).sort()).toEqual([...hub.files.keys()].sort())
  })

  test('a file that is coming to one node comes to the other with it', async () => {
    const [first, second] = [await aNode('a', systemClock), await aNode('b', systemClock)]
    let release = () => {}
    const released = new Promise<void>((resolve) => (release = resolve))
    hub.faults.set(BIG, [
      (response, send) => {
        response.writeHead(200, { 'content-length': BIG_BYTES })
        response.write(send(1_000_000))
        void released.then(() => response.end(send().subarray(1_000_000)))
      },
    ])
    const one = first.fetch()
    await untilPart(first, 1_000_000)
    const two = second.fetch()
    await untilPart(second, 1_000_000)
    release()
    await Promise.all([one, two])
    await expectAll(second)
    expect(hub.asked.filter(({ file }) => file === BIG)).toHaveLength(1)
  })

  test('a peer that goes away in the middle: the rest comes from the hub, no byte twice', async () => {
    const [first, second] = [await aNode('a', systemClock), await aNode('b', systemClock)]
    hub.faults.set(BIG, [faults.stallAfter(1_000_000)])
    void first.fetch()
    await untilPart(first, 1_000_000)
    const following = second.fetch()
    await untilPart(second, 1_000_000)
    await first.door.close()
    await first.fetcher.close()
    await following
    await expectAll(second)
    expect(hub.asked.filter(({ file }) => file === BIG).map(({ from }) => from)).toEqual([0, 1_000_000])
  })

  test('a peer that hands on other bytes is found out by the hash, named, and asked no more', async () => {
    await aLiar('liar', (sha256) => Buffer.alloc(hub.list().find((f) => f.sha256 === sha256)?.sizeBytes ?? 0, 'x'))
    const node = await aNode('a')
    await node.fetch()
    await expectAll(node)
    expect(node.warnings.filter(({ file }) => file === BIG)).toMatchObject([
      { message: 'fetched file is corrupt', from: 'node liar', expected: sha(contentOf(BIG)) },
    ])
  })

  test.each([
    ['answers errors', () => Buffer.from('no')],
    ['sends more than the file', (sha256: string) => Buffer.alloc(BIG_BYTES * 2, sha256)],
  ])('a peer that %s costs nothing but the try', async (_, send) => {
    await aLiar('odd', send)
    const node = await aNode('a')
    await node.fetch()
    await expectAll(node)
  })

  test('a fetch that is given up while it claims a file claims it no more', async () => {
    // It gets the file from elsewhere at first, and then wants it from the hub, too: this node waits for it to give way.
    await aLiar(
      'z',
      () => Buffer.alloc(0),
      (look) => (look === 1 ? 'Peer' : 'Claiming'),
    )
    const node = await aNode('a', systemClock)
    void node.fetch()
    while (node.fetcher.claims.in(node.dir).length === 0) await sleep(systemClock, 5)
    await node.fetcher.close()
    // On a starved machine the liar's answer may come too late to count, and the hub is asked: the claim ends all the same.
    expect(node.fetcher.claims.in(node.dir)).toEqual([])
  })

  test('the token never goes to a peer', async () => {
    const seen: (string | undefined)[] = []
    const server = createServer((request, response) => {
      seen.push(request.headers.authorization)
      response.end(JSON.stringify({ files: {} }))
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    ends.push(() => new Promise((resolve) => server.close(resolve).closeAllConnections()))
    peers.push({ node: 'p', address: '127.0.0.1', port: (server.address() as AddressInfo).port })
    await (await aNode('a')).fetch()
    expect(seen.length).toBeGreaterThan(0)
    expect(new Set(seen)).toEqual(new Set([undefined]))
  })
})

describe('the models door', () => {
  const ask = (node: TestNode, path: string, headers: Record<string, string> = {}) =>
    fetch(`http://127.0.0.1:${node.door.port}${path}`, { headers })

  test('hands on verified files by sha256, whole and from a byte on', async () => {
    const node = await aNode('a')
    await node.fetch()
    const whole = await ask(node, `/v1/files/${sha(contentOf(BIG))}`)
    expect(Buffer.from(await whole.arrayBuffer()).equals(contentOf(BIG))).toBe(true)
    const rest = await ask(node, `/v1/files/${sha(contentOf(BIG))}`, { range: 'bytes=2999990-' })
    expect([rest.status, rest.headers.get('content-range')]).toEqual([206, 'bytes 2999990-2999999/3000000'])
    expect(await rest.text()).toHaveLength(10)
    const list = (await (await ask(node, `/v1/models/${FOLDER}`)).json()) as { files: object }
    expect(Object.keys(list.files).sort()).toEqual(
      hub
        .list()
        .map((f) => f.sha256)
        .sort(),
    )
  })

  test.each([
    '/v1/files/../../etc/passwd',
    '/v1/files/%2e%2e%2fetc%2fpasswd',
    `/v1/files/${'0'.repeat(64)}`,
    '/v1/models/hf/..',
    '/v1/models/..%2f..%2fetc',
    '/v1/models/hf/../../etc@0123456789ab',
    '/',
  ])('%s is nothing that it has', async (path) => {
    const node = await aNode('a')
    await node.fetch()
    const answer = await ask(node, path)
    const text = await answer.text()
    expect([404, 200].includes(answer.status) && (answer.status === 404 || text === '{"files":{}}')).toBe(true)
  })

  test('a file that was changed, and a link to another place, are not handed on', async () => {
    const node = await aNode('a')
    await node.fetch()
    const [two, three] = ['model-2.safetensors', 'model-3.safetensors']
    await writeFile(join(node.dir, two), Buffer.alloc(100_000, 9))
    await rename(join(node.dir, three), join(node.dir, 'elsewhere'))
    await symlink(join(node.dir, 'elsewhere'), join(node.dir, three))
    for (const file of [two, three]) expect((await ask(node, `/v1/files/${sha(contentOf(file))}`)).status).toBe(404)
  })

  test('a web page gets nothing', async () => {
    const node = await aNode('a')
    await node.fetch()
    const path = `/v1/files/${sha(contentOf(BIG))}`
    expect((await ask(node, path, { origin: 'http://evil.example' })).status).toBe(403)
  })
})

describe('where the next file comes from', () => {
  const peer = (node: string, bytesPerSecond?: number): Peer => ({
    node,
    address: '127.0.0.1',
    port: 1,
    ...(bytesPerSecond === undefined ? {} : { bytesPerSecond }),
  })
  const file = (name: string) => ({ name, sizeBytes: 1, sha256: sha(Buffer.from(name)) })
  const [a, b] = [file('a'), file('b')]
  const offers = (...list: [string, Peer, Offer['state']][]): Offers => {
    const made = new Map<string, Offer[]>()
    for (const [name, from, state] of list)
      made.set(file(name).sha256, [...(made.get(file(name).sha256) ?? []), { peer: from, state }])
    return made
  }
  const unknown = { of: () => undefined }
  const speeds = (known: Record<string, number>) => ({ of: (name: string) => known[name] })

  test('first what a peer has, then what nobody fetches, then what is coming to a peer, and else to wait', () => {
    const seen = offers(['b', peer('p'), 'Here'], ['a', peer('q'), 'Hub'])
    expect(chooseNext([a, b], seen, unknown)).toMatchObject({ kind: 'Peer', file: b, peer: { node: 'p' } })
    expect(chooseNext([a, b], offers(['a', peer('q'), 'Hub']), unknown)).toEqual({ kind: 'Hub', file: b })
    expect(chooseNext([a], offers(['a', peer('q'), 'Hub']), unknown)).toMatchObject({ kind: 'Peer', file: a })
    expect(chooseNext([a], offers(['a', peer('q'), 'Claiming']), unknown)).toEqual({ kind: 'Wait' })
    expect(chooseNext([a], offers(['a', peer('q'), 'Peer']), unknown)).toEqual({ kind: 'Hub', file: a })
  })

  test('of several peers the fastest, by measurement, else by its link; one that was never tried is tried', () => {
    const seen = offers(['a', peer('p', 2e9), 'Here'], ['a', peer('q', 1e8), 'Here'])
    expect(chooseNext([a], seen, unknown)).toMatchObject({ peer: { node: 'p' } })
    expect(chooseNext([a], seen, speeds({ p: 1e7 }))).toMatchObject({ peer: { node: 'q' } })
    const third = offers(['a', peer('p', 2e9), 'Here'], ['a', peer('r'), 'Here'])
    expect(chooseNext([a], third, unknown)).toMatchObject({ peer: { node: 'r' } })
  })

  test('the hub, where it is clearly faster than the peer', () => {
    const seen = offers(['a', peer('p', 1e8), 'Here'])
    expect(chooseNext([a], seen, speeds({ [HUB]: 1.4e8 }))).toMatchObject({ kind: 'Peer' })
    expect(chooseNext([a], seen, speeds({ [HUB]: 1.6e8 }))).toEqual({ kind: 'Hub', file: a })
  })

  test('of two that claim a file, the first by name asks the hub, once the other has given way', () => {
    const claim = (node: string, state: Offer['state']): Offer => ({ peer: peer(node), state })
    expect(mayAskHub('b', [])).toBe('Yes')
    expect(mayAskHub('b', [claim('a', 'Claiming')])).toBe('No')
    expect(mayAskHub('b', [claim('c', 'Claiming')])).toBe('Unclear')
    expect(mayAskHub('b', [claim('c', 'Hub')])).toBe('No')
    expect(mayAskHub('b', [claim('c', 'Peer')])).toBe('Yes')
  })
})
