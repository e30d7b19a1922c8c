/**
 * One seeded story of 50 steps: ranks, agents and the server die, the network is cut and heals, people change their
 * minds. Safety holds after every step; when the faults stop, everything settles. SIM_SEED repeats a story, SIM_RUNS
 * tells so many, with the seeds that follow.
 */
import { expect, test } from 'vitest'
import { findCondition, isTrue } from '../../src/api/conditions.ts'
import type { ModelDeployment } from '../../src/api/modeldeployment.ts'
import { worldOf } from '../../src/controllers/world.ts'
import { checkWorld } from '../../src/planner/check.ts'
import { boundBytes } from '../../src/planner/ledger.ts'
import { tinyShape } from '../support/cluster.ts'
import type { SimMachine } from '../support/simhosts.ts'
import { SimCluster } from '../support/simcluster.ts'

const GIB = 2 ** 30
const STEPS = 50
const nodes = ['mini-1', 'mini-2', 'mini-3']
const names = ['alpha', 'beta', 'gamma', 'delta']
const firstSeed = Number(process.env['SIM_SEED'] ?? 20260101)
const seeds = Array.from({ length: Number(process.env['SIM_RUNS'] ?? 1) }, (_, i) => firstSeed + i)

type Step = (cluster: SimCluster) => string | Promise<string>

function killRank(cluster: SimCluster): string | Promise<string> {
  const process = cluster.random.pick([...cluster.machines.values()].flatMap((m) => m.processes()))
  if (process === undefined) return apply(cluster)
  process.machine.kill(process)
  return `kill ${process.shard.metadata.name}`
}

function killOrStartAgent(cluster: SimCluster): string {
  const dead = nodes.find((name) => !cluster.agentRuns(name))
  if (dead !== undefined) {
    cluster.startAgent(dead)
    return `start agent ${dead}`
  }
  const name = cluster.random.pick(nodes) ?? ''
  cluster.killAgent(name)
  return `kill agent ${name}`
}

async function restartServer(cluster: SimCluster): Promise<string> {
  await cluster.killServer()
  const awayMs = cluster.random.below(60_000)
  await cluster.clock.advance(awayMs)
  cluster.startServer()
  return `restart server after ${awayMs} ms`
}

function cutOrHeal({ network, random }: SimCluster): string {
  const cut = nodes.find((name) => network.isCut(name))
  if (cut !== undefined && random.next() < 0.6) {
    network.heal(cut)
    return `heal ${cut}`
  }
  const name = random.pick(nodes) ?? ''
  network.cut(name)
  return `cut ${name}`
}

function reset({ network, random }: SimCluster): string {
  const name = random.pick(nodes) ?? ''
  network.reset(name)
  return `reset ${name}`
}

function slowDown({ network, ring, random }: SimCluster): string {
  ring.slowness = random.pick([1, 1, 5, 20]) ?? 1
  ring.hangChance = random.pick([0, 0, 0.1]) ?? 0
  const delayMs = random.pick([0, 20, 400]) ?? 0
  for (const name of nodes) network.faults(name, { delayMs: [0, delayMs], resetChance: random.pick([0, 0, 0.01]) ?? 0 })
  return `engines ×${ring.slowness}, hang ${ring.hangChance}, delay ${delayMs} ms`
}

const shapes = [
  { strategy: 'Data', replicas: 2 },
  { strategy: 'Data', replicas: 3 },
  { strategy: 'Tensor', degree: 2, replicas: 1 },
  { strategy: 'Pipeline', degree: 3, replicas: 1 },
  { strategy: 'Pipeline', degree: 2, replicas: 2 },
] as const

/** A new deployment, a change of its template, a scaling: whatever it means for the name that is drawn. */
async function apply(cluster: SimCluster): Promise<string> {
  const { random } = cluster
  const name = random.pick(names) ?? ''
  const { replicas, ...parallelism } = random.pick(shapes) ?? shapes[0]
  const model = random.pick(['small', 'small', 'large']) ?? 'small'
  await cluster.apply('ModelDeployment', name, {
    model: { name: model },
    engine: { name: 'fake' },
    replicas,
    parallelism,
    serving: { contextTokens: random.pick([128, 256]), concurrency: 1, maxOutputTokens: 64 },
    recovery: { nodeLossSeconds: random.pick([30, 120]) },
  })
  return `apply ${name} ${model} ${JSON.stringify({ replicas, ...parallelism })}`
}

async function scale(cluster: SimCluster): Promise<string> {
  const deployment = cluster.random.pick(deploymentsOf(cluster))
  if (deployment === undefined) return apply(cluster)
  const { name } = deployment.metadata
  const replicas = cluster.random.below(4)
  await cluster.scale(name, replicas)
  return `scale ${name} to ${replicas}`
}

async function remove(cluster: SimCluster): Promise<string> {
  const deployment = cluster.random.pick(deploymentsOf(cluster))
  if (deployment === undefined) return apply(cluster)
  await cluster.delete('ModelDeployment', deployment.metadata.name)
  return `delete ${deployment.metadata.name}`
}

