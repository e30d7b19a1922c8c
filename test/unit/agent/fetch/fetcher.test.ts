/** Fetching over real HTTP onto a real disk: whatever the hub does, a file is whole and right, or it is not there. */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync } from 'node:fs'
import { mkdir, readFile, readdir, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { FetchDoors, Volume } from '../../../../agent/fetch/doors.ts'
import type { FetchState } from '../../../../agent/fetch/fetcher.ts'
import { ModelFetcher } from '../../../../agent/fetch/fetcher.ts'
import { localTransfers } from '../../../../agent/fetch/transfer/local.ts'
import { hubRequests } from '../../../../agent/fetch/hub.ts'
import { fetchedModels } from '../../../../agent/fetch/shelf.ts'
import type { ModelFile } from '../../../../src/api/model.ts'
import type { Shard } from '../../../../src/api/shard.ts'
import type { Stage } from '../../../../src/api/words.ts'
import type { Clock } from '../../../../src/lib/clock.ts'
import { sleep, systemClock } from '../../../../src/lib/clock.ts'
import { silentLogger } from '../../../../src/lib/log.ts'
import { startTimeOf } from '../../../../src/lib/process.ts'
import { wantedShard } from '../../../support/agentworld.ts'
import { SeededRandom } from '../../../support/virtualclock.ts'
import { COMMIT, FileHub, faults } from '../../../support/filehub.ts'
import { ownTls } from '../../../support/hub.ts'

/** The waits of a minute in three seconds. */
const hasty: Clock = {
  ...systemClock,
  monotonicMs: () => systemClock.monotonicMs() * 20,
  after: (delayMs, run) => systemClock.after(delayMs / 20, run),
}

const weights = (seed: number) => Buffer.alloc(200_000, seed)
const index = JSON.stringify({
  weight_map: {
    'model.embed_tokens.weight': 'model-1.safetensors',
    'model.layers.0.w': 'model-1.safetensors',
    'model.layers.1.w': 'model-2.safetensors',
    'model.layers.2.w': 'model-3.safetensors',
  },
})
const repository = {
  'config.json': '{}',
  'model.safetensors.index.json': index,
  'model-1.safetensors': weights(1),
  'model-2.safetensors': weights(2),
  'model-3.safetensors': weights(3),
}
const W2 = 'model-2.safetensors'

/** As the real one: one holder at a time for a folder. */
function lockOfTest(): FetchDoors['lock'] {
  const held = new Set<string>()
  return (folder) => {
    if (held.has(folder)) return undefined
    held.add(folder)
    return { release: () => void held.delete(folder) }
  }
}

let hub: FileHub
let doors: FetchDoors
let modelsDir: string
let dir: string
let volume: Volume
const fetchers: ModelFetcher[] = []
const warnings: Readonly<Record<string, unknown>>[] = []

beforeEach(async () => {
  modelsDir = mkdtempSync(join(tmpdir(), 'mctl-fetch-'))
  dir = join(modelsDir, 'hf', `demo--tiny@${COMMIT.slice(0, 12)}`)
  hub = new FileHub(repository)
  const endpoint = await hub.open()
  volume = { freeBytes: 10e9, totalBytes: 20e9 }
  warnings.length = 0
  doors = {
    transfers: localTransfers(hasty),
    request: hubRequests({ endpoint, token: 'secret' }),
    endpoint,
    modelsDir,
    bootId: 'boot',
    volume: () => Promise.resolve(volume),
    lock: lockOfTest(),
    clock: hasty,
    random: new SeededRandom(1),
    log: { ...silentLogger, warn: (message, facts) => void warnings.push({ message, ...facts }) },
  }
})
afterEach(async () => {
  await Promise.all(fetchers.splice(0).map((fetcher) => fetcher.close()))
  await hub.close()
  await rm(modelsDir, { recursive: true })
})

function shardOf(name = 'chat', stage?: Stage, files = hub.list()): Shard {
  const shard = wantedShard({ group: `${name}-0`, source: 'hf://demo/tiny', digest: 'sha256:d' })
  const model = { ...shard.spec.model, revision: COMMIT, files }
  const cut = stage === undefined ? {} : ({ strategy: 'Pipeline', stage } as const)
  return { ...shard, spec: { ...shard.spec, ...cut, model } }
}

const uidOf = (shard: Shard) => shard.metadata.uid
function newFetcher(changes: Partial<FetchDoors> = {}): ModelFetcher {
  const fetcher = new ModelFetcher({ ...doors, ...changes })
  fetchers.push(fetcher)
  return fetcher
}

/** Resolves with the first state for which `holds`. Small steps of progress are not told, so it looks by itself. */
async function reached(fetcher: ModelFetcher, shard: Shard, holds: (state: FetchState) => boolean) {
  for (;;) {
    const state = fetcher.states().get(uidOf(shard))
    if (state !== undefined && holds(state)) return state
    await sleep(systemClock, 5)
  }
}
const ended = ({ kind }: FetchState) => kind === 'Done' || kind === 'Failed'
async function fetched(shard = shardOf(), fetcher = newFetcher()): Promise<FetchState> {
  fetcher.begin(shard)
  return reached(fetcher, shard, ended)
}
const filesHere = async () => (await readdir(dir)).filter((name) => !name.startsWith('.')).sort()
const isRight = async (file: keyof typeof repository) =>
  Buffer.compare(await readFile(join(dir, file)), Buffer.from(repository[file])) === 0
const done = () => ({ kind: 'Done', dir })

describe('a fetch', () => {
  test('brings every file under its own name, and asks for each once', async () => {
    expect(await fetched()).toEqual(done())
    expect(await filesHere()).toEqual(Object.keys(repository).sort())
    expect(await isRight(W2)).toBe(true)
    expect(hub.asked.map((a) => a.file).sort()).toEqual(Object.keys(repository).sort())
    expect(await fetchedModels(modelsDir, 'boot')).toMatchObject([
      { source: 'hf://demo/tiny', digest: 'sha256:d', state: 'Present', dir },
    ])
  })

  test('of a pipeline rank brings only the files of its layers and of what is outside of layers', async () => {
    expect(await fetched(shardOf('a', [2, 3]))).toEqual(done())
    expect(await filesHere()).not.toContain(W2)
    expect(await filesHere()).toContain('model-3.safetensors')
    expect(await fetchedModels(modelsDir, 'boot')).toMatchObject([{ state: 'Partial' }])
    // Another rank of this node adds what it lacks, and nothing twice.
    expect(await fetched(shardOf('b', [0, 2]))).toEqual(done())
    expect(hub.asked.filter((a) => a.file === 'model-1.safetensors')).toHaveLength(1)
    expect(await fetchedModels(modelsDir, 'boot')).toMatchObject([{ state: 'Present' }])
  })

  test('tells its progress in bytes of the files that the rank needs', async () => {
    hub.faults.set(W2, [faults.stallAfter(100_000)])
    const fetcher = newFetcher({ clock: systemClock })
    const shard = shardOf('a', [1, 2])
    fetcher.begin(shard)
    const total = 400_000 + 2 + index.length
    const half = await reached(
      fetcher,
      shard,
      (s) => s.kind === 'Fetching' && s.progress?.doneBytes === total - 100_000,
    )
    expect(half).toEqual({ kind: 'Fetching', progress: { doneBytes: total - 100_000, totalBytes: total } })
  })

  test('sends the token to the hub only by its own address, and writes it nowhere', async () => {
    const other = new FileHub(repository)
    const address = await other.open()
    hub.faults.set('config.json', [faults.status(307, { location: `${address}/cdn/config.json` })])
    expect(await fetched()).toEqual(done())
    expect(other.asked.map((a) => a.authorization)).toEqual([undefined])
    expect(hub.asked.every((a) => a.authorization === 'Bearer secret')).toBe(true)
    await other.close()
  })
})

describe('whatever the hub does', () => {
  test.each([
    ['a shorter length than the file has', [faults.shortAfter(120_000)], [0, 120_000]],
    ['a stall', [faults.stallAfter(90_000)], [0, 90_000]],
    ['errors of the server', [faults.status(500), faults.status(503)], [0, 0, 0]],
    ['too many requests', [faults.status(429, { 'retry-after': '20' })], [0, 0]],
  ])('%s: it goes on where it was, no byte comes twice', async (_, list, froms) => {
    hub.faults.set(W2, [...list])
    expect(await fetched()).toEqual(done())
    expect(hub.asked.filter((a) => a.file === W2).map((a) => a.from)).toEqual(froms)
    expect(hub.sentBytes(W2)).toBe(200_000)
    expect(await isRight(W2)).toBe(true)
  })

  test('a cut: it goes on from what had come', async () => {
    hub.faults.set(W2, [faults.cutAfter(70_000), faults.cutAfter(50_000)])
    expect(await fetched()).toEqual(done())
    const froms = hub.asked.filter((a) => a.file === W2).map((a) => a.from)
    expect(froms).toHaveLength(3)
    // What was underway when the line broke is lost, nothing else.
    const [first = 0, second = 0, third = 0] = froms
    expect([first, second > 0, second <= 70_000, third > second, third <= second + 50_000]).toEqual([
      0,
      true,
      true,
      true,
      true,
    ])
    expect(await isRight(W2)).toBe(true)
  })

  test('a longer body than the file: what is beyond its end is not taken', async () => {
    hub.faults.set(W2, [faults.tooLong])
    expect(await fetched()).toEqual(done())
    expect(await isRight(W2)).toBe(true)
  })

  test('a hub without ranges: the file comes whole, and right', async () => {
    hub.rangeless = true
    hub.faults.set(W2, [faults.cutAfter(70_000)])
    expect(await fetched()).toEqual(done())
    expect(await isRight(W2)).toBe(true)
  })

  test('a corrupt file is fetched once more', async () => {
    hub.faults.set(W2, [faults.corrupt])
    expect(await fetched()).toEqual(done())
    expect(await isRight(W2)).toBe(true)
    expect(warnings).toMatchObject([{ message: 'fetched file is corrupt', file: W2 }])
  })

  test('a file that is corrupt twice is reported with its name, expected and found sha256, and is not there', async () => {
    hub.faults.set(W2, [faults.corrupt, faults.corrupt])
    const state = await fetched()
    const expected = hub.list().find((f) => f.name === W2)?.sha256 ?? ''
    expect(state).toMatchObject({ kind: 'Failed', reason: 'ModelFileCorrupt' })
    const { message } = state as { message: string }
    expect(message).toMatch(new RegExp(`^${W2} of hf://demo/tiny: expected sha256 ${expected}, found [0-9a-f]{64}`))
    expect(message).not.toContain(`found ${expected}`)
    expect(await filesHere()).not.toContain(W2)
  })

  test('a hub that never answers well is given up with its last word; what came stays for the next try', async () => {
    hub.faults.set(W2, [faults.cutAfter(80_000), ...Array.from({ length: 9 }, () => faults.status(502))])
    expect(await fetched()).toMatchObject({
      kind: 'Failed',
      reason: 'ModelFetchFailed',
      message: expect.stringContaining('the hub answers HTTP 502'),
    })
    hub.faults.clear()
    const { size } = await stat(join(dir, `${W2}.part`))
    expect(size).toBeGreaterThan(0)
    expect(await fetched(shardOf('next'))).toEqual(done())
    expect(hub.asked.filter((a) => a.file === W2).at(-1)?.from).toBe(size)
  })

  test('a gated repository is told at once, with what to do', async () => {
    hub.faults.set('config.json', [faults.status(403)])
    expect(await fetched()).toMatchObject({
      kind: 'Failed',
      reason: 'ModelAccessDenied',
      message: expect.stringMatching(/HTTP 403.*HF_TOKEN/),
    })
    expect(hub.asked.filter((a) => a.file === 'config.json')).toHaveLength(1)
  })

  test('a hub with a certificate of a stranger is told at once, with what to set', async () => {
    const secure = createServer(await ownTls())
    let tries = 0
    secure.on('connection', () => (tries += 1))
    await new Promise<void>((resolve) => secure.listen(0, '127.0.0.1', resolve))
    const url = `https://127.0.0.1:${(secure.address() as AddressInfo).port}/`
    const request: FetchDoors['request'] = (address, options) => ({ ...doors.request(address, options), url })
    expect(await fetched(shardOf(), newFetcher({ request }))).toMatchObject({
      kind: 'Failed',
      reason: 'ModelFetchFailed',
      message: expect.stringMatching(/^fetch config\.json of .*not trusted here.*set NODE_EXTRA_CA_CERTS/),
    })
    // The two small files, side by side.
    expect(tries).toBeLessThanOrEqual(2)
    await new Promise((resolve) => secure.close(resolve))
  })

  test('a list that would lead out of the folder is refused', async () => {
    const files = [{ name: '../evil', sizeBytes: 1, sha256: '0'.repeat(64) }]
    expect(await fetched(shardOf('chat', undefined, files))).toMatchObject({ kind: 'Failed' })
    expect(hub.asked).toEqual([])
  })
})

describe('one GGUF file at https://', () => {
  const SOURCE = 'https://files.example/models/tiny.gguf'
  const here = () => join(modelsDir, 'https', `files.example--tiny@${COMMIT.slice(0, 12)}`)
  const shardWith = (file: Partial<ModelFile>, name = 'chat'): Shard => {
    const files = [{ name: 'tiny.gguf', sizeBytes: 200_000, ...file }]
    return wantedShard({ group: `${name}-0`, source: SOURCE, digest: 'sha256:d', revision: COMMIT, files })
  }
  /** As the real door, but that name is the test's hub. */
  const request: FetchDoors['request'] = (address, options) =>
    hubRequests({ endpoint: doors.endpoint })(
      address.replace('https://files.example/models', `${doors.endpoint}/cdn`),
      options,
    )
  beforeEach(() => {
    hub.files.set('tiny.gguf', weights(7))
    hub.etag = '"v1"'
  })

  test('lies in a folder of its own, verified by its sha256 where that is known', async () => {
    const sha256 = createHash('sha256').update(weights(7)).digest('hex')
    const fetcher = newFetcher({ request })
    expect(await fetched(shardWith({ sha256 }), fetcher)).toEqual({ kind: 'Done', dir: here() })
    expect((await readFile(join(here(), 'tiny.gguf'))).equals(weights(7))).toBe(true)
    expect(await fetchedModels(modelsDir, 'boot')).toMatchObject([{ source: SOURCE, state: 'Present', dir: here() }])
    expect(await fetched(shardWith({ sha256: '0'.repeat(64) }, 'other'), fetcher)).toMatchObject({
      reason: 'ModelFileCorrupt',
    })
  })

  test('is resumed only as long as the server says the same of it', async () => {
    hub.faults.set('tiny.gguf', [
      (response, send) => {
        response.writeHead(200, { 'content-length': send().length, etag: '"v1"' })
        response.write(send(90_000), () => response.socket?.end())
      },
    ])
    expect(await fetched(shardWith({ etag: '"v1"' }), newFetcher({ request }))).toEqual({ kind: 'Done', dir: here() })
    expect(hub.asked.map(({ ifRange }) => ifRange)).toEqual([undefined, '"v1"'])
  })

  test('that has changed since it was planned with is refused, with what to do', async () => {
    hub.etag = '"v2"'
    expect(await fetched(shardWith({ etag: '"v1"' }), newFetcher({ request }))).toMatchObject({
      kind: 'Failed',
      message: expect.stringContaining('has changed since it was planned with: delete the Model'),
    })
  })
})

describe('what is on disk', () => {
  test('what an earlier boot of the machine did not flush to the disk is read again before it counts', async () => {
    const fetcher = newFetcher()
    await fetched(shardOf(), fetcher)
    await fetcher.close()
    const path = join(dir, '.mctl.json')
    const record = JSON.parse(await readFile(path, 'utf8')) as { sealed: Record<string, { bootId?: string }> }
    expect(Object.values(record.sealed).map(({ bootId }) => bootId)).toEqual(Array(5).fill(undefined))
    const seal = record.sealed[W2]
    await writeFile(
      path,
      JSON.stringify({ ...record, sealed: { ...record.sealed, [W2]: { ...seal, bootId: 'before' } } }),
    )
    expect(await fetchedModels(modelsDir, 'boot')).toMatchObject([{ state: 'Partial' }])
    expect(await fetchedModels(modelsDir, 'before')).toMatchObject([{ state: 'Present' }])
    expect(await fetched(shardOf('next'))).toEqual(done())
    expect(await fetchedModels(modelsDir, 'boot')).toMatchObject([{ state: 'Present' }])
    expect(hub.asked).toHaveLength(5)
  })

  test('a fetch that was broken off goes on from its parts', async () => {
    hub.faults.set(W2, [faults.stallAfter(90_000)])
    const first = newFetcher({ clock: systemClock })
    const shard = shardOf()
    first.begin(shard)
    await reached(first, shard, (s) => s.kind === 'Fetching' && s.progress?.doneBytes === 490_002 + index.length)
    await first.close()
    expect(await filesHere()).toContain(`${W2}.part`)
    expect(await fetchedModels(modelsDir, 'boot')).toMatchObject([{ state: 'Fetching' }])
    expect(await fetched()).toEqual(done())
    expect(hub.sentBytes(W2)).toBe(200_000)
    expect(hub.asked.filter((a) => a.file !== W2)).toHaveLength(4)
  })

  test('a part whose bytes are wrong costs one more fetch of the file', async () => {
    await mkdir(dir, { recursive: true })
    await writeFile(join(dir, `${W2}.part`), Buffer.alloc(50_000, 9))
    expect(await fetched()).toEqual(done())
    expect(await isRight(W2)).toBe(true)
    expect(hub.asked.filter((a) => a.file === W2).map((a) => a.from)).toEqual([50_000, 0])
  })

  test('a file that was tampered with is found before anything starts, and fetched again', async () => {
    await fetched()
    const before = await stat(join(dir, W2))
    await writeFile(join(dir, W2), Buffer.alloc(200_000, 7))
    await utimes(join(dir, W2), before.atime, before.mtime)
    expect(await fetchedModels(modelsDir, 'boot')).toMatchObject([
      { state: 'Corrupt', problem: expect.stringContaining(W2) },
    ])
    expect(await fetched(shardOf('next'))).toEqual(done())
    expect(await isRight(W2)).toBe(true)
    expect(warnings).toMatchObject([{ message: 'file of a model is corrupt and fetched again', file: W2 }])
  })

  test('a file that is right without a record is taken over, not fetched', async () => {
    await mkdir(dir, { recursive: true })
    await writeFile(join(dir, W2), weights(2))
    expect(await fetched()).toEqual(done())
    expect(hub.sentBytes(W2)).toBe(0)
  })

  test('two fetchers of one folder: the second waits and fetches nothing', async () => {
    const [one, two] = [newFetcher(), newFetcher()]
    expect(await Promise.all([fetched(shardOf('a'), one), fetched(shardOf('b'), two)])).toEqual([done(), done()])
    expect(hub.asked).toHaveLength(5)
  })
})

describe('who needs a model', () => {
  const prunable = async () => (await fetchedModels(modelsDir, 'boot')).map((model) => model.prunable === true)
  /** As the agent's passes do, until the marks are on the disk. */
  const keep = async (fetcher: ModelFetcher, wanted: readonly string[]) => {
    const told = new Promise<void>((resolve) => void fetcher.onChange(resolve))
    fetcher.keepOnly((uid) => wanted.includes(uid), [])
    await told
  }

  test('is marked while a shard needs it, and afterwards it may go; another agent of the machine keeps it', async () => {
    const one = newFetcher()
    const shard = shardOf('a')
    await fetched(shard, one)
    expect(await fetchedModels(modelsDir, 'boot')).toMatchObject([{ revision: COMMIT }])
    await keep(one, [shard.metadata.uid])
    expect([await prunable(), one.usedFolders()]).toEqual([[false], [dir]])
    await keep(one, [])
    expect([await prunable(), one.usedFolders()]).toEqual([[true], []])
    const other = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 60_000)'])
    const startTime = encodeURIComponent(startTimeOf(other.pid ?? 0) ?? '')
    await writeFile(join(dir, `.used-by-${other.pid}-${startTime}`), '')
    expect(await prunable()).toEqual([false])
    other.kill('SIGKILL')
    await once(other, 'close')
    expect(await prunable()).toEqual([true])
  })
})

