/**
 * What fetching costs beside curl: the same file from the same hub, and from another node's door, each a process of its
 * own; with the flush to the disk and without it; and the memory for it.
 */
import { execFileSync, spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createReadStream, mkdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { ModelFetcher } from '../../agent/fetch/fetcher.ts'
import { hubGet, peerGet } from '../../agent/fetch/hub.ts'
import type { Peer } from '../../src/api/peers.ts'
import { systemClock, systemRandom } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { nodeArgv } from '../../src/lib/nodeargv.ts'
import { wantedShard } from '../support/agentworld.ts'
import { freePort, until } from '../support/processes.ts'
import type { Row } from './stats.ts'

const BYTES = 512 * 2 ** 20
const ROUNDS = 4
const COMMIT = '0123456789abcdef0123456789abcdef01234567'
const FILE = 'model.safetensors'

const hubCode = (file: string, port: number): string => `
  const { createReadStream } = require('node:fs')
  require('node:http').createServer((request, response) => {
    response.writeHead(200, { 'content-length': ${BYTES} })
    createReadStream(${JSON.stringify(file)}, { highWaterMark: 1 << 20 }).pipe(response)
  }).listen(${port}, '127.0.0.1')`

/** Milliseconds until every byte is verified, and until it is on the disk itself. */
interface Took {
  readonly verified: number[]
  readonly flushed: number[]
}
interface Run {
  readonly curl: Took
  readonly ours: Took
}
const run = (): Run => ({ curl: { verified: [], flushed: [] }, ours: { verified: [], flushed: [] } })

export async function benchFetch(dir: string): Promise<Row[]> {
  const file = join(dir, 'served')
  writeFileSync(file, '')
  truncateSync(file, BYTES)
  const port = await freePort()
  const endpoint = `http://127.0.0.1:${port}`
  const hub = spawn(process.execPath, ['-e', hubCode(file, port)], { stdio: 'ignore' })
  const started: ChildProcess[] = [hub]
  try {
    await until(() => fetch(endpoint, { method: 'HEAD' }).then(() => true), 10_000, 'the hub of the bench answers')
    const sha256 = await hashOf(file)
    const held = join(dir, 'held')
    await fetchOnce(held, endpoint, sha256, [])
    const peer = await startPeer(held, started)
    const [fromHub, fromPeer] = [run(), run()]
    let rssBytes = 0
    for (let round = 0; round < ROUNDS; round++) {
      curl(dir, `${endpoint}/x`, fromHub.curl)
      rssBytes = Math.max(rssBytes, await timedFetch(dir, endpoint, sha256, [], fromHub.ours))
      curl(dir, `http://127.0.0.1:${peer.port}/v1/files/${sha256}`, fromPeer.curl)
      // Nobody answers at this hub: every byte is the peer's.
      rssBytes = Math.max(rssBytes, await timedFetch(dir, 'http://127.0.0.1:9', sha256, [peer], fromPeer.ours))
    }
    return [
      ...rowsOf('from a hub', fromHub),
      ...rowsOf('from a peer', fromPeer),
      {
        what: 'memory that a fetch of 512 MiB adds',
        value: `${(rssBytes / 2 ** 20).toFixed(0)} MiB`,
        aim: '≤ 100 MiB',
      },
    ]
  } finally {
    for (const child of started) child.kill()
  }
}

function rowsOf(from: string, { curl, ours }: Run): Row[] {
  const rate = (ms: number) => `${(BYTES / ms / 1e3).toFixed(0)} MB/s`
  const beside = (mine: number, its: number) => `${rate(mine)}, curl ${rate(its)}: ${(its / mine).toFixed(2)}`
  const [verified, plain] = [Math.min(...ours.verified), Math.min(...curl.verified)]
  return [
    {
      what: `fetch ${from}, verified, beside curl that verifies nothing`,
      value: beside(verified, plain),
      aim: '≥ 0.8 of curl',
    },
    {
      what: `… and flushed to the disk, beside curl and sync`,
      value: beside(Math.min(...ours.flushed), Math.min(...curl.flushed)),
      aim: '',
    },
  ]
}

async function startPeer(modelsDir: string, started: ChildProcess[]): Promise<Peer> {
  const [node = '', ...argv] = nodeArgv(import.meta.url, 'peer')
  const child = spawn(node, [...argv, modelsDir], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
  started.push(child)
  const [port] = (await once(child, 'message')) as [number]
  return { node: 'held', address: '127.0.0.1', port }
}

function curl(dir: string, url: string, took: Took): void {
  const path = join(dir, 'curled')
  const startMs = performance.now()
  execFileSync('curl', ['-sf', '-o', path, url])
  took.verified.push(performance.now() - startMs)
  execFileSync('sync', [path])
  took.flushed.push(performance.now() - startMs)
  rmSync(path)
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20 })) hash.update(chunk as Uint8Array)
  return hash.digest('hex')
}

/** Returns by how much the memory of this process grew at most. */
async function timedFetch(dir: string, endpoint: string, sha256: string, peers: readonly Peer[], took: Took) {
  const modelsDir = join(dir, 'models')
  const { verifiedMs, flushedMs, grownBytes } = await fetchOnce(modelsDir, endpoint, sha256, peers)
  took.verified.push(verifiedMs)
  took.flushed.push(flushedMs)
  rmSync(modelsDir, { recursive: true })
  return grownBytes
}

/** Fetches the file into an empty folder. */
async function fetchOnce(modelsDir: string, endpoint: string, sha256: string, peers: readonly Peer[]) {
  mkdirSync(modelsDir)
  const fetcher = new ModelFetcher({
    get: hubGet({ endpoint }),
    endpoint,
    peersOf: () => Promise.resolve(peers),
    peers: { own: 'bench', get: peerGet() },
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
