/** Which engine can cut which architecture, and what a node offers of it. Lists that a node reports win over the table. */
import type { ModelShape } from '../../api/model.ts'
import type { EngineInfo } from '../../api/node.ts'
import type { Engine, GroupStrategy, Transport } from '../../api/words.ts'
import type { Seat } from './seats.ts'
import type { Demand, NodeView } from './types.ts'

/** mlx-lm 0.32.2 (facts/engines-verified.md §2); a `*` at the end stands for any ending. */
const mlxPipeline = [
  'bailing_hybrid',
  'deepseek_v2',
  'deepseek_v3',
  'deepseek_v32',
  'deepseek_v41',
  'glm4_moe',
  'glm4_moe_lite',
  'kimi_k3',
  'minimax_m3_vl',
  'ministral3',
  'mistral4',
  'muse_spark',
  'qwen2',
  'qwen3_5',
  'qwen3_moe',
  'qwen3_next',
]
const mlxTensor = [
  'deepseek_*',
  'exaone_moe',
  'glm4_moe*',
  'gpt_oss',
  'kimi_*',
  'llama',
  'longcat*',
  'minimax*',
  'ministral3',
  // mlx-lm loads mistral with its llama code.
  'mistral',
  'mistral4',
  'muse_spark',
  'qwen2',
  'qwen3',
  'qwen3_5',
  'qwen3_moe',
  'step3p5',
]
/** Absent from an entry: the engine has no such cut. llama.cpp's tensor split works on CUDA only. */
const builtIn: Readonly<Record<Engine, { readonly pipeline: readonly string[]; readonly tensor: readonly string[] }>> =
  {
    mlx: { pipeline: mlxPipeline, tensor: mlxTensor },
    llamacpp: { pipeline: ['*'], tensor: [] },
    fake: { pipeline: ['*'], tensor: ['*'] },
  }

/** The engine as the node reports it; undefined: it does not offer it. A node that reports no engine at all offers each. */
export function engineOf(node: NodeView, engine: Engine): Partial<EngineInfo> | undefined {
  return node.engines.length === 0 ? {} : node.engines.find((e) => e.name === engine)
}

/** Can this engine on this node run one rank of such a group? */
export function canCut(
  info: Partial<EngineInfo>,
  engine: Engine,
  strategy: GroupStrategy,
  architecture: string,
): boolean {
  if (strategy === 'Single') return true
  const list =
    strategy === 'Pipeline' ? (info.pipeline ?? builtIn[engine].pipeline) : (info.tensor ?? builtIn[engine].tensor)
  return list.some((entry) =>
    entry.endsWith('*') ? architecture.startsWith(entry.slice(0, -1)) : entry === architecture,
  )
}

/** Ranks of different builds are never mixed; '' for nodes that report nothing. */
export function buildOf(node: NodeView, engine: Engine): string {
  const info = engineOf(node, engine)
  if (info === undefined) return ''
  return info.build ?? [info.version, info.lmVersion].filter((v) => v !== undefined).join('/')
}

/** A third worker beside the leader can deadlock llama.cpp's RPC (llama.cpp#28487, open). */
export const LLAMACPP_RANKS_MAX = 3

/** What the weights are; undefined: a bare shape says nothing. What a person wrote may tell it only by its source's name. */
export function formatOf({ shape, source }: Pick<Demand, 'shape' | 'source'>): ModelShape['format'] {
  if (shape.format !== undefined) return shape.format
  if (source === undefined) return undefined
  return /gguf/i.test(source) ? 'Gguf' : 'Safetensors'
}

/** Why the engine does not read the model's files: GGUF is llama.cpp's, safetensors are MLX's. undefined: it does. */
export function formatRefusal(engine: Engine, demand: Pick<Demand, 'shape' | 'source'>): string | undefined {
  const format = formatOf(demand)
  if (engine === 'mlx' && format === 'Gguf')
    return 'mlx does not read GGUF: set engine.name to llamacpp, or name the model in safetensors'
  if (engine === 'llamacpp' && format === 'Safetensors')
    return 'llamacpp reads GGUF only: set engine.name to mlx, or name the model as GGUF'
  return undefined
}

/** Engines to consider, the preferred one first. Auto never means fake, and takes llama.cpp only where a node reports it. */
export function engineChoices(demand: Demand, nodes: readonly NodeView[]): readonly Engine[] {
  const { name } = demand.template.engine
  if (name !== 'Auto') return [name]
  const format = formatOf(demand)
  if (format === 'Gguf') return ['llamacpp']
  const reported = nodes.some((n) => n.engines.some((e) => e.name === 'llamacpp'))
  return format === undefined && reported ? ['mlx', 'llamacpp'] : ['mlx']
}

/** Backends that a group may use on these nodes, in order of preference when equally fast. */
export function transportChoices(
  demand: Demand,
  engine: Engine,
  strategy: GroupStrategy,
  seats: readonly Seat[],
): readonly Transport[] {
  if (strategy === 'Single') return ['Ring']
  if (engine === 'llamacpp') return ['Rpc']
  if (engine === 'fake') return ['Ring']
  const wanted = demand.template.parallelism.transport
  const offersJaccl = (node: NodeView) => engineOf(node, engine)?.transports?.includes('Jaccl') ?? true
  const jaccl = seats.every(({ node, speed }) => speed.rdmaCapable && offersJaccl(node))
  if (wanted === 'Jaccl') return jaccl ? ['Jaccl'] : []
  return wanted === 'Auto' && jaccl ? ['Ring', 'Jaccl'] : ['Ring']
}
