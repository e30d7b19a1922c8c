/**
 * Ways out of a refusal, each one planned and found to fit before it is said: fewer tokens, fewer requests, more
 * quantised weights, one more node, a higher GPU limit, llama.cpp. Numbers come from the plan that was found.
 */
import { bitsPerWeightMlx, memoryConstants } from '../../api/hardware.ts'
import type { ModelShape } from '../../api/model.ts'
import type { Engine } from '../../api/words.ts'
import { formatBytes } from '../../lib/quantity.ts'
import { bitsOf } from '../cost.ts'
import { memoryBytesOf } from '../memory.ts'
import type { Candidate } from './candidates.ts'
import { isKnown } from './candidates.ts'
import { nodeRefusal } from './filter.ts'
import { EXACT_NODES } from './seats.ts'
import type { Demand, NodeView } from './types.ts'

/** The search of place.ts: the candidate that it would place, undefined when nothing fits. */
type Choose = (demand: Demand, nodes: readonly NodeView[]) => Candidate | undefined

const KV_STEP_TOKENS = 256
const FEWER_BITS = [8, 6, 4, 3] as const
const MIB = 2 ** 20

/** Hints for a group that memory refused. What fits on the roomiest few nodes fits on all: hints look at no more. */
export function hintsToFit(demand: Demand, all: readonly NodeView[], choose: Choose): readonly string[] {
  const nodes = roomiest(demand, all)
  const tries = [
    () => fewerTokens(demand, nodes, choose),
    () => fewerRequests(demand, nodes, choose),
    () => fewerBits(demand, nodes, choose),
    () => oneMoreNode(demand, nodes, choose),
    () => higherGpuLimit(demand, nodes, choose),
    () => withLlamaCpp(demand, nodes, choose),
  ]
  return tries.flatMap((hint) => hint() ?? [])
}

/** Hints for a group that was placed, but on several nodes: what would fit one. */
export function hintsToShrink(demand: Demand, nodes: readonly NodeView[], choose: Choose): readonly string[] {
  const { degree: _, ...parallelism } = demand.template.parallelism
  const onOne = withTemplate(demand, { parallelism: { ...parallelism, strategy: 'Data', split: [] } })
  return [fewerBits(onOne, roomiest(demand, nodes), choose)].flatMap((hint) => hint ?? [])
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

/** The most tokens, in steps of the cache, that fit; undefined: none does. */
function largestContext(demand: Demand, nodes: readonly NodeView[], choose: Choose): number | undefined {
  const holds = (steps: number) => choose(withContext(demand, steps * KV_STEP_TOKENS), nodes) !== undefined
  // The number asked for is known not to fit.
  let [good, bad] = [0, Math.ceil(demand.template.serving.contextTokens / KV_STEP_TOKENS)]
  while (bad - good > 1) {
    const middle = Math.floor((good + bad) / 2)
    if (holds(middle)) good = middle
    else bad = middle
  }
  return good === 0 ? undefined : good * KV_STEP_TOKENS
}

function fewerTokens(demand: Demand, nodes: readonly NodeView[], choose: Choose): string | undefined {
  const tokens = largestContext(demand, nodes, choose)
  const plan = tokens === undefined ? undefined : choose(withContext(demand, tokens), nodes)
  return plan && `serving.contextTokens: ${tokens} ${fits(plan)}`
}

function fewerRequests(demand: Demand, nodes: readonly NodeView[], choose: Choose): string | undefined {
  const { serving } = demand.template
  const withRequests = (concurrency: number) => withTemplate(demand, { serving: { ...serving, concurrency } })
  let [good, bad] = [0, serving.concurrency]
  while (bad - good > 1) {
    const middle = Math.floor((good + bad) / 2)
    if (choose(withRequests(middle), nodes) !== undefined) good = middle
    else bad = middle
  }
  const plan = good === 0 ? undefined : choose(withRequests(good), nodes)
  return plan && `serving.concurrency: ${good} ${fits(plan)}`
}

/** The mildest quantisation below the present one that fits. Exact bytes of the present files do not carry over. */
function fewerBits(demand: Demand, nodes: readonly NodeView[], choose: Choose): string | undefined {
  for (const bits of FEWER_BITS) {
    if (bits >= bitsOf(demand.shape)) continue
    const shape = quantised(demand.shape, bits)
    const plan = choose({ ...demand, shape }, nodes)
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
function oneMoreNode(demand: Demand, nodes: readonly NodeView[], choose: Choose): string | undefined {
  const [like] = nodes
  if (like === undefined) return undefined
  const name = `another-${like.name}`
  const [link] = like.links
  const links = link === undefined ? [] : nodes.map((node) => ({ ...link, peer: node.name }))
  const { headroomBytes: _, ...kind } = like
  const more = [...nodes, { ...kind, name, boundBytes: 0, links }]
  const { parallelism } = demand.template
  const grown =
    parallelism.degree === undefined || parallelism.split.length > 0
      ? undefined
      : withTemplate(demand, { parallelism: { ...parallelism, degree: parallelism.degree + 1 } })
  const plan = choose(demand, more) ?? (grown && choose(grown, more))
  const chip = like.nodeInfo.chip === '' ? '' : `${like.nodeInfo.chip}, `
  return plan && `one more node like ${like.name} (${chip}${formatBytes(like.memoryBytes)}) ${fits(plan)}`
}

/** Metal's limit can be raised up to what the system reserve leaves; on Macs whose limit it is that binds. */
function higherGpuLimit(demand: Demand, nodes: readonly NodeView[], choose: Choose): string | undefined {
  const { allocatableFactor } = memoryConstants
  const ceiling = (node: NodeView) =>
    node.systemReserveBytes === undefined || !node.nodeInfo.chip.startsWith('Apple')
      ? 0
      : Math.floor(allocatableFactor * (node.memoryBytes - node.systemReserveBytes))
  const raised = nodes.map((node) => ({ ...node, allocatableBytes: Math.max(node.allocatableBytes, ceiling(node)) }))
  const plan = choose(demand, raised)
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
function withLlamaCpp(demand: Demand, nodes: readonly NodeView[], choose: Choose): string | undefined {
  const { name } = demand.template.engine
  const offered = nodes.filter((n) => n.engines.length === 0 || n.engines.some((e) => e.name === 'llamacpp'))
  if ((name !== 'Auto' && name !== 'mlx') || offered.length === 0) return undefined
  const other = withEngine(demand, 'llamacpp')
  const plan = choose(other, offered)
  if (plan !== undefined) return `engine llamacpp (with the model as GGUF) ${fits(plan)}`
  const tokens = largestContext(other, offered, choose)
  const smaller = tokens === undefined ? undefined : choose(withContext(other, tokens), offered)
  return (
    smaller && `engine llamacpp (with the model as GGUF) and serving.contextTokens: ${tokens} ${fits(smaller, 'fit')}`
  )
}
