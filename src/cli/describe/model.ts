/** `mctl describe model`: the shape that plans are made with, and where it is from. */
import type { MctlObject } from '../../api/meta.ts'
import type { Model } from '../../api/model.ts'
import { formatBytes } from '../../lib/quantity.ts'
import type { Block, Entry } from './text.ts'
import { fields, section } from './text.ts'

export function describeModel(object: MctlObject): readonly Block[] {
  const { spec, status } = object as Model
  const shape = status?.shape ?? spec.shape
  const origin = fields([
    ['Source', spec.source ?? '<none> (a shape only)'],
    ['Revision', status?.resolvedRevision ?? spec.revision ?? '<none>'],
    ['Digest', status?.digest ?? '<none>'],
  ])
  if (shape === undefined) return [origin, fields([['Shape', 'not known yet']])]
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
    section('Observed', ['STRATEGY', 'ENGINE', 'LINK', 'TOKENS/S', 'PREDICTED', 'ANSWERS'], observed),
  ]
}

const activeText = ({ parameters, activeParameters }: NonNullable<Model['spec']['shape']>): string =>
  activeParameters === undefined || activeParameters === parameters ? '' : `, ${count(activeParameters)} active`

const count = (n: number): string =>
  n >= 1e9 ? `${(n / 1e9).toFixed(1)}B` : n >= 1e6 ? `${(n / 1e6).toFixed(1)}M` : String(n)
