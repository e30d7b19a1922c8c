/**
 * What fetching costs beside curl: the same file from the same server, a hub or another node's door, each a process of its
 * own; curl onto the same disk, by turns. Beside plain curl, which verifies nothing; beside what a user would do by hand
 * for the same promise, curl and then a hash over the file; and both flushed to the disk. Then what the fetch costs its
 * process: memory, and how long the event loop is held up.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import {
  closeSync,
  createReadStream,
  mkdirSync,
  openSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { monitorEventLoopDelay, performance } from 'node:perf_hooks'
import { ModelFetcher } from '../../agent/fetch/fetcher.ts'
import { hubRequests, peerDoors } from '../../agent/fetch/hub.ts'
import { threadedTransfers } from '../../agent/fetch/transfer/threads.ts'
import type { Transfers } from '../../agent/fetch/transfer/transfers.ts'
import type { Peer } from '../../src/api/peers.ts'
import { systemClock, systemRandom } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { nodeArgv } from '../../src/lib/nodeargv.ts'
import { wantedShard } from '../support/agentworld.ts'
import { freePort, until } from '../support/processes.ts'
import type { Row } from './stats.ts'
import { percentile, sortedOf } from './stats.ts'

const BYTES = 512 * 2 ** 20
const ROUNDS = 5
const COMMIT = '0123456789abcdef0123456789abcdef01234567'
const FILE = 'model.safetensors'

const hubCode = (file: string, port: number): string => `
  const { createReadStream } = require('node:fs')
  require('node:http').createServer((request, response) => {
    response.writeHead(200, { 'content-length': ${BYTES} })
    createReadStream(${JSON.stringify(file)}, { highWaterMark: 1 << 20 }).pipe(response)
  }).listen(${port}, '127.0.0.1')`

/** Milliseconds until the bytes are here, until they are verified, and until they are on the disk itself. */
interface Took {
  readonly here: number[]
  readonly verified: number[]
  readonly flushed: number[]
}
interface Run {
  readonly curl: Took
  readonly ours: Took
}
const run = (): Run => ({
  curl: { here: [], verified: [], flushed: [] },
  ours: { here: [], verified: [], flushed: [] },
})

export async function benchFetch(dir: string): Promise<Row[]> {
  const file = join(dir, 'served')
  writeFileSync(file, '')
  truncateSync(file, BYTES)
  const port = await freePort()
  const endpoint = `http://127.0.0.1:${port}`
  const hub = spawn(process.execPath, ['-e', hubCode(file, port)], { stdio: 'ignore' })
  const started: ChildProcess[] = [hub]
  // As in an agent that fetches more than one file: the thread is there.
  const transfers = threadedTransfers({ clock: systemClock, threadsMax: 1 })
  try {
    await until(() => fetch(endpoint, { method: 'HEAD' }).then(() => true), 10_000, 'the hub of the bench answers')
    const sha256 = await hashOf(file)
    const held = join(dir, 'held')
    await fetchOnce(transfers, held, endpoint, sha256, [])
    const peer = await startPeer(held, started)
    const [fromHub, fromPeer] = [run(), run()]
    let rssBytes = 0
    const [p99s, longest]: [number[], number[]] = [[], []]
    const ours = async (hubEndpoint: string, peers: readonly Peer[], took: Took) => {
      warmMemory(dir)
      const delays = monitorEventLoopDelay({ resolution: 1 })
      delays.enable()
      rssBytes = Math.max(rssBytes, await timedFetch(transfers, dir, hubEndpoint, sha256, peers, took))
      delays.disable()
      p99s.push(delays.percentile(99))
      longest.push(delays.max)
    }
    for (let round = 0; round < ROUNDS; round++) {
      curl(dir, `${endpoint}/x`, fromHub.curl)
      await ours(endpoint, [], fromHub.ours)
      // Nobody answers at this hub: every byte is the peer's.
      await ours('http://127.0.0.1:9', [peer], fromPeer.ours)
      curl(dir, `http://127.0.0.1:${peer.port}/v1/files/${sha256}`, fromPeer.curl)
    }
    const lagMs = (ns: number) => `${Math.max(0, ns / 1e6 - 1).toFixed(1)} ms`
    return [
      ...rowsOf('from a hub', fromHub),
      ...rowsOf('from a peer', fromPeer),
      {
        what: 'event loop of the process held up by it, p99 (longest)',
        value: `${lagMs(median(p99s))} (${lagMs(Math.max(...longest))})`,
        aim: '< 10 ms',
      },
      {
        what: 'memory that a fetch of 512 MiB adds',
        value: `${(rssBytes / 2 ** 20).toFixed(0)} MiB`,
        aim: '≤ 100 MiB',
      },
    ]
  } finally {
    await transfers.close()
    for (const child of started) child.kill()
  }
}

