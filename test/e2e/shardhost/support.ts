/** Real shards on this machine: an agent's folder, shards as a controller would write them, and looking from outside. */
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs'
import { Agent, request } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Hosts, LocalShard, PreparedShard } from '../../../agent/hosts.ts'
import { fakeRuntime } from '../../../agent/runtimes/fake/launch.ts'
import type { Runtimes } from '../../../agent/runtimes/index.ts'
import type { HostsOptions } from '../../../agent/shardhost/hosts.ts'
import type { PortRange } from '../../../agent/ports.ts'
import { PortPool } from '../../../agent/ports.ts'
import { openHosts } from '../../../agent/shardhost/hosts.ts'
import { API_VERSION } from '../../../src/api/meta.ts'
import type { Shard, ShardSpec } from '../../../src/api/shard.ts'
import { shardName } from '../../../src/api/shard.ts'
import { systemClock, systemRandom } from '../../../src/lib/clock.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import { claimPorts } from '../../support/ports.ts'

const WAIT_MS = 30_000
const root = resolve(import.meta.dirname, '../../..')

/**
 * The processes run from the build that `npm run setup` made, ten times quicker to start than the sources; a build that
 * is older than the sources is not used.
 */
const entries = isBuilt()
  ? {
      host: [process.execPath, join(root, 'dist/agent/shardhost/main.js')],
      fake: [process.execPath, join(root, 'dist/agent/runtimes/fake/engine.js')],
    }
  : undefined

function isBuilt(): boolean {
  const mtimeMs = (file: string) => (existsSync(join(root, file)) ? statSync(join(root, file)).mtimeMs : 0)
  return ['src/lib', 'agent/shardhost', 'agent/runtimes/fake', 'agent/runtimes/llamacpp'].every((dir) =>
    filesUnder(join(root, dir)).every(
      (file) => mtimeMs(join('dist', dir, file.replace(/\.ts$/, '.js'))) >= mtimeMs(join(dir, file)),
    ),
  )
}

export class TestAgent {
  readonly dataDir: string
  readonly #options: Omit<HostsOptions, 'ports'>
  readonly #range: PortRange
  hosts: Hosts

