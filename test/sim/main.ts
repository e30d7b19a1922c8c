/**
 * `npm run sim -- --seeds N [--from S] [--jobs J] [--commands K] [--replay FILE] [--verbose]`: tells N stories, in J
 * processes (one for each core), says how fast, and writes each one that ends badly, made as short as it still fails, to test/sim/seeds, where `npm test` replays it.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import type { Story } from './commands.ts'
import { storyOf } from './commands.ts'
import type { Told } from './jobs.ts'
import { runInProcesses, Tally } from './jobs.ts'
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
    jobs: { type: 'string', default: String(availableParallelism()) },
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

/** Tells the stories one after the other, and each as soon as it has ended. */
async function run(from: number, count: number, tell: (told: Told) => void | Promise<void>): Promise<void> {
  mkdirSync(folder, { recursive: true })
  const length = args.commands === undefined ? undefined : Number(args.commands)
  for (let seed = from; seed < from + count; seed++) {
    const story = storyOf(seed, length)
    const findings = await findingsOf(story)
    const [finding] = findings
    await tell(finding === undefined ? { seed } : { seed, finding, file: await keep(story, findings) })
  }
}

/** As one of several processes: the parent counts. Or as the only one, or the parent. */
async function runAll(from: number, count: number, jobs: number): Promise<number> {
  const parent = process.send?.bind(process)
  if (parent !== undefined) {
    // Sent before the process ends.
    await run(from, count, (told) => new Promise((sent) => parent(told, () => sent())))
    return 0
  }
  const tally = new Tally(count)
  if (jobs === 1) await run(from, count, (told) => tally.count(told))
  else await runInProcesses({ from, count, jobs, flags: process.argv.slice(2) }, (told) => tally.count(told))
  return tally.end(from)
}

// Most errors of a story are faults as ordered; their stacks cost a tenth of its time. A replay has them.
if (args.replay === undefined) Error.stackTraceLimit = 0

const code =
  args.replay === undefined
    ? await runAll(Number(args.from), Number(args.seeds), Number(args.jobs))
    : await replay(args.replay)
process.exit(code)
