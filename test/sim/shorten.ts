/** The same failure with fewer commands: whatever can be left out is left out, in ever smaller pieces. */
import type { Story } from './commands.ts'

/** Tries of one story are a second or so each: this many are enough. */
const MAX_TRIES = 60

export async function shorten(story: Story, stillFails: (story: Story) => Promise<boolean>): Promise<Story> {
  let { commands } = story
  let tries = 0
  for (let size = Math.ceil(commands.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < commands.length && tries < MAX_TRIES;) {
      const fewer = [...commands.slice(0, at), ...commands.slice(at + size)]
      tries += 1
      if (await stillFails({ ...story, commands: fewer })) commands = fewer
      else at += size
    }
  }
  return { ...story, commands }
}