  private constructor(range: PortRange, options: Partial<HostsOptions>) {
    this.#range = range
    this.dataDir = options.dataDir ?? mkdtempSync(join(tmpdir(), 'mctl-hosts-'))
    this.#options = {
      dataDir: this.dataDir,
      address: '127.0.0.1',
      bootId: 'boot-1',
      runtimes: { fake: fakeRuntime(entries === undefined ? {} : { entry: entries.fake }) } satisfies Runtimes,
      clock: systemClock,
      log: silentLogger,
      ...(entries === undefined ? {} : { hostEntry: entries.host }),
      ...options,
    }
    this.hosts = openHosts({ ...this.#options, ports: this.#ports() })
  }

  static async start(options: Partial<HostsOptions> = {}): Promise<TestAgent> {
    const agent = new TestAgent(await claimPorts(), options)
    await agent.hosts.recover()
    return agent
  }

  #ports(): PortPool {
    return new PortPool({ range: this.#range, dataDir: this.dataDir, clock: systemClock })
  }

  /** As if the agent was killed and started again: nothing of its memory is left. */
  async restart(changes: Partial<HostsOptions> = {}): Promise<Hosts> {
    this.hosts.close()
    this.hosts = openHosts({ ...this.#options, ports: this.#ports(), ...changes })
    await this.hosts.recover()
    return this.hosts
  }

  async prepare(shard: Shard, modelDir?: string): Promise<PreparedShard> {
    return this.hosts.prepare(shard, 'cluster-1', modelDir)
  }

  async startReady(shard: Shard, modelDir?: string): Promise<LocalShard> {
    await this.prepare(shard, modelDir)
    await this.hosts.start(shard)
    return this.until(shard, (local) => local.state?.phase === 'Ready')
  }

  local(shard: Shard): LocalShard | undefined {
    return this.hosts.list().find(({ shardUid }) => shardUid === shard.metadata.uid)
  }

  until(shard: Shard, holds: (local: LocalShard) => boolean): Promise<LocalShard> {
    return until(
      () => {
        const local = this.local(shard)
        return local !== undefined && holds(local) ? local : undefined
      },
      `shard ${shard.metadata.name}: ${JSON.stringify(this.local(shard))}`,
    )
  }

  ended(shard: Shard): Promise<LocalShard> {
    return this.until(shard, (local) => local.lost === true || local.state?.phase === 'Exited')
  }

  /** Whatever a test left running ends here. */
  async remove(): Promise<void> {
    for (const { shardUid } of this.hosts.list()) this.hosts.stop(shardUid, 0, 'the test is over')
    try {
      for (const { state, lost } of this.hosts.list())
        if (state !== undefined && lost !== true) await until(() => !alive(state.hostPid), 'host ends')
    } finally {
      this.hosts.close()
      rmSync(this.dataDir, { recursive: true, force: true, maxRetries: 10 })
    }
  }
}

export function aShard(changes: Partial<ShardSpec> = {}): Shard {
  const spec: ShardSpec = {
    nodeName: 'mini-1',
    deployment: 'chat',
    group: 'chat-0',
    epoch: 1,
    revision: 1,
    rank: 0,
    worldSize: 1,
    strategy: 'Single',
    transport: 'Ring',
    stage: [0, 4],
    split: [],
    engine: { name: 'fake', args: [] },
    model: { layers: 4, vocabSize: 1000 },
    serving: { servedName: 'chat', contextTokens: 1000, concurrency: 4, maxOutputTokens: 500 },
    memoryBytes: 100_000_000,
    parts: { weights: 50_000_000, kv: 10_000_000, runtime: 40_000_000 },
    rendezvous: null,
    ...changes,
  }
  return {
    apiVersion: API_VERSION,
    kind: 'Shard',
    metadata: {
      name: shardName(spec.group, spec.epoch, spec.rank),
      namespace: 'default',
      uid: systemRandom.uuid(),
      resourceVersion: '1',
      generation: 1,
      creationTimestamp: '2026-01-01T00:00:00Z',
    },
    spec,
  }
}

export const told = (...args: string[]): Partial<ShardSpec> => ({ engine: { name: 'fake', args } })

/** The ranks with the rendezvous that the controller would have written. */
export function withRendezvous(shards: readonly Shard[], prepared: readonly PreparedShard[]): readonly Shard[] {
  const hosts = prepared.map(({ ringAddress }) => [ringAddress])
  const members = shards.map(({ spec, metadata }) => ({ node: spec.nodeName, shardUid: metadata.uid }))
  const rendezvous = { startByMs: Date.now() + 15_000, hosts, members }
  return shards.map((shard) => ({ ...shard, spec: { ...shard.spec, rendezvous } }))
}

export interface Answer {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly text: string
  /** The connection broke before the answer was whole. */
  readonly cut: boolean
}

const keptConnections = new Agent({ keepAlive: true })

/** A request through a shard's door. `onText` sees the answer as it comes; returning false aborts. */
export function ask(
  prepared: PreparedShard,
  shardUid: string,
  body: Record<string, unknown>,
  options: { path?: string; onText?: (text: string) => boolean | void } = {},
): Promise<Answer> {
  const { address: host, port } = prepared
  const text = JSON.stringify(body)
  const headers = {
    'mctl-shard': shardUid,
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
  }
  const path = options.path ?? '/v1/completions'
  return new Promise((resolve, reject) => {
    const call = request({ host, port, method: 'POST', path, headers, agent: keptConnections }, (reply) => {
      let said = ''
      const done = (cut: boolean) => resolve({ status: reply.statusCode ?? 0, headers: reply.headers, text: said, cut })
      reply.setEncoding('utf8')
      reply.on('data', (part: string) => {
        said += part
        if (options.onText?.(said) === false) call.destroy()
      })
      reply.on('end', () => done(!reply.complete))
      reply.on('error', () => done(true))
    })
    call.on('error', reject)
    call.end(text)
  })
}

export const textOf = (answer: Answer): string =>
  (JSON.parse(answer.text) as { choices: { text: string }[] }).choices[0]?.text ?? ''

export const errorCodeOf = (answer: Answer): string =>
  (JSON.parse(answer.text) as { error: { code: string } }).error.code

export async function until<T>(look: () => T | undefined | false, what: string): Promise<T> {
  const untilMs = Date.now() + WAIT_MS
  for (;;) {
    const found = look()
    if (found !== undefined && found !== false) return found
    if (Date.now() > untilMs) throw new Error(`waited ${WAIT_MS / 1000} s for: ${what}`)
    await delay(20)
  }
}

/** Zombies do not count: a container's init may never reap them. */
export function alive(pid: number | undefined): boolean {
  if (pid === undefined) return false
  try {
    process.kill(pid, 0)
    return process.platform !== 'linux' || !/^\d+ \(.*\) Z/s.test(readFileSync(`/proc/${pid}/stat`, 'latin1'))
  } catch {
    return false
  }
}

export function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port })
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

export function filesUnder(dir: string): readonly string[] {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(dir.length + 1))
}

export async function logLines(agent: TestAgent, shard: Shard): Promise<readonly string[]> {
  const lines: string[] = []
  const options = { follow: false, signal: new AbortController().signal }
  for await (const line of agent.hosts.readLog(shard.metadata.uid, shard.metadata.name, options)) lines.push(line.text)
  return lines
}
