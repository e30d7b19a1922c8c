/** Every story of this folder, to the letter. UPDATE_STORIES=1 rewrites what they print. */
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { runStory } from '../support/stories.ts'

const dir = import.meta.dirname
const stories = readdirSync(dir).filter((name) => name.endsWith('.mctl'))

test.each(stories)('%s', async (name) => {
  const file = join(dir, name)
  const text = readFileSync(file, 'utf8')
  const told = await runStory(text)
  if (process.env['UPDATE_STORIES'] === '1') writeFileSync(file, told)
  else expect(told).toBe(text)
})
