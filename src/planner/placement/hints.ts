/**
 * Ways out of a refusal, each one planned and found to fit before it is said: fewer tokens, fewer requests, more
 * quantised weights, one more node, a higher GPU limit, llama.cpp, or less of what was asked for. Numbers come from the
 * plan that was found.
 */
import { bitsPerWeightMlx, memoryConstants } from '../../api/hardware.ts'
import type { ModelShape } from '../../api/model.ts'
import type { NodeLink } from '../../api/node.ts'
import type { Engine, Refusal, RefusalReason } from '../../api/words.ts'
import { formatBytes } from '../../lib/quantity.ts'
import { bitsOf } from '../cost.ts'
import { memoryBytesOf } from '../memory.ts'
import type { Candidate } from './candidates.ts'
import { isKnown } from './candidates.ts'
import { nodeRefusal } from './filter.ts'
import { linkSpeed } from './links.ts'
import { EXACT_NODES } from './seats.ts'
import type { Terrain } from './terrain.ts'
import { terrainOf } from './terrain.ts'
import type { Demand, NodeView } from './types.ts'

/** The search of place.ts. */
export interface Search {
  /** The candidate that it would place, undefined when nothing fits. */
  readonly best: (demand: Demand, nodes: readonly NodeView[], terrain?: Terrain) => Candidate | undefined
  /** Does anything fit? */
  readonly fits: (demand: Demand, nodes: readonly NodeView[], terrain?: Terrain) => boolean
}

/** A demand on few nodes, and how to search on them. */
interface Site {
  readonly demand: Demand
  readonly nodes: readonly NodeView[]
  readonly best: (demand: Demand, nodes?: readonly NodeView[]) => Candidate | undefined
  readonly fits: (demand: Demand) => boolean
}

const KV_STEP_TOKENS = 256
const FEWER_BITS = [8, 6, 4, 3] as const
const MIB = 2 ** 20

/** Hints for a group that memory refused. What fits on the roomiest few nodes fits on all: hints look at no more. */
export function hintsToFit(demand: Demand, all: readonly NodeView[], search: Search): readonly string[] {
  const site = siteOf(demand, all, search)
  const tries = [fewerTokens, fewerRequests, fewerBits, oneMoreNode, higherGpuLimit, withLlamaCpp]
  return tries.flatMap((hint) => hint(site) ?? [])
}

/** Hints for a group that memory did not refuse: what was asked for stands in its way, and would not have to. */
export function hintsToRun(
  demand: Demand,
  all: readonly NodeView[],
  search: Search,
  refusals: readonly Refusal[],
): readonly string[] {
  const has = (...reasons: readonly RefusalReason[]) => refusals.some((r) => reasons.includes(r.reason))
  const tries = [
    ...(has('EngineUnsupported', 'Indivisible', 'NotEnoughNodes', 'NoLink', 'EngineMismatch') ? [otherCut] : []),
    ...(has('NoLink') ? [otherTransport] : []),
    ...(has('EngineUnsupported') ? [withLlamaCpp] : []),
  ]
  if (tries.length === 0) return []
  const site = siteOf(demand, all, search)
  return tries.flatMap((hint) => hint(site) ?? [])
}

/** Hints for a group that was placed, but on several nodes: what would fit one. */
export function hintsToShrink(demand: Demand, nodes: readonly NodeView[], search: Search): readonly string[] {
  const { degree: _, ...parallelism } = demand.template.parallelism
  const onOne = withTemplate(demand, { parallelism: { ...parallelism, strategy: 'Data', split: [] } })
  return [fewerBits(siteOf(onOne, nodes, search))].flatMap((hint) => hint ?? [])
}

function siteOf(demand: Demand, all: readonly NodeView[], search: Search): Site {
  const nodes = roomiest(demand, all)
  const terrain = terrainOf(nodes)
  return {
    demand: withoutHistory(demand),
    nodes,
    best: (other, others) => (others === undefined ? search.best(other, nodes, terrain) : search.best(other, others)),
    fits: (other) => search.fits(other, nodes, terrain),
  }
}

/** A way out is told for one replica that stands nowhere yet. */
function withoutHistory({ incumbent: _, replicasAfter: __, ...demand }: Demand): Demand {
  return demand
}

