/** Can the simulator find anything? A door that breaks its promise is found within a few stories, by the rule it breaks. */
import { expect, test } from 'vitest'
import type { BrokenDoor } from '../support/simcluster.ts'
import { BLOCK_LIMIT_MS } from './blocks.ts'
import type { Command } from './commands.ts'
import { tellStory } from './story.ts'

const wish = {
  model: 'large',
  replicas: 3,
  parallelism: { strategy: 'Data' },
  contextTokens: 128,
  nodeLossSeconds: 30,
} as const
const apply: Command = { do: 'apply', name: 'alpha', wish, thenMs: 15_000 }

const restarts: readonly (readonly [BrokenDoor, string, readonly Command[]])[] = [
  ['LyingDisk', 'lost: alpha', [apply, { do: 'killServer', awayMs: 1_000, remains: 'Whole', thenMs: 5_000 }]],
  ['ForgetfulHosts', 'TwoEpochsAlive', [apply, { do: 'killAgent', node: 'mini-1', awayMs: 1_000, thenMs: 30_000 }]],
  ['WrongName', 'ActsForAnother', [apply, { do: 'killAgent', node: 'mini-1', awayMs: 60_000, thenMs: 40_000 }]],
]

test.each(restarts)(
  '%s is found: %s',
  async (broken, finding, commands) => {
    const { findings } = await tellStory({ seed: 1, commands }, undefined, broken)
    expect(findings.join('\n')).toContain(finding)
  },
  BLOCK_LIMIT_MS,
)

test(
  'with sound doors the same stories end well',
  async () => {
    for (const [, , commands] of restarts) expect((await tellStory({ seed: 1, commands })).findings).toEqual([])
  },
  BLOCK_LIMIT_MS,
)
