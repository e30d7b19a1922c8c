/** What the agent says of its own Node. Pure; figures that change all the time are in heartbeats, not here. */
import { isDeepStrictEqual } from 'node:util'
import type { ConditionUpdate } from '../src/api/conditions.ts'
import { setConditions } from '../src/api/conditions.ts'
import type { Condition } from '../src/api/meta.ts'
import type { EngineInfo, NodeModel, NodeStatus } from '../src/api/node.ts'
import { quantityOf } from '../src/lib/quantity.ts'
import type { LocalModel } from './models.ts'
import type { MachineFacts } from './observe/facts.ts'

/** What the engines' probes found. A missing engine comes with what to do about it. */
export interface EngineReport {
  readonly engines: readonly EngineInfo[]
  readonly missing: readonly { readonly engine: string; readonly remedy: string; readonly optional: boolean }[]
  /** The GPU's working-set limit, when an engine told it. */
  readonly gpuMemoryBytes?: number
}

export interface NodeStatusInput {
  readonly facts: MachineFacts
  readonly engines: EngineReport
  readonly models: readonly LocalModel[] | undefined
  /** Why a fetch waits for room; undefined: none does. */
  readonly blockedFetch?: string | undefined
  /** What else this machine says of itself: its firewall, its Thunderbolt links. */
  readonly more?: readonly ConditionUpdate[]
  /** Memory is short, or was until a moment ago (pressure.ts). */
  readonly memoryPressed?: boolean
  readonly agentVersion: string
  /** Where this node's shards listen. */
  readonly address: string
  /** Where other nodes get files of models; absent: nowhere. */
  readonly modelsDoor?: { readonly address: string; readonly port: number } | undefined
  /** Where other nodes ask to measure links; absent: nowhere. */
  readonly linksDoor?: { readonly address: string; readonly port: number } | undefined
  /** Conditions that were reported before: their times stay while they do not flip. */
  readonly conditions: readonly Condition[]
  readonly nowMs: number
}

export type NodeReport = Pick<
  NodeStatus,
  'nodeInfo' | 'capacity' | 'engines' | 'models' | 'ports' | 'networks' | 'addresses' | 'conditions'
>

/** The agent's part of Node.status: equal inputs give equal reports, so that only changes are written. */
export function nodeReport(input: NodeStatusInput): NodeReport {
  const { facts, engines, models, agentVersion, address, modelsDoor, linksDoor } = input
  const gpuMemory = facts.gpuMemoryBytes
  return {
    nodeInfo: {
      chip: facts.chip,
      ...(facts.gpuCores === undefined ? {} : { gpuCores: facts.gpuCores }),
      ...(facts.osVersion === undefined ? {} : { osVersion: facts.osVersion }),
      ...(facts.hardwareModel === undefined ? {} : { hardwareModel: facts.hardwareModel }),
      agentVersion,
      bootId: facts.bootId,
      simulated: facts.simulated === true,
    },
    capacity: {
      memory: quantityOf(facts.memoryBytes),
      ...(gpuMemory === undefined ? {} : { gpuMemory: quantityOf(gpuMemory) }),
    },
    engines: engines.engines,
    ...(models === undefined ? {} : { models: models.map(modelReport) }),
    ...(facts.ports === undefined ? {} : { ports: facts.ports }),
    ...(facts.networks === undefined ? {} : { networks: facts.networks }),
    addresses: [
      { type: 'Internal', address },
      ...(modelsDoor === undefined ? [] : [{ type: 'Models', ...addressOf(modelsDoor) } as const]),
      ...(linksDoor === undefined ? [] : [{ type: 'Links', ...addressOf(linksDoor) } as const]),
    ],
    conditions: setConditions(input.conditions, [...conditionsOf(input), ...(input.more ?? [])], input.nowMs),
  }
}

/** What a server understands that is a version older and knows nothing of links and cables, nor of who needs a model. */
export function withoutNews({
  ports: _,
  networks: _n,
  addresses,
  models,
  conditions,
  ...report
}: NodeReport): NodeReport {
  return {
    ...report,
    ...(models && { models: models.map(({ revision: _r, prunable: _p, ...model }) => model) }),
    ...(addresses && { addresses: addresses.filter(({ type }) => type !== 'Links') }),
    ...(conditions && { conditions: conditions.filter(({ type }) => !youngConditions.includes(type)) }),
  }
}

const youngConditions: readonly string[] = ['GangPortsOpen', 'ThunderboltNotSet']

const addressOf = ({ address, port }: { readonly address: string; readonly port: number }) => ({ address, port })

const modelReport = ({ source, digest, state, sizeBytes, revision, prunable }: LocalModel): NodeModel => ({
  source,
  ...(digest === undefined ? {} : { digest }),
  state,
  ...(sizeBytes === undefined ? {} : { sizeBytes }),
  ...(revision === undefined ? {} : { revision }),
  ...(prunable === undefined ? {} : { prunable }),
})

/** A disk with less than 5 % free, or less than 2 GiB, is under pressure: logs and models need room. */
const DISK_FREE_SHARE = 0.05
const DISK_FREE_BYTES = 2 * 2 ** 30

function conditionsOf({
  facts,
  engines,
  blockedFetch,
  memoryPressed = false,
}: NodeStatusInput): readonly ConditionUpdate[] {
  const short = facts.pressure === 'Warn' || facts.pressure === 'Critical'
  const pressed = short || memoryPressed
  const free = facts.diskFreeBytes
  const diskFull =
    free !== undefined && (free < DISK_FREE_BYTES || free < DISK_FREE_SHARE * (facts.diskTotalBytes ?? free))
  const missing = engines.missing.filter((m) => !m.optional)
  const absent = engines.missing.filter((m) => m.optional)
  return [
    {
      type: 'MemoryPressure',
      status: pressed ? 'True' : 'False',
      reason: pressed ? 'MemoryShort' : 'MemorySufficient',
      message: short
        ? `the system says that memory is short (${facts.pressure})`
        : pressed
          ? 'memory was short until a moment ago: nothing new is placed here for now'
          : 'the system has memory to give',
    },
    diskPressure(diskFull, blockedFetch),
    {
      type: 'EngineMissing',
      status: missing.length === 0 ? 'False' : 'True',
      reason: missing.length === 0 ? 'EnginesFound' : 'EngineNotFound',
      message:
        missing.length === 0
          ? absent.length === 0
            ? 'every engine that this agent can run was found'
            : `the engines that every node needs were found; ${remediesOf(absent)}`
          : remediesOf(engines.missing),
    },
  ]
}

const remediesOf = (engines: EngineReport['missing']): string =>
  engines.map((m) => `${m.engine}: ${m.remedy}`).join('; ')

function diskPressure(diskFull: boolean, blockedFetch: string | undefined): ConditionUpdate {
  if (blockedFetch !== undefined)
    return { type: 'DiskPressure', status: 'True', reason: 'NoRoomForModel', message: blockedFetch }
  return {
    type: 'DiskPressure',
    status: diskFull ? 'True' : 'False',
    reason: diskFull ? 'DiskShort' : 'DiskSufficient',
    message: diskFull ? 'the volume of the data folder is nearly full: free some of it' : 'the disk has room',
  }
}

/** The patch between two reports; the server replaces each field whole. undefined when they are equal. */
export function nodePatch(
  held: NodeReport | undefined,
  now: NodeReport,
): Readonly<Record<string, unknown>> | undefined {
  const changes = Object.entries(now).filter(
    ([field, value]) => !isDeepStrictEqual(value, held?.[field as keyof NodeReport]),
  )
  return changes.length === 0 ? undefined : Object.fromEntries(changes)
}