function roomiest(demand: Demand, nodes: readonly NodeView[]): readonly NodeView[] {
  const free = (n: NodeView) => n.allocatableBytes - n.boundBytes
  return nodes
    .filter((node) => nodeRefusal(node, demand) === undefined)
    .map((node): NodeView => ({ ...node, models: undefined }))
    .sort((a, b) => free(b) - free(a) || (a.name < b.name ? -1 : 1))
    .slice(0, EXACT_NODES)
}

const withTemplate = (demand: Demand, change: Partial<Demand['template']>): Demand => ({
  ...demand,
  template: { ...demand.template, ...change },
})
const withContext = (demand: Demand, contextTokens: number): Demand =>
  withTemplate(demand, { serving: { ...demand.template.serving, contextTokens } })
const withEngine = (demand: Demand, name: Engine): Demand =>
  withTemplate(demand, { engine: { ...demand.template.engine, name } })

/** `fits as Pipeline of 2 (5.3 tokens/s, 10.0Gi per node at most)` */
function fits(plan: Candidate, verb = 'fits'): string {
  const { strategy, degree, needs, predicted } = plan
  const need = Math.max(...needs.map(memoryBytesOf))
  const rate = isKnown(plan) ? `${Number(predicted.decodeTokensPerSecond.toPrecision(3))} tokens/s, ` : ''
  const where = strategy === 'Single' ? 'one node' : `as ${strategy} of ${degree}`
  return `${verb} ${where} (${rate}${formatBytes(need)} per node at most)`
}

/** The largest of [1, wrong) for which `holds` is true, which it is for all smaller ones; undefined: for none. */
function largest(wrong: number, holds: (count: number) => boolean): number | undefined {
  let [good, bad] = [0, wrong]
  while (bad - good > 1) {
    const middle = Math.floor((good + bad) / 2)
    if (holds(middle)) good = middle
    else bad = middle
  }
  return good === 0 ? undefined : good
}

/** The most tokens, in steps of the cache, that fit and are fewer than asked for; undefined: none does. */
function largestContext({ demand, fits: hold }: Pick<Site, 'demand' | 'fits'>): number | undefined {
  const asked = Math.ceil(demand.template.serving.contextTokens / KV_STEP_TOKENS)
  const steps = largest(asked, (count) => hold(withContext(demand, count * KV_STEP_TOKENS)))
  return steps === undefined ? undefined : steps * KV_STEP_TOKENS
}

function fewerTokens(site: Site): string | undefined {
  const tokens = largestContext(site)
  const plan = tokens === undefined ? undefined : site.best(withContext(site.demand, tokens))
  return plan && `serving.contextTokens: ${tokens} ${fits(plan)}`
}

function fewerRequests({ demand, best, fits: hold }: Site): string | undefined {
  const { serving } = demand.template
  const withRequests = (concurrency: number) => withTemplate(demand, { serving: { ...serving, concurrency } })
  const requests = largest(serving.concurrency, (count) => hold(withRequests(count)))
  const plan = requests === undefined ? undefined : best(withRequests(requests))
  return plan && `serving.concurrency: ${requests} ${fits(plan)}`
}

/** The mildest quantisation below the present one that fits. Exact bytes of the present files do not carry over. */
function fewerBits({ demand, best }: Site): string | undefined {
  for (const bits of FEWER_BITS) {
    if (bits >= bitsOf(demand.shape)) continue
    const shape = quantised(demand.shape, bits)
    const plan = best({ ...demand, shape })
    if (plan !== undefined)
      return `${bits}-bit weights (${(shape.weightBytes / 1e9).toFixed(1)} GB) ${fits(plan, 'fit')}`
  }
  return undefined
}

function quantised(shape: ModelShape, bits: number): ModelShape {
  const { layerBytes: _l, nonLayerBytes: _n, replicatedBytes: _r, ...rest } = shape
  const weightBytes = Math.round((shape.parameters * (bitsPerWeightMlx[bits] ?? bits)) / 8)
  return { ...rest, weightBytes, quantization: { bits, groupSize: shape.quantization?.groupSize ?? 64 } }
}

