/** Does one command of a story to the cluster. A command that finds nothing to act on does nothing. */
import { timestamp } from '../../src/api/meta.ts'
import { tinyShape } from '../support/cluster.ts'
import type { SimCluster } from '../support/simcluster.ts'
import type { SimProcess } from '../support/simmachine.ts'
import type { Acknowledged } from './acknowledged.ts'
import type { Command, CommandArgs, CommandKind, Wish } from './commands.ts'
import { names, nodes } from './commands.ts'

export interface Scene {
  readonly cluster: SimCluster
  readonly acknowledged: Acknowledged
}

type Performers = {
  readonly [K in CommandKind]: (args: CommandArgs[K], scene: Scene) => void | Promise<void>
}

const GIB = 2 ** 30

export async function applyModels(cluster: SimCluster): Promise<void> {
  const shape = { ...tinyShape, attentionHeads: 12, kvHeads: 12 }
  await cluster.apply('Model', 'small', { shape })
  await cluster.apply('Model', 'large', { shape: { ...shape, weightBytes: 7 * GIB } })
}

const links = [...nodes, 'gateway'] as const

const performers: Performers = {
  apply: ({ name, wish }, { acknowledged }) => acknowledged.apply(name, wish),
  scale: ({ name, replicas }, { acknowledged }) => acknowledged.scale(name, replicas),
  remove: ({ name }, { acknowledged }) => acknowledged.remove(name),
  pause: ({ name, on }, { acknowledged }) => acknowledged.pause(name, on),
  restart: ({ name }, { cluster }) =>
    tried(cluster.patchDeployment(name, { restartedAt: timestamp(cluster.clock.nowMs()) })),
  undo: ({ name }, { cluster, acknowledged }) => {
    const wish = wishBefore(cluster, name)
    return wish === undefined ? undefined : acknowledged.apply(name, wish)
  },
  cordon: ({ node, on }, { cluster }) => tried(cluster.cordon(node, on)),
  drain: ({ node, force }, { cluster }) => tried(cluster.drain(node, force)),
  deleteNode: ({ node }, { cluster }) => tried(cluster.delete('Node', node)),
  killRank: (args, { cluster }) => withRank(cluster, args, (p) => p.machine.kill(p)),
  killHost: (args, { cluster }) => withRank(cluster, args, (p) => p.machine.killHost(p)),
  stopRank: (args, { cluster }) =>
    withRank(cluster, args, (p) => {
      p.machine.stopEngine(p)
      cluster.clock.after(args.forMs, () => p.machine.continueEngine(p))
    }),
  killAgent({ node, awayMs }, { cluster }) {
    cluster.killAgent(node)
    cluster.clock.after(awayMs, () => cluster.startAgent(node))
  },
  pauseAgent: ({ node, forMs }, { cluster }) => cluster.pauseAgent(node, forMs),
  sleep: ({ node, forMs }, { cluster }) => cluster.sleep(node, forMs),
  reboot: ({ node, awayMs }, { cluster }) => cluster.reboot(node, awayMs),
  killServer: ({ remains, awayMs }, { cluster }) => cluster.crashServer(remains, awayMs),
  pauseServer: ({ forMs }, { cluster }) => cluster.pauseServer(forMs),
  crashAt: (args, { cluster }) => void (cluster.crashPoint = { ...args }),
  backUp: (_, { cluster }) => cluster.backUp(),
  compact: ({ share }, { cluster }) => cluster.compact(share),
  fillDisk({ forMs }, { cluster }) {
    cluster.diskFaults.full = true
    cluster.clock.after(forMs, () => (cluster.diskFaults.full = false))
  },
  slowDisk({ commitMs, forMs }, { cluster }) {
    cluster.diskFaults.slowMs = commitMs
    cluster.clock.after(forMs, () => delete cluster.diskFaults.slowMs)
  },
  breakDisk: (_, { cluster }) => void (cluster.diskFaults.broken = true),
  cut({ node, direction, forMs }, { cluster }) {
    cluster.network.cut(node, undefined, direction)
    cluster.clock.after(forMs, () => cluster.network.heal(node))
  },
  reset: ({ node }, { cluster }) => cluster.network.reset(node),
  network({ delayMs, resetChance, duplicateChance }, { cluster }) {
    for (const link of links) cluster.network.faults(link, { delayMs: [0, delayMs], resetChance })
    cluster.duplicateChance = duplicateChance
  },
  engines: (faults, { cluster: { ring } }) => {
    const { slowness, hangChance, lateExitMs, lostExitChance } = faults
    Object.assign(ring, { slowness, hangChance, lateExitMs, lostExitChance })
  },
  jumpClock: ({ of, byMs }, { cluster }) =>
    of === 'server' ? cluster.jumpServerWall(byMs) : cluster.machines.get(of)?.clock.jumpWall(byMs),
  killGateway({ awayMs }, { cluster }) {
    cluster.killGateway()
    cluster.clock.after(awayMs, () => cluster.startGateway())
  },
}

