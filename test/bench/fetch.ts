/** What fetching costs beside curl: the same file from the same hub, which is a process of its own; and the memory for it. */
import { execFileSync, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createReadStream, mkdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { ModelFetcher } from '../../agent/fetch/fetcher.ts'
import { hubGet } from '../../agent/fetch/hub.ts'
import { systemClock, systemRandom } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { wantedShard } from '../support/agentworld.ts'
import { freePort, until } from '../support/processes.ts'
import type { Row } from './stats.ts'

const BYTES = 512 * 2 ** 20
const ROUNDS = 3
const COMMIT = '0123456789abcdef0123456789abcdef01234567'
const FILE = 'model.safetensors'

const hubCode = (file: string, port: number): string => `
  const { createReadStream } = require('node:fs')
  require('node:http').createServer((request, response) => {
    response.writeHead(200, { 'content-length': ${BYTES} })
    createReadStream(${JSON.stringify(file)}, { highWaterMark: 1 << 20 }).pipe(response)
  }).listen(${port}, '127.0.0.1')`

export async function benchFetch(dir: string): Promise<Row[]> {
  const file = join(dir, 'served')
  writeFileSync(file, '')
  truncateSync(file, BYTES)
  const port = await freePort()
  const endpoint = `http://127.0.0.1:${port}`
  const hub = spawn(process.execPath, ['-e', hubCode(file, port)], { stdio: 'ignore' })
  try {
    await until(() => fetch(endpoint, { method: 'HEAD' }).then(() => true), 10_000, 'the hub of the bench answers')
    const sha256 = await hashOf(file)
    const curl: number[] = []
    const ours: number[] = []
    let rssBytes = 0
    for (let round = 0; round < ROUNDS; round++) {
      curl.push(timed(() => execFileSync('curl', ['-s', '-o', join(dir, 'curled'), `${endpoint}/x`])))
      const startMs = performance.now()
      rssBytes = Math.max(rssBytes, await fetchOnce(join(dir, `models-${round}`), endpoint, sha256))
      ours.push(performance.now() - startMs)
      rmSync(join(dir, `models-${round}`), { recursive: true })
    }
    const [best, bestCurl] = [Math.min(...ours), Math.min(...curl)]
    const rate = (ms: number) => `${(BYTES / ms / 1e3).toFixed(0)} MB/s`
    return [
      {
        what: 'fetch of 512 MiB, verified, beside curl',
        value: `${rate(best)}, curl ${rate(bestCurl)}: ${(bestCurl / best).toFixed(2)}`,
        aim: '≥ 0.8 of curl',
      },
      {
        what: 'memory that a fetch of 512 MiB adds',
        value: `${(rssBytes / 2 ** 20).toFixed(0)} MiB`,
        aim: '≤ 100 MiB',
      },
    ]
  } finally {
    hub.kill()
  }
}

function timed(run: () => void): number {
  const startMs = performance.now()
  run()
  return performance.now() - startMs
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20 })) hash.update(chunk as Uint8Array)
  return hash.digest('hex')
}

/** Fetches the file into an empty folder; returns by how much the memory of this process grew at most. */
async function fetchOnce(modelsDir: string, endpoint: string, sha256: string): Promise<number> {
  mkdirSync(modelsDir)
  const fetcher = new ModelFetcher({
    get: hubGet({ endpoint }),
    endpoint,
    modelsDir,
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
  await fetcher.close()
  return most - before
}
