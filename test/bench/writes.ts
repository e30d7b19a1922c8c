/**
 * Durable writes through the whole API, and how soon a watcher knows: a real server, 64 connections from this process.
 * The load is made of ready frames (load.ts), so that it is the server that is measured; the same by 64 typed clients
 * stands beside it, and how many calls the wire carries that write nothing.
 */
import type { ChildProcess } from 'node:child_process'
import { fork } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { connect } from '../../src/rpc/grpcclient.ts'
import type { Client } from '../../src/rpc/messages.ts'
import { Running, freePort, until } from '../support/processes.ts'
import { Load } from './load.ts'
import type { Row } from './stats.ts'
import { ms, percentile, sortedOf } from './stats.ts'
import type { Told } from './watcher.ts'

const CLIENTS = 64
const SECONDS = 5
/** Until the hot code is compiled. */
const WARM_UP_SECONDS = 3
const LATENCY_WRITES = 1500
const LATENCY_WARM_UP = 300

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
  )
  const first = connect(address, { user: 'bench' })
  try {
    await until(() => first.version({}), 20_000, 'the server answers')
    const loads = await Promise.all(Array.from({ length: CLIENTS }, () => Load.open(address, 'apply')))
    const write = (client: number) => loads[client]?.call(aWrite(client))
    await rate(write, WARM_UP_SECONDS)
    const cpuBefore = cpuMs(server.pid)
    const writes = await rate(write, SECONDS)
    const cpuPerWrite = ((cpuMs(server.pid) - cpuBefore) * 1000) / writes.count
    for (const load of loads) load.close()
    const empty = await emptyRate(address)
    const typed = await typedRate(address)
    const delays = sortedOf(await watchDelays(first, address))
    return [
      {
        what: `durable writes/s, ${CLIENTS} connections, whole API`,
        value: writes.perSecond.toFixed(0),
        aim: '≥ 2500',
      },
      {
        what: '… server’s CPU time per write',
        value: Number.isNaN(cpuPerWrite) ? '-' : `${cpuPerWrite.toFixed(0)} µs`,
        aim: '',
      },
      { what: '… calls/s that write nothing', value: empty.toFixed(0), aim: '' },
      { what: `… writes/s by ${CLIENTS} typed clients in one process`, value: typed.toFixed(0), aim: '' },
      { what: 'apply → watch delivery, p50', value: ms(percentile(delays, 0.5)), aim: '≤ 2 ms' },
      { what: 'apply → watch delivery, p99', value: ms(percentile(delays, 0.99)), aim: '≤ 11 ms' },
    ]
  } finally {
    first.close()
    await server.signal('SIGTERM')
  }
}

let writtenRevision = 0
/** Each write says something new: a write that changes nothing would cost nothing. */
const aWrite = (client: number) => ({
  object: aModel(`bench-${client}`, ++writtenRevision),
  options: { fieldManager: 'bench' },
})

interface Rate {
  readonly count: number
  readonly perSecond: number
}

/** All clients at once, each with one call under way. */
async function rate(call: (client: number) => Promise<unknown> | undefined, seconds: number): Promise<Rate> {
  const startMs = performance.now()
  const endMs = startMs + seconds * 1000
  let count = 0
  const clients = Array.from({ length: CLIENTS }, async (_, client) => {
    for (; performance.now() < endMs; count++) await call(client)
  })
  await Promise.all(clients)
  return { count, perSecond: count / ((performance.now() - startMs) / 1000) }
}

async function emptyRate(address: string): Promise<number> {
  const loads = await Promise.all(Array.from({ length: CLIENTS }, () => Load.open(address, 'version')))
  await rate((client) => loads[client]?.call({}), WARM_UP_SECONDS)
  const { perSecond } = await rate((client) => loads[client]?.call({}), SECONDS)
  for (const load of loads) load.close()
  return perSecond
}

async function typedRate(address: string): Promise<number> {
  const clients = Array.from({ length: CLIENTS }, () => connect(address, { user: 'bench' }))
  const write = (client: number) => clients[client]?.apply(aWrite(client))
  await rate(write, WARM_UP_SECONDS)
  const { perSecond } = await rate(write, SECONDS)
  for (const client of clients) client.close()
  return perSecond
}

/** User and system time of a process so far; NaN where there is no /proc. In steps of 10 ms. */
function cpuMs(pid: number): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1)?.split(' ') ?? []
    return 10 * (Number(fields[11]) + Number(fields[12]))
  } catch {
    return Number.NaN
  }
}

/**
 * One writer, one watcher in a process of its own: ms from the call of apply until the watcher holds the object. The next
 * write waits for both, so that what is measured is the way and not a queue.
 */
async function watchDelays(writer: Client, address: string): Promise<number[]> {
  const name = 'bench-watch'
  const watcher = fork(join(import.meta.dirname, 'watcher.ts'), [address, name])
  try {
    await told(watcher, (message) => 'listens' in message)
    const delays: number[] = []
    for (let n = -LATENCY_WARM_UP; n < LATENCY_WRITES; n++) {
      const startNs = process.hrtime.bigint()
      const delivered = told(watcher, (message) => 'revision' in message)
      await writer.apply({ object: aModel(name, n), options: { fieldManager: 'bench' } })
      const message = await delivered
      if (n >= 0 && 'atNs' in message) delays.push(Number(BigInt(message.atNs) - startNs) / 1e6)
    }
    return delays
  } finally {
    watcher.disconnect()
  }
}

/** The next message of the watcher that is meant; rejects when its process ends. */
function told(watcher: ChildProcess, isMeant: (message: Told) => boolean): Promise<Told> {
  return new Promise((resolve, reject) => {
    const settle = (run: () => void) => {
      watcher.off('message', onMessage)
      watcher.off('exit', onExit)
      run()
    }
    const onMessage = (message: unknown) => {
      if (isMeant(message as Told)) settle(() => resolve(message as Told))
    }
    const onExit = () => settle(() => reject(new Error('the watcher of the bench ended')))
    watcher.on('message', onMessage)
    watcher.on('exit', onExit)
  })
}
