/** The first hundred stories, and every story that once ended badly: each stays safe and settles. `npm run sim` has more. */
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { Story } from './commands.ts'
import { tellStory } from './story.ts'
import { BLOCK_LIMIT_MS, blocks, findingsOfSeeds } from './blocks.ts'

const folder = join(import.meta.dirname, 'seeds')
const kept = readdirSync(folder).filter((file) => file.endsWith('.json'))

test.each(kept)('the story of %s, which once ended badly, ends well', async (file) => {
  const story = JSON.parse(readFileSync(join(folder, file), 'utf8')) as Story
  expect((await tellStory(story)).findings).toEqual([])
})

test.each(blocks(1, 100))(
  'a cluster under faults stays safe and settles: seeds %i to %i',
  async (from, to) => expect(await findingsOfSeeds(from, to)).toEqual([]),
  BLOCK_LIMIT_MS,
)
