/** Why a node cannot take any rank of a group, and why a model cannot be cut so: refusals with their numbers. */
import type { Taint } from '../../api/node.ts'
import type { Toleration } from '../../api/modeldeployment.ts'
import type { ModelShape } from '../../api/model.ts'
import type { GroupStrategy, Refusal, RefusalReason } from '../../api/words.ts'
import { formatBytes } from '../../lib/quantity.ts'
import type { Demand, NodeView } from './types.ts'

/** Bytes that the ledger leaves on a node for this group; never negative. */
export const freeBytes = (node: NodeView): number => Math.max(0, node.allocatableBytes - node.boundBytes)

/** What may be bound now: free bytes, and no more than the memory that is really left (our own shards are not in it). */
export const budgetBytes = (node: NodeView): number =>
  Math.max(0, Math.min(freeBytes(node), (node.headroomBytes ?? Infinity) - node.boundBytes))

const NOT_READY = 'the node is not Ready'
const CORDONED = 'the node is cordoned'

const refuse = (node: NodeView, reason: RefusalReason, message: string): Refusal => ({
  node: node.name,
  reason,
  message,
})

/** The first reason, in this order, why the node is out whatever the cut; undefined: it is a candidate. */
export function nodeRefusal(node: NodeView, { template, siblingNodes }: Demand): Refusal | undefined {
  const { nodes, nodeSelector, tolerations, spread } = template.placement
  if (!node.ready) return refuse(node, 'NotReady', NOT_READY)
  if (node.unschedulable) return refuse(node, 'Unschedulable', CORDONED)

  const taint = node.taints.find((t) => !tolerations.some((toleration) => tolerates(toleration, t)))
  if (taint !== undefined)
    return refuse(node, 'UntoleratedTaint', `untolerated taint ${taint.key}=${taint.value ?? ''}`)
  if (nodes.length > 0 && !nodes.includes(node.name))
    return refuse(node, 'NodeSelectorMismatch', 'not in placement.nodes')
  for (const key in nodeSelector)
    if (node.labels[key] !== nodeSelector[key])
      return refuse(node, 'NodeSelectorMismatch', `label ${key}=${nodeSelector[key] ?? ''} is missing`)
  if (spread === 'Require' && siblingNodes.includes(node.name))
    return refuse(node, 'Unschedulable', 'holds another replica of this deployment (spread: Require)')
  return undefined
}

/** `operator` absent: Equal with a value, else Exists; Equal without a value means the empty one. */
export function tolerates({ key, value, effect, operator }: Toleration, taint: Taint): boolean {
  const anyValue = (operator ?? (value === undefined ? 'Exists' : 'Equal')) === 'Exists'
  return (
    (key === undefined || key === taint.key) &&
    (anyValue || (value ?? '') === (taint.value ?? '')) &&
    (effect === undefined || effect === taint.effect)
  )
}

/** Are the model's files on the node, or can it fetch them? A bare shape has none, and only the fake engine runs without. */
export function presenceRefusal(node: NodeView, { template, source, digest, fetch }: Demand): Refusal | undefined {
  if (node.models === undefined || fetch !== undefined) return undefined
  if (source === undefined) {
    if (template.engine.name === 'fake') return undefined
    return refuse(node, 'ModelNotPresent', 'the model is a shape without files; only the fake engine runs it')
  }
  const copies = node.models.filter((m) => m.source === source)
  const present = copies.filter((m) => m.state === 'Present')
  if (present.length === 0) {
    const state = copies[0]?.state ?? 'absent'
    return refuse(node, 'ModelNotPresent', `${source} is ${state === 'absent' ? 'not on the node' : state}`)
  }
  const same = present.some((m) => digest === undefined || m.digest === undefined || m.digest === digest)
  if (same) return undefined
  return refuse(node, 'ModelDigestMismatch', `${source} is ${present[0]?.digest ?? '?'}, wanted ${digest ?? '?'}`)
}

/** Why the model's shape forbids this cut; undefined: it does not. */
export function cutRefusal(shape: ModelShape, strategy: GroupStrategy, degree: number): Refusal | undefined {
  const refuse = (message: string): Refusal => ({ node: '', reason: 'Indivisible', message })
  if (strategy === 'Pipeline' && degree > shape.layers)
    return refuse(`${shape.layers} layers cannot make ${degree} stages`)
  if (strategy !== 'Tensor') return undefined
  const mla = shape.attention === 'Mla'
  const divided: [string, number | undefined][] = [
    ['attention heads', shape.attentionHeads],
    ['KV heads', mla ? undefined : shape.kvHeads],
    ['values of the feed-forward width', shape.intermediateSize],
  ]
  for (const [what, count] of divided)
    if (count !== undefined && count % degree !== 0) return refuse(`${count} ${what} are not divisible by ${degree}`)

  const { bits = 16, groupSize } = shape.quantization ?? {}
  if (bits >= 16 || groupSize === undefined) return undefined
  const widths = [shape.intermediateSize, mla ? undefined : shape.attentionHeads * shape.headDim]
  const broken = widths.find((width) => width !== undefined && (width / degree) % groupSize !== 0)
  return broken === undefined
    ? undefined
    : refuse(`${broken} / ${degree} is not a multiple of the quantisation group of ${groupSize}`)
}

