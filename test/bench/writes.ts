/** Durable writes through the whole API, and how soon a watcher knows: a real server, 64 connections from this process. */
import { performance } from 'node:perf_hooks'
import { connect } from '../../src/rpc/grpcclient.ts'
import type { Client } from '../../src/rpc/messages.ts'
import { Running, freePort, until } from '../support/processes.ts'
import type { Row } from './stats.ts'
import { ms, percentile, sortedOf } from './stats.ts'

const CLIENTS = 64
const SECONDS = 5
const LATENCY_WRITES = 1500

const shape = {
  architecture: 'llama',
  layers: 28,
  hiddenSize: 3072,
  intermediateSize: 8192,
  attentionHeads: 24,
  kvHeads: 8,
  headDim: 128,
  vocabSize: 128256,
  parameters: 3213000000,
  weightBytes: 1807312500,
}
const aModel = (name: string, revision: number) => ({
  apiVersion: 'mctl.dev/v1alpha1',
  kind: 'Model',
  metadata: { name, annotations: { revision: String(revision) } },
  spec: { shape },
})

export async function benchWrites(dir: string): Promise<Row[]> {
  const address = `127.0.0.1:${await freePort()}`
  const server = new Running(
    ['server', '--data-dir', `${dir}/server`, '--listen', address, '--gateway', 'none'],
    `${dir}/server.log`,
    { MCTL_LOG: 'warn' },
  )
  const first = connect(address, { user: 'bench' })
  try {
    await until(() => first.version({}), 20_000, 'the server answers')
    await throughput(address, 1)
    const perSecond = await throughput(address, SECONDS)
    const delays = sortedOf(await watchDelays(first, connect(address, { user: 'bench' })))
    return [
      { what: `durable writes/s, ${CLIENTS} clients, whole API`, value: perSecond.toFixed(0), aim: '≥ 2500' },
      { what: 'apply → watch delivery, p50', value: ms(percentile(delays, 0.5)), aim: '≤ 2 ms' },
      { what: 'apply → watch delivery, p99', value: ms(percentile(delays, 0.99)), aim: '≤ 11 ms' },
    ]
  } finally {
    first.close()
    await server.signal('SIGTERM')
  }
}

async function throughput(address: string, seconds: number): Promise<number> {
  const clients = Array.from({ length: CLIENTS }, () => connect(address, { user: 'bench' }))
  const endMs = performance.now() + seconds * 1000
  const startMs = performance.now()
  let writes = 0
  await Promise.all(
    clients.map(async (client, i) => {
      for (let n = 0; performance.now() < endMs; n++) {
        await client.apply({
          object: aModel(`bench-${i}`, Math.round(startMs) + n),
          options: { fieldManager: 'bench' },
        })
        writes++
      }
      client.close()
    }),
  )
  return writes / ((performance.now() - startMs) / 1000)
}

/** One writer, one watcher on a connection of its own: ms from the call of apply until the watcher holds the object. */
async function watchDelays(writer: Client, watcher: Client): Promise<number[]> {
  const stop = new AbortController()
  const sentMs = new Map<string, number>()
  const delays: number[] = []
  let ready = () => {}
  const listening = new Promise<void>((resolve) => (ready = resolve))
  const watching = (async () => {
    for await (const event of watcher.watch({ kind: 'Model' }, { signal: stop.signal })) {
      if (event.type === 'BOOKMARK') ready()
      if (event.type !== 'ADDED' && event.type !== 'MODIFIED') continue
      const sent = sentMs.get(event.object.metadata.annotations?.['revision'] ?? '')
      if (sent !== undefined && event.object.metadata.name === 'bench-watch') delays.push(performance.now() - sent)
      if (delays.length >= LATENCY_WRITES) return
    }
  })()
  await listening
  for (let n = 0; n < LATENCY_WRITES; n++) {
    sentMs.set(String(n), performance.now())
    await writer.apply({ object: aModel('bench-watch', n), options: { fieldManager: 'bench' } })
  }
  await watching
  stop.abort()
  watcher.close()
  return delays
}
