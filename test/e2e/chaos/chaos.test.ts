/** A minute of chaos on real processes; `npm run chaos` has more of it. */
import { expect, test } from 'vitest'
import { runChaos } from './chaos.ts'

test('processes are killed and stopped at random: every request ends, and all states agree afterwards', async () => {
  const lines: string[] = []
  const findings = await runChaos({ seconds: 60, seed: 1, engine: 'fake', say: (line) => void lines.push(line) })
  expect(findings, lines.join('\n')).toEqual([])
}, 600_000)
