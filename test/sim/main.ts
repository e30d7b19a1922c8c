/**
 * `npm run sim -- --seeds N [--from S] [--commands K] [--replay FILE] [--verbose]`: tells N stories, says how fast, and
 * writes each one that ends badly, made as short as it still fails, to test/sim/seeds, where `npm test` replays it.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import type { Story } from './commands.ts'
import { storyOf } from './commands.ts'
import { shorten } from './shorten.ts'
import { tellStory } from './story.ts'
import type { Tell } from './story.ts'

const folder = resolve(import.meta.dirname, 'seeds')
const { values: args } = parseArgs({
  options: {
    seeds: { type: 'string', default: '100' },
    from: { type: 'string', default: '1' },
    commands: { type: 'string' },
    replay: { type: 'string' },
    verbose: { type: 'boolean', default: false },
    shorten: { type: 'boolean', default: true },
  },
  allowNegative: true,
})

let stray: unknown
process.on('unhandledRejection', (error) => (stray ??= error))
process.on('uncaughtException', (error) => (stray ??= error))

const print: Tell = (atSeconds, line) => console.error(`${atSeconds.toFixed(1).padStart(8)} s  ${line}`)

async function findingsOf(story: Story): Promise<readonly string[]> {
  stray = undefined
  const { findings } = await tellStory(story, args.verbose ? print : undefined)
  return stray === undefined
    ? findings
    : [...findings, `stray: ${stray instanceof Error ? stray.stack : String(stray)}`]
}

async function keep(story: Story, findings: readonly string[]): Promise<string> {
  const short = args.shorten ? await shorten(story, async (s) => (await findingsOf(s)).length > 0) : story
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: folder, encoding: 'utf8' }).trim()
  const file = join(folder, `${story.seed}.json`)
  const found = short === story ? findings : await findingsOf(short)
  writeFileSync(file, `${JSON.stringify({ seed: story.seed, commit, found, commands: short.commands }, null, 2)}\n`)
  return file
}

async function replay(file: string): Promise<number> {
  const findings = await findingsOf(JSON.parse(readFileSync(file, 'utf8')) as Story)
  console.log(findings.length === 0 ? `${file}: no finding` : findings.join('\n'))
  return findings.length === 0 ? 0 : 1
}

async function run(from: number, count: number, length: number | undefined): Promise<number> {
  mkdirSync(folder, { recursive: true })
  const failing: number[] = []
  const startMs = performance.now()
  const rate = (told: number) => (told / ((performance.now() - startMs) / 1_000)).toFixed(1)
  for (let i = 0; i < count; i++) {
    const story = storyOf(from + i, length)
    const findings = await findingsOf(story)
    if (findings.length > 0) {
      failing.push(story.seed)
      console.log(`seed ${story.seed}: ${findings[0]}`)
      console.log(`  kept in ${await keep(story, findings)}`)
    }
    if ((i + 1) % 100 === 0)
      console.error(`${i + 1} of ${count} seeds, ${rate(i + 1)} per second, ${failing.length} failing`)
  }
  console.log(`${count} seeds from ${from}: ${failing.length} failing, ${rate(count)} seeds per second`)
  if (failing.length > 0) console.log(`failing seeds: ${failing.join(' ')}`)
  return failing.length === 0 ? 0 : 1
}

// Most errors of a story are faults as ordered; their stacks cost a tenth of its time. A replay has them.
if (args.replay === undefined) Error.stackTraceLimit = 0

const code =
  args.replay === undefined
    ? await run(Number(args.from), Number(args.seeds), args.commands === undefined ? undefined : Number(args.commands))
    : await replay(args.replay)
process.exit(code)
