/** `mctl describe model`: the shape that plans are made with, where it is from, and where its files lie. */
import type { MctlObject } from '../../api/meta.ts'
import type { Model } from '../../api/model.ts'
import type { ModelPlace } from '../../api/modelplaces.ts'
import { placesOf } from '../../api/modelplaces.ts'
import type { Node } from '../../api/node.ts'
import type { Shard } from '../../api/shard.ts'
import { formatBytes } from '../../lib/quantity.ts'
import type { Client } from '../../rpc/messages.ts'
import type { Block, Entry } from './text.ts'
import { fields, section } from './text.ts'

export async function describeModel(client: Client, object: MctlObject): Promise<readonly Block[]> {
  const { source } = (object as Model).spec
  return modelBlocks(object as Model, source === undefined ? [] : await placesIn(client, source))
}

export function modelBlocks({ spec, status }: Model, places: readonly ModelPlace[]): readonly Block[] {
  const files = placesText(places)
  const shape = status?.shape ?? spec.shape
  const origin = fields([
    ['Source', spec.source ?? '<none> (a shape only)'],
    ['Revision', status?.resolvedRevision ?? spec.revision ?? '<none>'],
    ['Digest', status?.digest ?? '<none>'],
  ])
  if (shape === undefined) return [origin, fields([['Shape', 'not known yet']]), files]
  const { quantization, experts } = shape
  const entries: Entry[] = [
    ['Architecture', shape.architecture],
    ['Parameters', `${count(shape.parameters)}${activeText(shape)}`],
    ['Weights', `${formatBytes(shape.weightBytes)}${quantization === undefined ? '' : `, ${quantization.bits} bits`}`],
    ['Layers', `${shape.layers} × hidden size ${shape.hiddenSize}`],
    [
      'Heads',
      `${shape.attentionHeads} of ${shape.headDim}, ${shape.kvHeads} for keys and values (${shape.attention ?? 'Full'} attention)`,
    ],
    ['Vocabulary', String(shape.vocabSize)],
  ]
  if (experts !== undefined && experts.count > 0)
    entries.push(['Experts', `${experts.count}, ${experts.perToken} for each token`])
  const observed = (status?.observed ?? []).map((rate) => [
    `${rate.strategy} ${rate.degree}`,
    rate.engine ?? '<any>',
    rate.linkClass,
    rate.tokensPerSecond.toFixed(1),
    rate.predictedTokensPerSecond?.toFixed(1) ?? '<unknown>',
    String(rate.samples),
  ])
  return [
    origin,
    fields(entries),
    files,
    section('Observed', ['STRATEGY', 'ENGINE', 'LINK', 'TOKENS/S', 'PREDICTED', 'ANSWERS'], observed),
  ]
}

async function placesIn(client: Client, source: string): Promise<readonly ModelPlace[]> {
  const [nodes, shards] = await Promise.all([client.list({ kind: 'Node' }), client.list({ kind: 'Shard' })])
  return placesOf(source, nodes.items as readonly Node[], shards.items as readonly Shard[])
}

/** Pruning takes only what was fetched and nobody needs, and only when its room is needed. */
const placesText = (places: readonly ModelPlace[]): Block =>
  section(
    'Files',
    ['NODE', 'STATE', 'SIZE', 'REVISION', 'SHARDS', 'PRUNING FREES'],
    places.map(({ node, state, sizeBytes, revision, shards, prunableBytes }) => [
      node,
      state,
      sizeBytes === undefined ? '<unknown>' : formatBytes(sizeBytes),
      revision?.slice(0, 12) ?? '<none>',
      shards.join(', ') || '<none>',
      prunableBytes === 0 ? 'nothing' : formatBytes(prunableBytes),
    ]),
  )

const activeText = ({ parameters, activeParameters }: NonNullable<Model['spec']['shape']>): string =>
  activeParameters === undefined || activeParameters === parameters ? '' : `, ${count(activeParameters)} active`

const count = (n: number): string =>
  n >= 1e9 ? `${(n / 1e9).toFixed(1)}B` : n >= 1e6 ? `${(n / 1e6).toFixed(1)}M` : String(n)
