/** Seeds in blocks of a few seconds, each a test of its own. */
import { storyOf } from './commands.ts'
import { tellStory } from './story.ts'

const BLOCK = 10
/** A few seconds on a quiet machine; a busy one must not make a finding of it. */
export const BLOCK_LIMIT_MS = 240_000
/** Short stories, many of them: `npm run sim` tells the long ones. */
const shortLength = (seed: number) => 2 + (seed % 4)

export const blocks = (from: number, to: number): [from: number, to: number][] =>
  Array.from({ length: (to - from + 1) / BLOCK }, (_, i) => [from + i * BLOCK, from + (i + 1) * BLOCK - 1])

/** What `npm run sim -- --seeds 1 --from SEED --commands N` finds, of each seed that ends badly. */
export async function findingsOfSeeds(from: number, to: number): Promise<readonly string[]> {
  const found: string[] = []
  for (let seed = from; seed <= to; seed++) {
    const length = shortLength(seed)
    const { findings } = await tellStory(storyOf(seed, length))
    if (findings.length > 0) found.push(`--from ${seed} --commands ${length}: ${findings[0]}`)
  }
  return found
}
