/**
 * How long healing and starting take, and which part of it is ours: each way is cut at what the store says, told by a
 * watch. What policy makes us wait (backoff, silence) and what the engine needs (start, load) stand beside the rest.
 */
import type { MctlObject } from '../../src/api/meta.ts'
import { isTrue } from '../../src/api/conditions.ts'
import type { Shard } from '../../src/api/shard.ts'
import type { ShardGroup } from '../../src/api/shardgroup.ts'
import { START_GRACE_MS } from '../../src/planner/nodelife.ts'
import type { Client } from '../../src/rpc/messages.ts'
import { endAll, until } from '../support/processes.ts'
import { RealCluster } from '../support/realcluster.ts'
import { complete, tinyModelsDir } from '../support/tinycluster.ts'
import type { Row } from './stats.ts'
import { percentile, sortedOf } from './stats.ts'

const ROUNDS = 3
const LIMIT_MS = 120_000
const NODE_LOSS_SECONDS = 1
const BACKOFF_MS = 2_000
/** Silence that makes a node NotReady. */
const SILENCE_MS = 20_000

type Engine = 'fake' | 'mlx'

export async function benchRecovery(): Promise<Row[]> {
  const cluster = await RealCluster.start({ nodes: 2, modelsDir: tinyModelsDir() })
  const startedMs = performance.now()
  const watcher = new Watcher(cluster.client)
  try {
    await until(() => watcher.readyNodes() === 2, LIMIT_MS, 'both nodes are Ready')
    const rows: Row[] = []
    for (const engine of ['fake', 'mlx'] as const) rows.push(...(await startAndKill(cluster, watcher, engine)))
    // Within the grace after a start no node turns NotReady: the row would show what is left of it, and not the notice.
    await until(
      () => Promise.resolve(performance.now() - startedMs > START_GRACE_MS),
      2 * START_GRACE_MS,
      'the grace is over',
    )
    rows.push(await loseNode(cluster, watcher))
    return rows
  } finally {
    watcher.stop()
    await cluster.stop()
    await endAll()
  }
}

/** Ways from something to Ready, each as ms by part. */
type Parts = Readonly<Record<string, number>>

async function startAndKill(cluster: RealCluster, watcher: Watcher, engine: Engine): Promise<Row[]> {
  const rounds = engine === 'fake' ? ROUNDS : 1
  const starts: Parts[] = []
  const kills: Parts[] = []
  for (let round = 0; round < rounds; round++) {
    const name = `${engine}-${round}`
    starts.push(await start(cluster, watcher, name, engine, { strategy: 'Pipeline', degree: 2, split: [3, 2] }))
    kills.push(await killRank(watcher, `${name}-0`))
    await remove(cluster, name)
  }
  return [
    rowOf(`apply → first token, ${engine}, files present`, starts, ['engine']),
    rowOf(`SIGKILL of a rank → Ready, ${engine}`, kills, ['engine', 'backoff']),
  ]
}

async function start(
  cluster: RealCluster,
  watcher: Watcher,
  name: string,
  engine: Engine,
  parallelism: object,
): Promise<Parts> {
  const startMs = performance.now()
  await cluster.client.apply({
    object: deployment(name, engine, parallelism),
    force: true,
    options: { fieldManager: 'bench' },
  })
  const acknowledgedMs = performance.now()
  const group = `${name}-0`
  const marks = await watcher.marks(group, 1)
  await until(
    async () => {
      const response = await complete(cluster.gateway, name, { stream: true, max_tokens: 1 })
      const { value } = (await response.body?.getReader().read()) ?? {}
      return response.status === 200 && value !== undefined
    },
    LIMIT_MS,
    `${name} answers`,
  )
  return {
    acknowledge: acknowledgedMs - startMs,
    ...partsOf(marks, acknowledgedMs),
    'first token': performance.now() - marks.ready,
  }
}

async function killRank(watcher: Watcher, group: string): Promise<Parts> {
  const victim = watcher.shards(group, 1).at(-1)
  const startMs = performance.now()
  process.kill(victim?.status?.pid ?? -1, 'SIGKILL')
  const noticedMs = await watcher.when(() => (watcher.group(group)?.status?.firstCause?.epoch ?? 0) === 1)
  const marks = await watcher.marks(group, 2)
  const { form, ...rest } = partsOf(marks, noticedMs)
  const backoff = Math.min(form ?? 0, BACKOFF_MS)
  return { notice: noticedMs - startMs, backoff, form: (form ?? 0) - backoff, ...rest }
}

/** One replica, whole on one node, whose machine goes. */
async function loseNode(cluster: RealCluster, watcher: Watcher): Promise<Row> {
  await start(cluster, watcher, 'lost', 'fake', { strategy: 'Data' })
  const node = watcher.shards('lost-0', 1)[0]?.spec.nodeName ?? ''
  const startMs = performance.now()
  cluster.lose(node)
  const silentMs = await watcher.when(() => watcher.readyNodes() === 1)
  const marks = await watcher.marks('lost-0', 2)
  const { form, ...rest } = partsOf(marks, silentMs)
  const waited = Math.min(form ?? 0, NODE_LOSS_SECONDS * 1_000)
  const silence = Math.min(silentMs - startMs, SILENCE_MS)
  const parts = {
    silence,
    notice: silentMs - startMs - silence,
    nodeLossSeconds: waited,
    form: (form ?? 0) - waited,
    ...rest,
  }
  return rowOf('node lost → Ready elsewhere, fake', [parts], ['engine', 'silence', 'nodeLossSeconds'])
}

