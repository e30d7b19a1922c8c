/** The second hundred stories, in a file of their own so that they run beside the first. */
import { expect, test } from 'vitest'
import { BLOCK_LIMIT_MS, blocks, findingsOfSeeds } from './blocks.ts'

test.each(blocks(101, 200))(
  'a cluster under faults stays safe and settles: seeds %i to %i',
  async (from, to) => expect(await findingsOfSeeds(from, to)).toEqual([]),
  BLOCK_LIMIT_MS,
)