/** The roomiest node once more, empty, with its kind of link to every other node; a forced degree grows with it. */
function oneMoreNode({ demand, nodes, best }: Site): string | undefined {
  const [like] = nodes
  if (like === undefined) return undefined
  const name = `another-${like.name}`
  const link = fastestOf(like.links)
  const links = link === undefined ? [] : nodes.map((node) => ({ ...link, peer: node.name }))
  const { headroomBytes: _, ...kind } = like
  const more = [...nodes, { ...kind, name, boundBytes: 0, links }]
  const { parallelism } = demand.template
  const grown =
    parallelism.degree === undefined || parallelism.split.length > 0
      ? undefined
      : withTemplate(demand, { parallelism: { ...parallelism, degree: parallelism.degree + 1 } })
  const plan = best(demand, more) ?? (grown && best(grown, more))
  const chip = like.nodeInfo.chip === '' ? '' : `${like.nodeInfo.chip}, `
  return plan && `one more node like ${like.name} (${chip}${formatBytes(like.memoryBytes)}) ${fits(plan)}`
}

/** Whatever the order of the list; undefined: it reports none. */
function fastestOf(links: readonly NodeLink[]): NodeLink | undefined {
  const wait = (link: NodeLink) => (linkSpeed(link, 'Jaccl') ?? linkSpeed(link, 'Ring'))?.allReduceSeconds ?? Infinity
  const text = ({ peer: _, address: __, peerAddress: ___, ...kind }: NodeLink) =>
    JSON.stringify(Object.entries(kind).sort())
  return [...links].sort((a, b) => wait(a) - wait(b) || (text(a) < text(b) ? -1 : 1))[0]
}

/** Whatever cut the planner would choose, where a certain one was asked for. */
function otherCut({ demand, best }: Site): string | undefined {
  const { degree, split, strategy, ...parallelism } = demand.template.parallelism
  if (strategy === 'Auto' && degree === undefined && split.length === 0) return undefined
  const plan = best(withTemplate(demand, { parallelism: { ...parallelism, strategy: 'Auto', split: [] } }))
  return plan && `parallelism.strategy: Auto, without degree and split, ${fits(plan)}`
}

function otherTransport({ demand, best }: Site): string | undefined {
  const { parallelism } = demand.template
  if (parallelism.transport === 'Auto') return undefined
  const plan = best(withTemplate(demand, { parallelism: { ...parallelism, transport: 'Auto' } }))
  return plan && `parallelism.transport: Auto ${fits(plan)}`
}

/** Metal's limit can be raised up to what the system reserve leaves; on Macs whose limit it is that binds. */
function higherGpuLimit({ demand, nodes, best }: Site): string | undefined {
  const { allocatableFactor } = memoryConstants
  const ceiling = (node: NodeView) =>
    node.systemReserveBytes === undefined || !node.nodeInfo.chip.startsWith('Apple')
      ? 0
      : Math.floor(allocatableFactor * (node.memoryBytes - node.systemReserveBytes))
  const raised = nodes.map((node) => ({ ...node, allocatableBytes: Math.max(node.allocatableBytes, ceiling(node)) }))
  const plan = best(demand, raised)
  if (plan === undefined) return undefined
  const limits = plan.seats.flatMap((seat, i) => {
    const node = nodes.find((n) => n.name === seat.node.name)
    const own = plan.needs[i]
    if (node === undefined || own === undefined) return []
    const wanted = memoryBytesOf(own) + node.boundBytes
    if (wanted <= node.allocatableBytes) return []
    return [`${Math.ceil(wanted / allocatableFactor / MIB)} on ${node.name}`]
  })
  return `a raised GPU limit ${fits(plan)}: sudo sysctl iogpu.wired_limit_mb=${limits.join(', ')}; it is lost on reboot`
}

/** The other engine, where nodes say nothing against it: its pipeline does not repeat the ends of the model on every rank. */
function withLlamaCpp({ demand, nodes, best }: Site): string | undefined {
  const { name } = demand.template.engine
  const offered = nodes.filter((n) => n.engines.length === 0 || n.engines.some((e) => e.name === 'llamacpp'))
  if ((name !== 'Auto' && name !== 'mlx') || offered.length === 0) return undefined
  const other: Demand = { ...withEngine(demand, 'llamacpp'), shape: { ...demand.shape, format: 'Gguf' } }
  const plan = best(other, offered)
  if (plan !== undefined) return `engine llamacpp (with the model as GGUF) ${fits(plan)}`
  const tokens = largestContext({ demand: other, fits: (smaller) => best(smaller, offered) !== undefined })
  const smaller = tokens === undefined ? undefined : best(withContext(other, tokens), offered)
  return (
    smaller && `engine llamacpp (with the model as GGUF) and serving.contextTokens: ${tokens} ${fits(smaller, 'fit')}`
  )
}
