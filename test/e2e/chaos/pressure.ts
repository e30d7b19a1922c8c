/**
 * `npx tsx test/e2e/chaos/pressure.ts` (Linux, root, cgroup v1 or v2): an agent in a memory cgroup of its own, an engine
 * that eats, and what comes first: our decision or the kernel's OOM killer. Exit code 1 when the wrong one does.
 */
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import type { Event } from '../../../src/api/records.ts'
import type { Shard } from '../../../src/api/shard.ts'
import { tinyShape } from '../../support/cluster.ts'
import { endAll, until } from '../../support/processes.ts'
import { RealCluster } from '../../support/realcluster.ts'
import { groupOf, readyIn, shardsOf } from '../../support/tinycluster.ts'

const LIMIT_MS = 120_000
const MIB = 2 ** 20
const EAT_MIB_PER_SECOND = 1
/** Of the limit, when the limit comes: short of critical. */
const USED_SHARE_AT_FIRST = 0.94
/** Somebody else's, so that a percent of the limit is more than a heap's ups and downs. */
const BALLAST_MIB = 1_024

const hoard = `
process.stdin.once('data', () => {
  globalThis.kept = Buffer.alloc(${BALLAST_MIB} * 2 ** 20, 1)
  console.log('kept')
})`

interface Cgroup {
  readonly folder: string
  readonly limitFile: string
  readonly usageFile: string
}

function makeCgroup(): Cgroup {
  const name = `mctl-pressure-${process.pid}`
  const v1 = '/sys/fs/cgroup/memory'
  const isV1 = existsSync(v1)
  const folder = join(isV1 ? v1 : '/sys/fs/cgroup', name)
  mkdirSync(folder)
  return isV1
    ? { folder, limitFile: 'memory.limit_in_bytes', usageFile: 'memory.usage_in_bytes' }
    : { folder, limitFile: 'memory.max', usageFile: 'memory.current' }
}

const read = ({ folder }: Cgroup, file: string): string => readFileSync(join(folder, file), 'utf8')
const used = (group: Cgroup): number => {
  const cache = /^(?:total_)?inactive_file (\d+)$/m.exec(read(group, 'memory.stat'))?.[1]
  return Number(read(group, group.usageFile)) - Number(cache ?? 0)
}
const oomKills = (group: Cgroup): number => {
  const file = existsSync(join(group.folder, 'memory.events')) ? 'memory.events' : 'memory.oom_control'
  return Number(/^oom_kill (\d+)$/m.exec(read(group, file))?.[1] ?? 0)
}

const deployment = (name: string, priority: number, args: readonly string[]) => ({
  apiVersion: 'mctl.dev/v1alpha1',
  kind: 'ModelDeployment',
  metadata: { name },
  spec: {
    model: { name: 'shape' },
    engine: { name: 'fake', args },
    serving: { contextTokens: 256, concurrency: 1 },
    priority,
  },
})

async function run(group: Cgroup): Promise<number> {
  const cluster = await RealCluster.start({ nodes: 1, simulate: false })
  let ballast: ChildProcess | undefined
  try {
    const agent = cluster.living().find(({ role }) => role === 'agent')
    if (agent === undefined) throw new Error('there is no agent')
    writeFileSync(join(group.folder, 'cgroup.procs'), String(agent.pid))
    const apply = (object: object) =>
      cluster.client.apply({ object: object as never, force: true, options: { fieldManager: 'test' } })
    const model = {
      apiVersion: 'mctl.dev/v1alpha1',
      kind: 'Model',
      metadata: { name: 'shape' },
      spec: { shape: tinyShape },
    }
    await until(
      () =>
        apply(model).then(
          () => true,
          () => false,
        ),
      LIMIT_MS,
      'the server answers',
    )
    await apply(deployment('vip', 10, []))
    await apply(deployment('eater', 0, [`--eat-mib-per-second=${EAT_MIB_PER_SECOND}`]))
    await until(() => readyIn(cluster.client, 'vip-0', 1), LIMIT_MS, 'vip is Ready')
    await until(() => readyIn(cluster.client, 'eater-0', 1), LIMIT_MS, 'eater is Ready')
    ballast = spawn(process.execPath, ['-e', hoard])
    writeFileSync(join(group.folder, 'cgroup.procs'), String(ballast.pid))
    ballast.stdin?.write('go')
    await once(ballast.stdout as Readable, 'data')
    const pidOf = async (name: string) => (await shardsOf(cluster.client, name))[0]?.status?.pid
    const vip = await pidOf('vip-0')

    const limitBytes = Math.round(used(group) / USED_SHARE_AT_FIRST)
    writeFileSync(join(group.folder, group.limitFile), String(limitBytes))
    console.log(`limit ${Math.round(limitBytes / MIB)} MiB; the engine eats ${EAT_MIB_PER_SECOND} MiB/s`)
    const startMs = Date.now()
    const gone = async () => {
      const { status } = await groupOf(cluster.client, 'eater-0')
      const seconds = ((Date.now() - startMs) / 1_000).toFixed(0)
      const psi = read({ ...group, folder: '/proc/pressure' }, 'memory')
        .replaceAll(/ avg60.*$/gm, '')
        .trim()
      console.log(
        `${seconds} s: ${((100 * used(group)) / limitBytes).toFixed(1)} % used, ${oomKills(group)} OOM kills, ${psi.replace('\n', ', ')}, eater ${status?.phase ?? ''}`,
      )
      await new Promise((resolve) => setTimeout(resolve, 2_000))
      return status?.firstCause?.reason === 'MemoryPressure' || oomKills(group) > 0
    }
    await until(gone, LIMIT_MS, 'somebody acts')
    const { status } = await groupOf(cluster.client, 'eater-0')
    const { items } = await cluster.client.list({ kind: 'Event' })
    for (const event of items as readonly Event[])
      if (JSON.stringify(event).includes('emory')) console.log(`event: ${JSON.stringify(event).slice(0, 300)}`)
    console.log(`first cause: ${status?.firstCause?.reason ?? 'none'}: ${status?.firstCause?.message ?? ''}`)
    const shard = (await cluster.client.list({ kind: 'Shard' })).items as readonly Shard[]
    console.log(`shards: ${shard.map((s) => `${s.metadata.name} ${s.status?.phase ?? ''}`).join(', ')}`)
    const held =
      (await pidOf('vip-0')) === vip && status?.firstCause?.reason === 'MemoryPressure' && oomKills(group) === 0
    console.log(
      held ? 'the least important group went, the other serves on, the OOM killer never came' : 'NOT as promised',
    )
    return held ? 0 : 1
  } finally {
    ballast?.kill()
    await cluster.stop()
    await endAll()
  }
}

const group = makeCgroup()
let code = 1
try {
  code = await run(group)
} finally {
  await until(() => read(group, 'cgroup.procs') === '', 30_000, 'the cgroup is empty')
  rmdirSync(group.folder)
}
process.exit(code)