/** A refusal in numbers, its sentence not yet made. */
export type BriefRefusal = Omit<Refusal, 'message'> & { readonly message?: string }

/** Too little memory for a rank of `needBytes`: by the ledger, or by what is really left; undefined: it fits. */
export function memoryShortage(node: NodeView, needBytes: number): BriefRefusal | undefined {
  const budget = budgetBytes(node)
  if (needBytes <= budget) return undefined
  const free = freeBytes(node)
  return needBytes <= free
    ? { node: node.name, reason: 'MemoryPressure', needBytes, haveBytes: budget }
    : { node: node.name, reason: 'InsufficientMemory', needBytes, haveBytes: free }
}

export function memoryRefusal(node: NodeView, needBytes: number): Refusal | undefined {
  const short = memoryShortage(node, needBytes)
  if (short === undefined) return undefined
  const need = formatBytes(needBytes)
  const have = formatBytes(short.haveBytes ?? 0)
  if (short.reason === 'MemoryPressure')
    return { ...short, message: `memory pressure: needs ${need}, ${have} really left` }
  const bound = node.boundBytes > 0 ? `, ${formatBytes(node.boundBytes)} bound` : ''
  const of = `${have} free of ${formatBytes(node.allocatableBytes)} allocatable${bound}`
  return {
    ...short,
    message: `insufficient memory: needs ${need} (${needBytes} bytes), ${of} (${short.haveBytes ?? 0} bytes)`,
  }
}

const phrases: Readonly<Record<RefusalReason, string>> = {
  InsufficientMemory: 'Insufficient memory',
  MemoryPressure: 'node(s) under memory pressure',
  Unschedulable: 'node(s) were unschedulable',
  NotReady: 'node(s) were not ready',
  UntoleratedTaint: 'node(s) had an untolerated taint',
  NodeSelectorMismatch: "node(s) didn't match the node selector",
  EngineUnsupported: 'node(s) without engine support',
  EngineMismatch: 'node(s) with another engine build',
  StrategyUnsupported: 'node(s) without support for the strategy',
  ModelNotPresent: 'node(s) without the model',
  ModelDigestMismatch: 'node(s) with other files of the model',
  NoLink: 'node(s) without a link to the others',
  NotEnoughNodes: 'too few nodes',
  Indivisible: 'indivisible',
}

/** Messages that add nothing to the phrase of their reason. */
const selfEvident: readonly (string | undefined)[] = [NOT_READY, CORDONED]

/** `0/2 nodes are available: 2 Insufficient memory (need 10.9Gi, best free 10.1Gi)`; what concerns no node comes last. */
export function refusalMessage(nodeCount: number, refusals: readonly Refusal[]): string {
  const refused = new Set(refusals.map((r) => r.node).filter((name) => name !== ''))
  const available = refused.size === 0 ? 0 : nodeCount - refused.size
  return `${available}/${nodeCount} nodes are available: ${refusalSummary(refusals)}`
}

/** `2 Insufficient memory (need 10.9Gi, best free 10.1Gi)`. `each`: so many nodes are refused in the same words. */
export function refusalSummary(refusals: readonly BriefRefusal[], each = 1): string {
  const onNodes = refusals.filter((r) => r.node !== '')
  const reasons = [...new Set(onNodes.map((r) => r.reason))].sort()
  const counts = reasons.map((reason) =>
    countReason(
      reason,
      onNodes.filter((r) => r.reason === reason),
      each,
    ),
  )
  return [...counts, ...refusals.filter((r) => r.node === '').map((r) => r.message)].join(', ')
}

function countReason(reason: RefusalReason, refusals: readonly BriefRefusal[], each: number): string {
  const phrase = `${refusals.length * each} ${phrases[reason]}`
  const nearest = nearestOf(refusals)
  if (nearest === undefined) {
    const messages = new Set(refusals.map((r) => r.message))
    const [only] = messages
    return messages.size === 1 && !selfEvident.includes(only) ? `${phrase} (${only ?? ''})` : phrase
  }
  const { needBytes = 0, haveBytes = 0 } = nearest
  return `${phrase} (need ${formatBytes(needBytes)}, best free ${formatBytes(haveBytes)})`
}

/** The refusal that is short of the fewest bytes. */
function nearestOf(refusals: readonly BriefRefusal[]): BriefRefusal | undefined {
  const short = ({ needBytes, haveBytes }: BriefRefusal) => (needBytes ?? Infinity) - (haveBytes ?? 0)
  const inBytes = refusals.filter((r) => r.needBytes !== undefined)
  return inBytes.length === 0 ? undefined : inBytes.reduce((best, r) => (short(r) < short(best) ? r : best))
}
