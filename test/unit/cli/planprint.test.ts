import { expect, test } from 'vitest'
import { printPlan } from '../../../src/cli/plan/print.ts'
import type { PlanItem } from '../../../src/planner/report.ts'

const placed: PlanItem = {
  name: 'chat',
  schedulable: true,
  strategy: 'Single',
  degree: 1,
  engine: 'fake',
  transport: 'Ring',
  replicas: [
    {
      ranks: [
        {
          node: 'lab',
          rank: 0,
          layers: [0, 4],
          memoryBytes: 2 ** 30,
          allocatableBytes: 2 ** 33,
          parts: { weights: 2 ** 29, kv: 2 ** 28, runtime: 2 ** 28 },
        },
      ],
    },
  ],
  refusals: [],
  alternatives: [],
  hints: [],
  why: [],
}

function printed(item: PlanItem): string {
  let text = ''
  const terminal = {
    out: (part: string) => void (text += part),
    err: () => {},
    isTty: false,
    readStdin: () => Promise.resolve(new Uint8Array()),
    question: () => Promise.resolve(undefined),
    edit: () => Promise.resolve(),
  }
  printPlan(terminal, { items: [item] }, false)
  return text
}

test('a speed that is not predicted is unknown, never 0', () => {
  expect(printed(placed)).toContain('<unknown>')
  const predicted = {
    decodeTokensPerSecond: 0,
    prefillTokensPerSecond: 0,
    timeToFirstTokenSeconds: 0,
    aggregateTokensPerSecond: 0,
  }
  const alternatives = [
    { strategy: 'Tensor', degree: 2, schedulable: true, decodeTokensPerSecond: 0, reason: 'takes 2 nodes' },
  ] as const
  const text = printed({ ...placed, predicted, alternatives })
  expect(text).toContain('<unknown> tokens/s one stream, <unknown> in all')
  expect(text).toContain('Tensor 2: takes 2 nodes')
  expect(text).not.toMatch(/\b0\.0\b/)
})

test('the speed of an alternative is told once', () => {
  const alternative = { strategy: 'Tensor', degree: 2, schedulable: true, decodeTokensPerSecond: 12 } as const
  const of = (reason: string) => printed({ ...placed, alternatives: [{ ...alternative, reason }] })
  expect(of('too few layers')).toContain('Tensor 2 (12.0 tokens/s): too few layers')
  expect(of('predicted 12 tokens/s, 3 % slower')).toContain('Tensor 2: predicted 12 tokens/s, 3 % slower')
})
