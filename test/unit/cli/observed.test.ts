/** What was seen stands beside what was predicted. */
import { expect, test } from 'vitest'
import { describeDeployment } from '../../../src/cli/describe/groups.ts'
import { modelBlocks } from '../../../src/cli/describe/model.ts'
import type { Client } from '../../../src/rpc/messages.ts'
import { atBits, llama3b } from '../planner/models.ts'
import { aDeployment, aModelOf } from '../planner/objects.ts'

const rate = {
  strategy: 'Single',
  degree: 1,
  engine: 'mlx',
  linkClass: 'none',
  tokensPerSecond: 47.25,
  samples: 12,
} as const
const model = aModelOf('m', atBits(llama3b, 4), { observed: [{ ...rate, predictedTokensPerSecond: 51 }] })

test('a model tells what its groups did', () => {
  const text = JSON.stringify(modelBlocks(model, []))
  expect(text).toMatch(/Single 1.*mlx.*none.*47\.3.*51\.0.*12/)
})

test('a deployment tells it beside the prediction of its plan, for the same cut alone', async () => {
  const listed = { ShardGroup: [], Model: [model] } as Readonly<Record<string, readonly object[]>>
  const client = {
    list: ({ kind }: { kind: string }) => Promise.resolve({ items: listed[kind] ?? [] }),
  } as unknown as Client
  const planned = (strategy: string, degree: number) => ({
    ...aDeployment('d'),
    status: {
      plan: {
        hash: '',
        strategy,
        degree,
        why: [],
        rejected: [],
        predicted: {
          decodeTokensPerSecond: 49.3,
          prefillTokensPerSecond: 1,
          timeToFirstTokenSeconds: 1,
          aggregateTokensPerSecond: 1,
        },
      },
    },
  })
  const text = async (strategy: string, degree: number) =>
    JSON.stringify(await describeDeployment(client, planned(strategy, degree) as never))
  expect(await text('Single', 1)).toMatch(
    /predicted 49\.3 tokens\/s.*observed 47\.3 tokens\/s over link none, 12 answers \(predicted for them: 51\.0 tokens\/s\)/,
  )
  expect(await text('Tensor', 2)).not.toContain('observed')
})