const median = (values: readonly number[]): number => percentile(sortedOf(values), 0.5)

function rowsOf(from: string, { curl, ours }: Run): Row[] {
  const rate = (ms: number) => `${(BYTES / ms / 1e3).toFixed(0)} MB/s`
  const row = (what: string, mine: number, its: number, aim: string): Row => ({
    what,
    value: `${rate(mine)}, it ${rate(its)}: ${(its / mine).toFixed(2)}`,
    aim,
  })
  const verified = median(ours.verified)
  return [
    row(`fetch ${from}, verified, beside curl that verifies nothing`, verified, median(curl.here), '≥ 0.8 of curl'),
    row(`… beside curl and then ${HASHER.join(' ')}`, verified, median(curl.verified), ''),
    row('… and flushed to the disk, beside curl and sync', median(ours.flushed), median(curl.flushed), ''),
  ]
}

async function startPeer(modelsDir: string, started: ChildProcess[]): Promise<Peer> {
  const [node = '', ...argv] = nodeArgv(import.meta.url, 'peer')
  const child = spawn(node, [...argv, modelsDir], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
  started.push(child)
  const [port] = (await once(child, 'message')) as [number]
  return { node: 'held', address: '127.0.0.1', port }
}

/** The fastest that the system has: on macOS there is only the second. */
const HASHER = spawnSync('sha256sum', ['--version']).status === 0 ? ['sha256sum'] : ['shasum', '-a', '256']

/**
 * Memory that nobody used for a while costs more at first (a virtual machine has given it back): whoever is measured
 * finds it as the other does.
 */
function warmMemory(dir: string): void {
  const path = join(dir, 'warm')
  const descriptor = openSync(path, 'w')
  const piece = Buffer.alloc(2 ** 20)
  for (let bytes = 0; bytes < BYTES; bytes += piece.length) writeSync(descriptor, piece)
  closeSync(descriptor)
  rmSync(path)
}

function curl(dir: string, url: string, took: Took): void {
  const path = join(dir, 'curled')
  warmMemory(dir)
  const startMs = performance.now()
  execFileSync('curl', ['-sf', '-o', path, url])
  took.here.push(performance.now() - startMs)
  execFileSync('sync', [path])
  took.flushed.push(performance.now() - startMs)
  const [hasher = '', ...args] = HASHER
  const hashMs = performance.now()
  execFileSync(hasher, [...args, path])
  took.verified.push((took.here.at(-1) ?? 0) + performance.now() - hashMs)
  rmSync(path)
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20 })) hash.update(chunk as Uint8Array)
  return hash.digest('hex')
}

/** Returns by how much the memory of this process grew at most. */
async function timedFetch(
  transfers: Transfers,
  dir: string,
  endpoint: string,
  sha256: string,
  peers: readonly Peer[],
  took: Took,
) {
  const modelsDir = join(dir, 'models')
  const { verifiedMs, flushedMs, grownBytes } = await fetchOnce(transfers, modelsDir, endpoint, sha256, peers)
  took.verified.push(verifiedMs)
  took.flushed.push(flushedMs)
  rmSync(modelsDir, { recursive: true })
  return grownBytes
}

/** Fetches the file into an empty folder. */
async function fetchOnce(
  transfers: Transfers,
  modelsDir: string,
  endpoint: string,
  sha256: string,
  peers: readonly Peer[],
) {
  mkdirSync(modelsDir)
  const fetcher = new ModelFetcher({
    transfers: { ...transfers, close: () => Promise.resolve() },
    request: hubRequests({ endpoint }),
    endpoint,
    peersOf: () => Promise.resolve(peers),
    peers: { own: 'bench', ...peerDoors() },
    modelsDir,
    bootId: 'bench',
    volume: () => Promise.resolve(undefined),
    lock: () => ({ release: () => {} }),
    clock: systemClock,
    random: systemRandom,
    log: silentLogger,
  })
  const files = [{ name: FILE, sizeBytes: BYTES, sha256 }]
  const shard = wantedShard({ source: 'hf://bench/one', revision: COMMIT, files })
  const before = process.memoryUsage.rss()
  let most = before
  const startMs = performance.now()
  const done = new Promise<void>((resolve, reject) => {
    fetcher.onChange(() => {
      most = Math.max(most, process.memoryUsage.rss())
      const state = fetcher.states().get(shard.metadata.uid)
      if (state?.kind === 'Done') resolve()
      if (state?.kind === 'Failed') reject(new Error(state.message))
    })
  })
  fetcher.begin(shard)
  await done
  const verifiedMs = performance.now() - startMs
  await fetcher.close()
  return { verifiedMs, flushedMs: performance.now() - startMs, grownBytes: most - before }
}