export function perform<K extends CommandKind>(
  command: Extract<Command, { do: K }>,
  scene: Scene,
): void | Promise<void> {
  const run: (args: CommandArgs[K], scene: Scene) => void | Promise<void> = performers[command.do]
  return run(command as unknown as CommandArgs[K], scene)
}

/** Everything that was done to the cluster ends, and everything runs. Clocks stay as wrong as they are. */
export async function endFaults({ cluster, acknowledged }: Scene): Promise<void> {
  const { network, ring } = cluster
  cluster.crashPoint = undefined
  Object.assign(cluster.diskFaults, { full: false, broken: false })
  delete cluster.diskFaults.slowMs
  cluster.duplicateChance = 0
  Object.assign(ring, { slowness: 1, hangChance: 0, lateExitMs: 0, lostExitChance: 0 })
  for (const link of links) {
    network.heal(link)
    network.faults(link, {})
  }
  cluster.resumeServer()
  await cluster.startServer()
  cluster.startGateway()
  for (const node of nodes) {
    cluster.wake(node)
    cluster.resumeAgent(node)
    cluster.startAgent(node)
    for (const process of cluster.machines.get(node)?.processes() ?? []) process.machine.continueEngine(process)
  }
  for (const node of nodes) await tried(cluster.cordon(node, false))
  for (const name of names)
    if (cluster.store.snapshot().get('ModelDeployment', 'default', name)?.spec.paused === true)
      await acknowledged.pause(name, false)
  // A disk that lost its past may have lost these, too, and nobody but a person has them.
  await applyModels(cluster)
}

function withRank({ machines }: SimCluster, { pick }: { pick: number }, act: (process: SimProcess) => void): void {
  const processes = [...machines.values()].flatMap((machine) => machine.processes())
  const process = processes[Math.floor(pick * processes.length)]
  if (process !== undefined) act(process)
}

/** A refusal, or a server that is away, is an answer like any other. */
const tried = (run: Promise<unknown>): Promise<void> =>
  run.then(
    () => {},
    () => {},
  )

/** What a person applies who wants the template before the newest one back. */
function wishBefore(cluster: SimCluster, name: string): Wish | undefined {
  const snapshot = cluster.store.snapshot()
  const deployment = snapshot.get('ModelDeployment', 'default', name)
  const numbered = snapshot
    .list('Revision')
    .filter(({ spec }) => spec.deployment === name)
    .sort((a, b) => a.spec.revision - b.spec.revision)
  const before = numbered.at(-2)?.spec.template
  if (deployment === undefined || before === undefined) return undefined
  const { replicas, recovery, update } = deployment.spec
  return {
    model: before.model.name as Wish['model'],
    contextTokens: before.serving.contextTokens,
    parallelism: before.parallelism as Wish['parallelism'],
    replicas,
    nodeLossSeconds: recovery.nodeLossSeconds,
    update: update as NonNullable<Wish['update']>,
  }
}
