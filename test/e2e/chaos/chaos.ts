/**
 * Chaos for real: processes are killed and stopped at random while a client streams and another applies changes; then
 * the faults end, and all states must agree again. The same seed strikes in the same order; when is up to the machine.
 */
import { tinyModelsDir } from '../../support/tinycluster.ts'
import { SeededRandom } from '../../support/virtualclock.ts'
import { endAll } from '../../support/processes.ts'
import { processesOf } from '../../support/remains.ts'
import type { Wanted, Wish } from './changes.ts'
import { Changes } from './changes.ts'
import { RealCluster } from '../../support/realcluster.ts'
import { Faults } from './faults.ts'
import { describeSample, leaks, sampleOf } from './leaks.ts'
import { unsettled } from './settled.ts'
import { Client } from './traffic.ts'

export interface ChaosOptions {
  /** Of faults; settling comes on top. */
  readonly seconds: number
  readonly seed: number
  readonly engine: 'fake' | 'mlx'
  /** Between two faults, on average; absent: so that the engine has mostly started in between. */
  readonly everySeconds?: number
  readonly say: (line: string) => void
}

const NODES = 2
/** Where faults come faster than the engine loads, nothing is ever answered, and little is shown. */
const EVERY_SECONDS = { fake: 3, mlx: 20 } as const
/** The longest crash backoff is 300 s, the slow retry of what cannot load as long; a load and a drain come on top. */
const SETTLE_LIMIT_MS = 420_000
const SAMPLE_SECONDS = 15

/** Empty: everything held. */
export async function runChaos(options: ChaosOptions): Promise<readonly string[]> {
  const { seconds, seed, engine, say, everySeconds = EVERY_SECONDS[engine] } = options
  const startMs = Date.now()
  const atSeconds = () => (Date.now() - startMs) / 1_000
  const tell = (line: string) => say(`${atSeconds().toFixed(1).padStart(7)} s  ${line}`)
  const random = new SeededRandom(seed)
  const cluster = await RealCluster.start({ nodes: NODES, modelsDir: engine === 'mlx' ? tinyModelsDir() : undefined })
  const findings: string[] = []
  try {
    const wanted = deployments[engine]
    if (engine === 'fake') await applyModel(cluster)
    const changes = new Changes(cluster.client, wanted, random)
    await changes.applyAll(firstWish)
    await settle(cluster, tell)
    const client = new Client(
      cluster.gateway,
      wanted.map(({ name }) => name),
    )
    tell(`everything is Ready: ${seconds} s of faults, seed ${seed}`)
    const faults = new Faults(cluster, random)
    const endMs = Date.now() + seconds * 1_000
    let sampledAt = atSeconds()
    while (Date.now() < endMs) {
      const struck = faults.strike()
      if (struck !== undefined) tell(struck)
      if (random.next() < 0.4) tell(await changes.change())
      await sleep(everySeconds * (250 + random.below(1_500)))
      if (atSeconds() - sampledAt < SAMPLE_SECONDS) continue
      sampledAt = atSeconds()
      const sample = sampleOf(cluster, sampledAt)
      tell(describeSample(sample))
      findings.push(...leaks(sample))
    }
    faults.end()
    tell('the faults end')
    const open = await settle(cluster, tell)
    if (open !== undefined) findings.push(`not settled: ${open}`)
    findings.push(...(await changes.findings()))
    const { answered, failed, findings: silent } = await client.stop()
    findings.push(...silent)
    const refused = await client.tryAll()
    if (refused !== undefined) findings.push(`after all a request was not answered: ${refused}`)
    const sample = sampleOf(cluster, atSeconds())
    findings.push(...leaks(sample))
    tell(describeSample(sample))
    tell(`requests: ${answered} answered, ${failed} ended with an error; changes: ${changes.acknowledged} acknowledged`)
    findings.push(...(await leftovers(cluster, wanted)))
    return findings
  } finally {
    await cluster.stop()
    await endAll()
  }
}

/** Deleted and stopped, nothing of it is left. */
async function leftovers(cluster: RealCluster, wanted: readonly Wanted[]): Promise<readonly string[]> {
  for (const { name } of wanted)
    await cluster.client.delete({ ref: { kind: 'ModelDeployment', namespace: 'default', name } })
  const gone = await within(90_000, async () => {
    const { items } = await cluster.client.list({ kind: 'ModelDeployment' })
    return items.length === 0 ? undefined : `${items.length} deployments are still there`
  })
  const engines = cluster.living().filter(({ role }) => role === 'engine' || role === 'shardhost')
  await cluster.stop()
  return [
    ...(gone === undefined ? [] : [gone]),
    ...engines.map(({ role, pid }) => `${role} ${pid} outlives its deployment`),
    ...processesOf(cluster.dir).map((pid) => `process ${pid} outlives its cluster`),
  ]
}

const settle = (cluster: RealCluster, tell: (line: string) => void): Promise<string | undefined> => {
  let told = ''
  return within(SETTLE_LIMIT_MS, async () => {
    const open = await unsettled(cluster)
    if (open !== undefined && open !== told) tell(`not yet: ${open}`)
    told = open ?? told
    return open
  })
}

/** Looks until nothing is open any more; what is at the end of the time. */
async function within(limitMs: number, look: () => Promise<string | undefined>): Promise<string | undefined> {
  const endMs = Date.now() + limitMs
  for (;;) {
    const open = await look().catch((error: unknown) => String(error))
    if (open === undefined || Date.now() > endMs) return open
    await sleep(500)
  }
}

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

const firstWish: Wish = { replicas: 1, contextTokens: 256 }

const apiVersion = 'mctl.dev/v1alpha1'

const shape = {
  architecture: 'llama',
  layers: 4,
  hiddenSize: 128,
  intermediateSize: 256,
  attentionHeads: 8,
  kvHeads: 4,
  headDim: 16,
  vocabSize: 258,
  parameters: 1_000_000,
  weightBytes: 2_000_000,
}

const applyModel = (cluster: RealCluster) =>
  within(60_000, async () => {
    const object = { apiVersion, kind: 'Model', metadata: { name: 'chaos' }, spec: { shape } }
    await cluster.client.apply({ object, force: true, options: { fieldManager: 'chaos' } })
    return undefined
  })

const deployment = (name: string, model: object, engine: string, parallelism: object, maxReplicas = 2): Wanted => ({
  name,
  maxReplicas,
  manifest: ({ replicas, contextTokens }) => ({
    apiVersion,
    kind: 'ModelDeployment',
    metadata: { name },
    spec: {
      model,
      engine: { name: engine },
      parallelism,
      replicas,
      serving: { contextTokens, concurrency: 2, maxOutputTokens: 64 },
      recovery: { nodeLossSeconds: 30 },
    },
  }),
})

/** MLX: one gang, for at most two ranks at a time fit on a small machine. */
const deployments: Readonly<Record<ChaosOptions['engine'], readonly Wanted[]>> = {
  fake: [
    deployment('one', { name: 'chaos' }, 'fake', { strategy: 'Data' }),
    deployment('two', { name: 'chaos' }, 'fake', { strategy: 'Pipeline', degree: 2 }),
  ],
  mlx: [deployment('one', { source: 'file:tiny' }, 'mlx', { strategy: 'Pipeline', degree: 2, split: [3, 2] }, 1)],
}
