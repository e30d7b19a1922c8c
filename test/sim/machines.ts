/**
 * What must hold on the machines themselves, whatever the store believes, and of the store measured against them: an
 * independent ledger from bindings and living processes, so that a mistake of the planner's own one shows.
 */
import { allocatableBytes } from '../../src/api/hardware.ts'
import type { Shard } from '../../src/api/shard.ts'
import { parseBytes } from '../../src/lib/quantity.ts'
import type { Snapshot } from '../../src/store/store.ts'
import type { SimCluster } from '../support/simcluster.ts'
import type { SimMachine } from '../support/simmachine.ts'

export const MEMORY = '16Gi'
const allocatable = allocatableBytes({ memoryBytes: parseBytes(MEMORY), osVersion: '15.3' })

/** At the start of a process. */
export function machineFindings(machine: SimMachine, started: Shard): readonly string[] {
  const findings: string[] = []
  const at = `${machine.name} starts ${started.metadata.name}`
  if (started.spec.nodeName !== machine.name) findings.push(`ActsForAnother: ${at} of ${started.spec.nodeName}`)
  const others = machine.processes().filter(({ shard }) => shard.metadata.uid !== started.metadata.uid)
  for (const { shard } of others)
    if (shard.spec.group === started.spec.group) findings.push(`TwoEpochsAlive: ${at} beside ${shard.metadata.name}`)
  const bytes = machine.processes().reduce((sum, { shard }) => sum + shard.spec.memoryBytes, 0)
  if (bytes > allocatable) findings.push(`Oversold: ${at}: ${bytes} bytes of ${allocatable}`)
  return findings
}

/** Bytes per machine at the last commit: no commit raises them above what the machine has. */
export class Bindings {
  #bytes: ReadonlyMap<string, number> = new Map()

  findings(snapshot: Snapshot, { machines }: SimCluster): readonly string[] {
    const was = this.#bytes
    const is = new Map([...machines.values()].map((machine) => [machine.name, claimedBytes(snapshot, machine)]))
    this.#bytes = is
    return [...is]
      .filter(([name, bytes]) => bytes > allocatable && bytes > (was.get(name) ?? 0))
      .map(([name, bytes]) => `OverBound: ${name} has ${bytes} bytes claimed of ${allocatable}`)
  }
}

/**
 * By each group the largest of what it is bound to, what its successor is bound to, and what runs of it. What runs and
 * the store has never heard of (its disk lost it) is the agent's to stop, before it starts anything.
 */
function claimedBytes(snapshot: Snapshot, machine: SimMachine): number {
  const claims = new Map<string, number>()
  const raise = (group: string, bytes: number) => claims.set(group, Math.max(claims.get(group) ?? 0, bytes))
  for (const { metadata, spec } of snapshot.list('ShardGroup'))
    for (const members of [spec.members, spec.next?.members ?? []])
      raise(
        metadata.name,
        members.filter(({ node }) => node === machine.name).reduce((sum, m) => sum + m.memoryBytes, 0),
      )
  for (const { shard } of machine.processes())
    if (snapshot.getByUid(shard.metadata.uid) !== undefined) raise(shard.spec.group, shard.spec.memoryBytes)
  return [...claims.values()].reduce((sum, bytes) => sum + bytes, 0)
}
