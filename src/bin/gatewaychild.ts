/**
 * The server's own gateway: a process beside it that serves on when the server crashes. A server that comes back
 * adopts it when it is of the same cluster and on the same address; a planned stop stops it, too.
 */
import { spawn } from 'node:child_process'
import { openSync } from 'node:fs'
import { join } from 'node:path'
import { every, sleep, systemClock } from '../lib/clock.ts'
import { OpError, messageOf } from '../lib/errors.ts'
import type { Logger } from '../lib/log.ts'
import { nodeArgv } from '../lib/nodeargv.ts'
import { isAlive, signalProcess } from '../lib/process.ts'
import type { GatewayRecord } from './gatewayrecord.ts'
import type { TlsFiles } from './gatewaytls.ts'
import { gatewayRecordFile, gatewayUrlOf, readGatewayRecord, removeGatewayRecord } from './gatewayrecord.ts'

export interface GatewayChildOptions {
  readonly dataDir: string
  readonly server: string
  /** File with the gateway's key and certificate; undefined: the cluster has no identities. */
  readonly credentials: string | undefined
  readonly listen: string
  /** What it shows to clients; undefined: plain HTTP. */
  readonly tls: TlsFiles | undefined
  readonly clusterUid: string
  readonly log: Logger
}

const START_TIMEOUT_MS = 20_000
const STOP_TIMEOUT_MS = 15_000
const POLL_MS = 25
const LOOK_MS = 1_000

/** The one gateway of a server, to its planned end. */
export class GatewayBeside {
  #record: GatewayRecord | undefined
  #kept: Promise<void> = Promise.resolve()

  /** Where clients reach it; undefined until it was started. */
  url(): string | undefined {
    return this.#record && gatewayUrlOf(this.#record)
  }

  /**
   * Starts it, or adopts the one that a crashed server left. Until the signal aborts it is started anew when it dies:
   * clients have this one address. Rejects with OpError Unavailable when it does not come up.
   */
  async start(options: GatewayChildOptions, signal: AbortSignal): Promise<void> {
    const first = await startOrAdopt(options)
    this.#record = first
    this.#kept = keep(first, options, signal, (next) => (this.#record = next))
  }

  /** After the signal aborted. */
  async stop(): Promise<void> {
    await this.#kept
    if (this.#record !== undefined) await stopGateway(this.#record)
  }
}

async function startOrAdopt(options: GatewayChildOptions): Promise<GatewayRecord> {
  const file = gatewayRecordFile(options.dataDir)
  const old = readGatewayRecord(file)
  if (old !== undefined && isAlive(old.pid, old.startTime)) {
    if (isAsAsked(old, options)) {
      options.log.info('gateway adopted', { pid: old.pid, address: old.address })
      return old
    }
    await stopGateway(old)
  }
  removeGatewayRecord(file)
  return start(options, file)
}

/** `onGateway` is told of each new one. */
async function keep(
  first: GatewayRecord,
  options: GatewayChildOptions,
  signal: AbortSignal,
  onGateway: (record: GatewayRecord) => void,
): Promise<void> {
  let record = first
  await every(systemClock, LOOK_MS, signal, async () => {
    if (isAlive(record.pid, record.startTime)) return
    options.log.warn('gateway is gone and is started anew', { pid: record.pid, address: record.address })
    try {
      record = await startOrAdopt({ ...options, listen: record.address })
      onGateway(record)
    } catch (error) {
      options.log.error('gateway not started', { error: messageOf(error) })
    }
  })
}

const isAsAsked = ({ clusterUid, address, tls }: GatewayRecord, asked: GatewayChildOptions) =>
  clusterUid === asked.clusterUid && sameAddress(address, asked.listen) && tls === asked.tls?.cert

/** Port 0 asks for any port: the one that it has is as good as another. */
const sameAddress = (bound: string, asked: string) =>
  bound === asked || (asked.endsWith(':0') && bound.startsWith(asked.slice(0, -1)))

async function start(options: GatewayChildOptions, file: string): Promise<GatewayRecord> {
  const logFile = join(options.dataDir, 'gateway.log')
  const log = openSync(logFile, 'a', 0o600)
  const [node = process.execPath, ...args] = nodeArgv(import.meta.url, 'mctl')
  const child = spawn(
    node,
    [
      ...[...args, 'gateway', '--server', options.server, '--listen', options.listen, '--record', file],
      ...(options.tls === undefined ? ['--insecure-http'] : ['--cert', options.tls.cert, '--key', options.tls.key]),
      ...(options.credentials === undefined ? [] : ['--credentials', options.credentials]),
    ],
    {
      // Its own session: Ctrl-C is ours to pass on, and a crash of ours is none of its.
      detached: true,
      stdio: ['ignore', log, log],
    },
  )
  let exited: number | null | undefined
  child.on('exit', (code) => (exited = code))
  child.unref()
  for (let waitedMs = 0; waitedMs < START_TIMEOUT_MS; waitedMs += POLL_MS) {
    const record = readGatewayRecord(file)
    if (record !== undefined) return record
    if (exited !== undefined) break
    await sleep(systemClock, POLL_MS)
  }
  throw new OpError(
    'Unavailable',
    `start the gateway on ${options.listen}: ${exited === undefined ? 'it did not come up' : `it exited with ${exited}`}; see ${logFile}`,
  )
}

export async function stopGateway(record: GatewayRecord, timeoutMs = STOP_TIMEOUT_MS): Promise<void> {
  signalProcess(record.pid, record.startTime, 'SIGTERM')
  for (let waitedMs = 0; waitedMs < timeoutMs; waitedMs += POLL_MS) {
    if (!isAlive(record.pid, record.startTime)) return
    await sleep(systemClock, POLL_MS)
  }
  signalProcess(record.pid, record.startTime, 'SIGKILL')
}