/** As often as each stands here. */
const steps: readonly Step[] = [
  killRank,
  killRank,
  killRank,
  killOrStartAgent,
  killOrStartAgent,
  restartServer,
  cutOrHeal,
  cutOrHeal,
  reset,
  slowDown,
  apply,
  apply,
  scale,
  remove,
]

const deploymentsOf = ({ store }: SimCluster): readonly ModelDeployment[] => store.snapshot().list('ModelDeployment')

/** What must hold at every moment of the store. */
const storeFindings = ({ store }: SimCluster): readonly string[] =>
  checkWorld(worldOf(store.snapshot(), new Map())).map((f) => `${f.rule} ${f.object}: ${f.message}`)

/** What must hold at every moment of a machine, whatever the store believes. */
function machineFindings({ store }: SimCluster, machine: SimMachine): readonly string[] {
  const findings: string[] = []
  const epochs = new Map<string, number>()
  for (const { shard } of machine.processes()) {
    const { group, epoch } = shard.spec
    const other = epochs.get(group)
    if (other !== undefined && other !== epoch) findings.push(`two epochs of ${group} live on ${machine.name}`)
    epochs.set(group, epoch)
  }
  const bytes = machine.processes().reduce((sum, p) => sum + p.shard.spec.memoryBytes, 0)
  const allocatable = Number(store.snapshot().get('Node', '', machine.name)?.status?.allocatable?.memory ?? 0)
  if (bytes > allocatable) findings.push(`${machine.name} runs ${bytes} bytes of ${allocatable}`)
  return findings
}

/** Looks at every commit and at every start of a process. */
function watchSafety(cluster: SimCluster): readonly string[] {
  const findings: string[] = []
  cluster.store.onCommit(() => findings.push(...storeFindings(cluster)))
  cluster.ring.onStart = (machine) => findings.push(...machineFindings(cluster, machine))
  return findings
}

/** undefined: settled. Else what is still open. */
function unsettled({ store, machines }: SimCluster): string | undefined {
  const snapshot = store.snapshot()
  for (const { metadata, status } of snapshot.list('ModelDeployment')) {
    const scheduled = findCondition(status?.conditions, 'Scheduled')
    const refused = scheduled?.reason === 'Unschedulable' && scheduled.message.includes('nodes are available')
    if (metadata.deletionTimestamp !== undefined) return `${metadata.name} is being deleted`
    if (!isTrue(status?.conditions, 'Ready') && !refused)
      return `${metadata.name}: ${findCondition(status?.conditions, 'Ready')?.message ?? 'no condition'}`
  }
  for (const node of snapshot.list('Node'))
    if (!isTrue(node.status?.conditions, 'Ready')) return `${node.metadata.name} is not Ready`
  for (const group of snapshot.list('ShardGroup'))
    if (group.spec.members.length > 0 && !isTrue(group.status?.conditions, 'Ready'))
      return `${group.metadata.name}: ${findCondition(group.status?.conditions, 'Ready')?.message ?? ''}`
  const bound = boundBytes({ groups: snapshot.list('ShardGroup'), shards: snapshot.list('Shard') })
  for (const machine of machines.values()) {
    const orphan = machine.processes().find((p) => snapshot.getByUid(p.shard.metadata.uid) === undefined)
    if (orphan !== undefined) return `${orphan.shard.metadata.name} is an orphan on ${machine.name}`
    const bytes = machine.processes().reduce((sum, p) => sum + p.shard.spec.memoryBytes, 0)
    if (bytes !== (bound.get(machine.name) ?? 0))
      return `${machine.name} runs ${bytes} bytes, ${bound.get(machine.name) ?? 0} are bound`
  }
  return undefined
}

test.each(seeds)('a cluster under faults stays safe, and settles when they stop (SIM_SEED=%d)', async (seed) => {
  const cluster = await SimCluster.start({ seed, nodes })
  const story: string[] = []
  const findings = watchSafety(cluster)
  try {
    await cluster.apply('Model', 'small', { shape: { ...tinyShape, attentionHeads: 12, kvHeads: 12 } })
    await cluster.apply('Model', 'large', {
      shape: { ...tinyShape, attentionHeads: 12, kvHeads: 12, weightBytes: 7 * GIB },
    })
    await cluster.clock.advance(10_000)
    story.push(await apply(cluster), await apply(cluster))
    await cluster.clock.advance(20_000)
    for (let i = 0; i < STEPS; i++) {
      const step = cluster.random.pick(steps)
      story.push(`${i}: ${await step?.(cluster)}`)
      await cluster.clock.advance(1_000 + cluster.random.below(20_000))
      expect(findings).toEqual([])
    }

    Object.assign(cluster.ring, { slowness: 1, hangChance: 0 })
    cluster.startServer()
    for (const name of nodes) {
      cluster.network.heal(name)
      cluster.network.faults(name, {})
      cluster.startAgent(name)
    }
    let open: string | undefined
    for (let minute = 0; minute < 30; minute++) {
      await cluster.clock.advance(60_000)
      expect(findings).toEqual([])
      open = unsettled(cluster)
      if (open === undefined) break
    }
    expect(open).toBeUndefined()
  } catch (error) {
    throw new Error(`SIM_SEED=${seed}\n${story.join('\n')}`, { cause: error })
  } finally {
    await cluster.stop()
  }
})
