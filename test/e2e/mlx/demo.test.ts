/** The real demo model, as `npm run setup` made it: right answers, and the same tokens however it is divided. */
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import {
  ask,
  demoModel,
  greedyIds,
  killRanks,
  readyGang,
  runPython,
  startSingle,
  stopAll,
  tempFolder,
} from '../../support/mlx.ts'
import type { Rank } from '../../support/mlx.ts'

const prompt = 'The capital of France'
let alone: number[]

afterEach(killRanks)
afterAll(stopAll)

beforeAll(async () => {
  const rank = await startSingle({ model: demoModel, servedName: 'smollm2' })
  alone = await greedyIds(rank, prompt, 6)
  // A short system message: without one the template adds twenty tokens, seconds on a CPU.
  const messages = [
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: 'What is the capital of France?' },
  ]
  const { json } = await ask(rank, '/v1/chat/completions', { messages, max_tokens: 12 })
  expect(json).toMatchObject({
    model: 'smollm2',
    choices: [{ message: { content: 'The capital of France is Paris.' }, finish_reason: 'stop' }],
  })
})

test('its padding changes nothing: the unpadded Llama gives the same tokens', () => {
  const script = new URL('../../support/demo_model_check.py', import.meta.url).pathname
  const answer = JSON.parse(runPython([script, demoModel, join(tempFolder(), 'llama')])) as unknown
  expect(answer).toEqual({ equal: true, text: expect.stringContaining('is Paris.') })
})

test.each([
  ['a pipeline of 20 and 10 layers', { strategy: 'Pipeline', split: [20, 10] } as const],
  ['tensor parallel', { strategy: 'Tensor' } as const],
])('%s answers as one rank does', async (_how, division) => {
  const gang = await readyGang({ model: demoModel, ...division })
  expect(await greedyIds(gang[0] as Rank, prompt, 6)).toEqual(alone)
})