async function remove(cluster: RealCluster, name: string): Promise<void> {
  const ref = { kind: 'ModelDeployment', namespace: 'default', name } as const
  await cluster.client.delete({ ref })
  await until(
    () =>
      cluster.client.get({ ref }).then(
        () => false,
        () => true,
      ),
    LIMIT_MS,
    `${name} is gone`,
  )
}

/** The median way, and what of it is neither the engine's nor waited for on purpose. */
function rowOf(what: string, ways: readonly Parts[], notOurs: readonly string[]): Row {
  const totalOf = (parts: Parts) => Object.values(parts).reduce((sum, ms) => sum + ms, 0)
  const median = percentile(sortedOf(ways.map(totalOf)), 0.5)
  const parts = ways.find((way) => totalOf(way) === median) ?? {}
  const ours = Object.entries(parts).reduce((sum, [part, ms]) => sum + (notOurs.includes(part) ? 0 : ms), 0)
  const text = Object.entries(parts).map(([part, ms]) => `${part} ${seconds(ms)}`)
  return {
    what: `${what}${ways.length > 1 ? `, median of ${ways.length}` : ''}`,
    value: `${seconds(median)} s, ours ${seconds(ours)}: ${text.join(', ')}`,
    aim: '',
  }
}

const seconds = (ms: number): string => (ms / 1_000).toFixed(2)

/** When an epoch of a group came to each of its steps; monotonic ms. */
interface Marks {
  readonly formed: number
  readonly prepared: number
  readonly rendezvous: number
  readonly spawned: number
  readonly ranksReady: number
  readonly ready: number
}

/** Steps of an epoch. `host`: our shardhosts come up; `engine`: from its pid on, start, load and first token. */
const partsOf = ({ formed, prepared, rendezvous, spawned, ranksReady, ready }: Marks, sinceMs: number): Parts => ({
  form: formed - sinceMs,
  prepare: prepared - formed,
  rendezvous: rendezvous - prepared,
  host: spawned - rendezvous,
  engine: ranksReady - spawned,
  'roll up': ready - ranksReady,
})

const wasPrepared = (shard: Shard): boolean => shard.status?.ringAddress !== undefined

/** Keeps what watches tell, and says when something became true. */
class Watcher {
  readonly #objects = new Map<string, MctlObject>()
  readonly #over = new AbortController()
  readonly #looks = new Set<() => void>()

  constructor(client: Client) {
    for (const kind of ['Node', 'ShardGroup', 'Shard'] as const) void this.#follow(client, kind)
  }

  stop(): void {
    this.#over.abort()
  }

  readyNodes(): number {
    return this.#all('Node').filter((node) =>
      isTrue((node as { status?: { conditions?: [] } }).status?.conditions, 'Ready'),
    ).length
  }

  group(name: string): ShardGroup | undefined {
    return this.#all('ShardGroup').find((group) => group.metadata.name === name) as ShardGroup | undefined
  }

  shards(group: string, epoch: number): readonly Shard[] {
    const shards = this.#all('Shard') as readonly Shard[]
    return shards.filter((shard) => shard.spec.group === group && shard.spec.epoch === epoch)
  }

  async marks(group: string, epoch: number): Promise<Marks> {
    const every = (holds: (shard: Shard) => boolean) => () => {
      const shards = this.shards(group, epoch)
      return shards.length > 0 && shards.length === shards[0]?.spec.worldSize && shards.every(holds)
    }
    const formed = await this.when(every(() => true))
    const prepared = await this.when(every(wasPrepared))
    const rendezvous = await this.when(every((shard) => shard.spec.rendezvous !== null))
    const spawned = await this.when(every((shard) => shard.status?.pid !== undefined))
    const ranksReady = await this.when(every((shard) => shard.status?.phase === 'Ready'))
    const ready = await this.when(() => {
      const { spec, status } = this.group(group) ?? {}
      return spec?.epoch === epoch && isTrue(status?.conditions, 'Ready')
    })
    return { formed, prepared, rendezvous, spawned, ranksReady, ready }
  }

  /** When it first held; looked at after every change. */
  when(holds: () => boolean): Promise<number> {
    return new Promise((resolve, reject) => {
      const tooLate = setTimeout(() => reject(new Error('the bench waited in vain')), LIMIT_MS)
      const look = () => {
        if (!holds()) return
        clearTimeout(tooLate)
        this.#looks.delete(look)
        resolve(performance.now())
      }
      this.#looks.add(look)
      look()
    })
  }

  #all(kind: string): readonly MctlObject[] {
    return [...this.#objects.values()].filter((object) => object.kind === kind)
  }

  /** From the first moment that the server answers. */
  async #follow(client: Client, kind: 'Node' | 'ShardGroup' | 'Shard'): Promise<void> {
    while (!this.#over.signal.aborted)
      try {
        for await (const event of client.watch({ kind }, { signal: this.#over.signal })) {
          if (event.type === 'HEADER' || event.type === 'BOOKMARK') continue
          if (event.type === 'DELETED') this.#objects.delete(event.object.metadata.uid)
          else this.#objects.set(event.object.metadata.uid, event.object)
          for (const look of [...this.#looks]) look()
        }
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 200))
      }
  }
}

const deployment = (name: string, engine: Engine, parallelism: object) => ({
  apiVersion: 'mctl.dev/v1alpha1',
  kind: 'ModelDeployment',
  metadata: { name },
  spec: {
    model: { source: 'file:tiny' },
    engine: { name: engine },
    parallelism,
    serving: { contextTokens: 256, concurrency: 1, maxOutputTokens: 64 },
    recovery: { nodeLossSeconds: NODE_LOSS_SECONDS },
  },
})