describe('room on the disk', () => {
  test('a fetch that has none waits, and goes on when there is', async () => {
    volume = { freeBytes: 2_000_000_000, totalBytes: 20e9 }
    const fetcher = newFetcher()
    const shard = shardOf()
    fetcher.begin(shard)
    const full = await reached(fetcher, shard, ({ kind }) => kind === 'DiskFull')
    expect(full).toMatchObject({ message: expect.stringContaining('keeps 1.9Gi of it') })
    expect(hub.asked).toEqual([])
    volume = { freeBytes: 3_000_000_000, totalBytes: 20e9 }
    expect(await reached(fetcher, shard, ended)).toEqual(done())
  })

  test('unwanted fetched models make room, the longest unused first, and only as many as are needed', async () => {
    const old = async (name: string, day: string) => {
      const path = join(modelsDir, 'hf', name)
      await mkdir(path, { recursive: true })
      await writeFile(join(path, '.mctl.json'), '{}')
      await utimes(join(path, '.mctl.json'), new Date(day), new Date(day))
      return path
    }
    await old('a--newer@1', '2026-03-01')
    await old('a--older@1', '2026-01-01')
    const used = await old('a--used@1', '2025-01-01')
    await mkdir(join(modelsDir, 'mine'))
    const rooms = [2_000_000_000, 3_000_000_000]
    const fetcher = newFetcher({
      volume: () => Promise.resolve({ totalBytes: 20e9, freeBytes: rooms.shift() ?? 3_000_000_000 }),
    })
    const shard = shardOf()
    fetcher.begin(shard)
    fetcher.keepOnly(() => true, [used])
    expect(await reached(fetcher, shard, ended)).toEqual(done())
    const left = await readdir(join(modelsDir, 'hf'))
    expect(left.sort()).toEqual(['a--newer@1', 'a--used@1', `demo--tiny@${COMMIT.slice(0, 12)}`])
    expect(await readdir(modelsDir)).toContain('mine')
  })

  test('a shard that is no longer wanted ends its fetch', async () => {
    hub.faults.set(W2, [faults.stallAfter(90_000)])
    const fetcher = newFetcher({ clock: systemClock })
    const shard = shardOf()
    fetcher.begin(shard)
    await reached(fetcher, shard, (s) => s.kind === 'Fetching' && s.progress?.doneBytes === 490_002 + index.length)
    fetcher.keepOnly(() => false, [])
    await fetcher.close()
    expect(fetcher.states().size).toBe(0)
    expect(hub.sentBytes(W2)).toBe(90_000)
  })
})
