/**
 * Command stories: a file of commands and of what they must print, to the letter. The command line, server, store,
 * controllers and agents are the real ones; time, network and engines are the simulator's, so ages are exact, too.
 *
 *   # a comment                      $ mctl … <<EOF    a command, with standard input
 *   2> a line of stderr              $ mctl … &        one that goes on until `! interrupt`, which prints what it said
 *   exit 1                           ! advance 30s     something that happens (see `happenings`)
 *
 * Everything else is stdout. UPDATE_STORIES=1 writes what was printed into the file: read the diff.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { LiveFacts } from '../../agent/observe/facts.ts'
import type { ReplicaTraffic, Traffic } from '../../src/api/live.ts'
import { GATEWAY_USER } from '../../src/api/trust.ts'
import type { ShardGroup } from '../../src/api/shardgroup.ts'
import { catalog } from '../../src/cli/catalog.ts'
import type { Cli } from '../../src/cli/context.ts'
import { parseDurationMs } from '../../src/cli/durations.ts'
import { runCommand } from '../../src/cli/program.ts'
import type { Machine } from '../../src/cli/service/machine.ts'
import { parseBytes } from '../../src/lib/quantity.ts'
import { GitRepo } from './gitrepo.ts'
import { SimCluster } from './simcluster.ts'
import { tinyShape } from './cluster.ts'
import { SeededRandom } from './virtualclock.ts'

const COMMAND_LIMIT_MS = 30 * 60_000
export const STORY_SERVER = '127.0.0.1:6480'

/** Parts of the command line that only some flags load. */
const lateParts = [
  () => import('../../src/cli/files.ts'),
  () => import('../../src/cli/get/links.ts'),
  () => import('../../src/cli/printers/customcolumns.ts'),
  () => import('../../src/cli/printers/jsonpath.ts'),
  () => import('../../src/cli/printers/sort.ts'),
  () => import('diff'),
]

export interface StoryOptions {
  readonly nodes: readonly string[]
  readonly memory?: string
}

/** A cluster with a folder of files, and a terminal to type commands into. */
export class StoryWorld {
  readonly cluster: SimCluster
  readonly dir: string
  readonly #random = new SeededRandom(3)
  readonly #repos = new Map<string, GitRepo>()
  /** What a person will type when asked. */
  readonly answers: string[] = []
  /** Of the command that is typed: `$ NAME=value mctl …`. */
  env: Readonly<Record<string, string>> = {}
  /** What a person will do in the editor, one opening after the other. */
  readonly edits: ((text: string) => string)[] = []
  #background: { readonly stop: () => void; readonly ended: Promise<Printed> } | undefined

  private constructor(cluster: SimCluster, dir: string) {
    this.cluster = cluster
    this.dir = dir
  }

  /** A repository in the folder; made when it is first spoken of. */
  repo(name: string): GitRepo {
    const repo = this.#repos.get(name) ?? new GitRepo(join(this.dir, name))
    this.#repos.set(name, repo)
    return repo
  }

  static async start({ nodes, memory = '16Gi' }: StoryOptions): Promise<StoryWorld> {
    // What is loaded only when asked for would pass for time that goes by.
    await Promise.all([...catalog.map(({ load }) => load()), ...lateParts.map((load) => load())])
    const dir = mkdtempSync(join(tmpdir(), 'mctl-story-'))
    const syncDir = join(dir, '.server')
    const world = new StoryWorld(await SimCluster.start({ seed: 1, nodes, memory, syncDir }), dir)
    // Agents join and their nodes become Ready before the story begins.
    await world.cluster.clock.advance(30_000)
    return world
  }

  async stop(): Promise<void> {
    this.#background?.stop()
    await this.cluster.stop()
    rmSync(this.dir, { recursive: true, force: true })
  }

  /** Types one command and lets time pass until it ends. */
  async run(argv: readonly string[], stdin = ''): Promise<Printed> {
    const running = this.#launch(argv, stdin)
    let printed: Printed | undefined
    void running.ended.then((end) => (printed = end))
    await this.cluster.clock.advanceUntil(() => printed !== undefined, COMMAND_LIMIT_MS, argv.join(' '), 100)
    return running.ended
  }

  /** Types a command that goes on while the story does. */
  async runBeside(argv: readonly string[]): Promise<void> {
    if (this.#background !== undefined) throw new Error('one command at a time may go on beside the story')
    this.#background = this.#launch(argv, '')
    await this.cluster.clock.advance(0)
  }

  /** Ctrl-C for the command beside the story; what it printed. */
  async interrupt(): Promise<Printed> {
    const background = this.#background
    if (background === undefined) throw new Error('no command goes on beside the story')
    this.#background = undefined
    background.stop()
    return background.ended
  }

  write(path: string, content: string | Uint8Array): void {
    const whole = join(this.dir, path)
    mkdirSync(dirname(whole), { recursive: true })
    writeFileSync(whole, content)
  }

  #edit(file: string): void {
    const change = this.edits.shift()
    if (change !== undefined) writeFileSync(file, change(readFileSync(file, 'utf8')))
  }

  #launch(argv: readonly string[], stdin: string) {
    const printed: Printed = { parts: [], exitCode: 0 }
    const control = new AbortController()
    const say = (stream: 'out' | 'err') => (text: string) => void printed.parts.push({ stream, text })
    const starter = (name: string) => () => {
      say('out')(`(${name} would start)\n`)
      return Promise.resolve(0)
    }
    const cli: Cli = {
      terminal: {
        out: say('out'),
        err: say('err'),
        isTty: false,
        readStdin: () => Promise.resolve(Buffer.from(stdin)),
        question: () => Promise.resolve(this.answers.shift()),
        edit: (_, file) => Promise.resolve(this.#edit(file)),
      },
      env: { MCTL_CONFIG: join(this.dir, 'config.yaml'), TMPDIR: this.dir, ...this.env },
      cwd: this.dir,
      clock: this.cluster.clock,
      random: this.#random,
      signal: control.signal,
      version: '0.1.0',
      connect: (address) => this.cluster.person(address === STORY_SERVER ? 'user' : 'stranger'),
      machine: () => Promise.resolve(storyMachine),
      starters: {
        server: starter('server'),
        gateway: starter('gateway'),
        agent: starter('agent'),
        dev: starter('dev'),
        join: () => Promise.resolve(),
        thunderbolt: () => Promise.resolve({ steps: [], refusals: [], cables: [] }),
        backup: () => Promise.resolve({ withAuthority: false }),
        restore: () => Promise.resolve({ withAuthority: false }),
      },
    }
    const ended = runCommand(cli, argv).then((exitCode) => ({ ...printed, exitCode }))
    return { stop: () => control.abort(), ended }
  }
}

/** A Linux machine without a service: what a story sees of it. */
const storyMachine: Machine = {
  platform: 'linux',
  isRoot: true,
  program: ['/usr/bin/node', '/opt/mctl/dist/src/bin/mctl.js'],
  agentLog: '/var/log/mctl-agent.log',
  agentPlace: ({ name = 'mini-1' }) =>
    Promise.resolve({
      name,
      home: '/home/ann/mctl',
      dataDir: '/home/ann/mctl/agent',
      modelsDir: '/home/ann/mctl/models',
    }),
  facts: (place, address) =>
    Promise.resolve({
      ...{ platform: 'linux', arch: 'x64', memoryBytes: 16 * 2 ** 30, freeDiskBytes: 2 ** 40, isRoot: true, nowMs: 0 },
      ...{
        modelsDir: place.modelsDir,
        engine: { python: '/home/ann/mctl/engines/mlx/bin/python' },
        server: { address },
      },
    }),
  installEngine: () => Promise.resolve(0),
  run: () => Promise.resolve({ code: 0, output: '' }),
  exists: (path) => path.endsWith('installed'),
  write: () => Promise.resolve(),
  remove: () => Promise.resolve(),
}

export interface Printed {
  readonly parts: { readonly stream: 'out' | 'err'; readonly text: string }[]
  readonly exitCode: number
}

interface Step {
  /** The line with its mark, and what stands between it and EOF. */
  readonly source: readonly string[]
  readonly line: string
  readonly stdin: string | undefined
}

/** Runs a story; returns it as it should stand in its file. */
export async function runStory(text: string): Promise<string> {
  const steps = stepsOf(text)
  const first = steps.find((step) => !step.line.startsWith('#'))
  const world = await StoryWorld.start(clusterOf(first?.line ?? ''))
  const written: string[] = []
  try {
    for (const step of steps) {
      const printed = await perform(world, step)
      const comment = step.line.startsWith('#')
      const blank = comment && written.length > 0 && !(written.at(-1) ?? '').startsWith('#') && written.at(-1) !== ''
      written.push(...(blank ? [''] : []), ...step.source, ...linesOf(printed, world.dir))
      if (step.line.startsWith('$') || printed !== undefined) written.push('')
    }
  } finally {
    await world.stop()
  }
  return masked(`${written.join('\n').trimEnd()}\n`)
}

function stepsOf(text: string): readonly Step[] {
  const lines = text.split('\n')
  const steps: Step[] = []
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i] ?? ''
    // Between two steps stands what the one before printed: it is printed anew.
    if (!/^[#$!]/.test(line)) continue
    const end = /<<EOF$/.test(line) ? lines.indexOf('EOF', i) : i
    if (end < 0) throw new Error(`line ${i + 1}: there is no EOF to this here-document`)
    const inside = lines.slice(i + 1, end)
    steps.push({
      source: lines.slice(i, end + 1),
      line: line.replace(/\s*<<EOF$/, ''),
      stdin: end === i ? undefined : inside.map((l) => `${l}\n`).join(''),
    })
    i = end
  }
  return steps
}

/** `! cluster mini-1 mini-2 memory=16Gi`, the first step; two Macs of 16 GB when it is another. */
function clusterOf(line: string): StoryOptions {
  const words = line.split(' ')
  if (words[1] !== 'cluster') return { nodes: ['mini-1', 'mini-2'] }
  const memory = words.find((word) => word.startsWith('memory='))?.slice('memory='.length)
  return {
    nodes: words.slice(2).filter((word) => !word.includes('=')),
    ...(memory === undefined ? {} : { memory }),
  }
}

async function perform(world: StoryWorld, { line, stdin }: Step): Promise<Printed | undefined> {
  if (line.startsWith('#')) return undefined
  if (line.startsWith('!')) return happen(world, line, stdin)
  const words = wordsOf(line.slice(1).replaceAll('$DIR', world.dir))
  const begin = words.indexOf('mctl')
  world.env = Object.fromEntries(words.slice(0, begin).map((word) => word.split(/=(.*)/s).slice(0, 2)))
  const argv = words.slice(begin)
  if (begin < 0) throw new Error(`a story types mctl commands only: ${line}`)
  if (argv.at(-1) !== '&') return world.run(argv.slice(1), stdin?.replaceAll('$DIR', world.dir))
  await world.runBeside(argv.slice(1, -1))
  return undefined
}

/** As a shell parts words, with single and double quotes. */
export const wordsOf = (line: string): readonly string[] =>
  [...line.matchAll(/(?:"[^"]*"|'[^']*'|[^\s"'])+/g)].map(([word]) => word.replace(/"([^"]*)"|'([^']*)'/g, '$1$2'))

type Happening = (world: StoryWorld, match: readonly string[], stdin: string) => unknown

const happenings: readonly (readonly [RegExp, Happening])[] = [
  [/^cluster /, () => undefined],
  [/^advance (\S+)$/, ({ cluster }, [, time = '']) => cluster.clock.advance(parseDurationMs(time))],
  [/^model (\S+) (\S+)$/, (world, [, name = '', weights = '']) => addModel(world, name, weights)],
  [/^file (\S+)$/, (world, [, path = ''], content) => world.write(path, content)],
  [/^file (\S+) of (\d+) bytes$/, (world, [, path = '', n]) => world.write(path, '#'.repeat(Number(n)))],
  [/^file (\S+) in base64 (\S+)$/, (world, [, p = '', text = '']) => world.write(p, Buffer.from(text, 'base64'))],
  [/^repo (\S+)$/, (world, [, name = '']) => world.repo(name)],
  [/^commit (\S+) (.+)$/, (world, [, name = '', message = '']) => world.repo(name).commit(message)],
  [/^git (\S+) (.+)$/, (world, [, name = '', args = '']) => world.repo(name).git(...wordsOf(args))],
  [/^remove (\S+)$/, (world, [, path = '']) => rmSync(join(world.dir, path), { recursive: true })],
  [/^kill rank (\d+) of (\S+)$/, (world, [, rank, group = '']) => killRank(world, Number(rank), group)],
  [/^engines are (\d+) times as slow$/, ({ cluster }, [, factor]) => (cluster.ring.slowness = Number(factor))],
  [/^kill agent (\S+)$/, ({ cluster }, [, node = '']) => cluster.killAgent(node)],
  [/^start agent (\S+)$/, ({ cluster }, [, node = '']) => cluster.startAgent(node)],
  [
    /^machine (\S+) has (\S+) wired, (\S+) used, (\S+) free, GPU (\d+) %$/,
    (world, [, node = '', ...figures]) => readMachine(world, node, figures),
  ],
  [
    /^gateway has (\d+) requests at (\S+), ([\d.]+) tokens a second, (\d+) waiting for (\S+)$/,
    (world, [, inFlight, group = '', rate, waiting, servedName = '']) =>
      tellTraffic(world, group, { inFlight: Number(inFlight), tokensPerSecond: Number(rate) }, [
        { servedName, waiting: Number(waiting) },
      ]),
  ],
  [/^kill server$/, ({ cluster }) => cluster.killServer()],
  [/^start server$/, ({ cluster }) => cluster.startServer()],
  [/^answer (.*)$/, (world, [, text = '']) => world.answers.push(text)],
  [/^editor empties$/, (world) => world.edits.push(() => '')],
  [
    /^editor replaces "([^"]*)" with "([^"]*)"$/,
    (world, [, old = '', fresh = '']) => world.edits.push((text) => text.replace(old, fresh)),
  ],
  [/^interrupt$/, (world) => world.interrupt()],
]

async function happen(world: StoryWorld, line: string, stdin = ''): Promise<Printed | undefined> {
  const text = line.slice(1).trim()
  for (const [pattern, run] of happenings) {
    const match = pattern.exec(text)
    if (match === null) continue
    const result = await run(world, match, stdin)
    return text === 'interrupt' ? (result as Printed) : undefined
  }
  throw new Error(`a story does not know what this is: ${line}`)
}

/** A model of shape alone, of 4 layers in 16 bits, with so many bytes of weights. */
async function addModel({ cluster }: StoryWorld, name: string, weights: string): Promise<void> {
  const weightBytes = parseBytes(weights)
  const shape = { ...tinyShape, parameters: weightBytes / 2, weightBytes, quantization: { bits: 16 } }
  await cluster.apply('Model', name, { shape })
}

function readMachine({ cluster }: StoryWorld, node: string, [wired, used, free, gpu]: readonly string[]): void {
  const machine = cluster.machines.get(node)
  if (machine === undefined) throw new Error(`no machine ${node}`)
  const [wiredBytes, usedBytes, headroomBytes] = [wired, used, free].map((text) => parseBytes(text ?? ''))
  machine.pressure = 'Normal'
  machine.reading = { wiredBytes, usedBytes, headroomBytes, gpuBusy: Number(gpu) / 100 } as LiveFacts
}

/** As a gateway of one model tells it; the gateway's own counting has tests of its own. */
async function tellTraffic(
  { cluster }: StoryWorld,
  group: string,
  load: Omit<ReplicaTraffic, 'shardUid'>,
  queues: Traffic['queues'],
): Promise<void> {
  const leader = cluster.store
    .snapshot()
    .list('Shard')
    .find(({ spec }) => spec.group === group && spec.rank === 0)
  if (leader === undefined) throw new Error(`no leader of ${group}`)
  const traffic = { gateway: 'gateway-1', replicas: [{ shardUid: leader.metadata.uid, ...load }], queues }
  const gateway = cluster.person(GATEWAY_USER)
  await cluster.whileServerRuns(() => gateway.observe({ speeds: [], traffic }))
}

function killRank({ cluster }: StoryWorld, rank: number, group: string): void {
  const { epoch } = (cluster.store.snapshot().get('ShardGroup', 'default', group) as ShardGroup).spec
  const name = `${group}-e${epoch}-${rank}`
  const process = [...cluster.machines.values()]
    .flatMap((machine) => machine.processes())
    .find(({ shard }) => shard.metadata.name === name)
  if (process === undefined) throw new Error(`no process runs ${name}`)
  process.machine.kill(process)
}

/** What was printed, line by line, in the order of printing. */
function linesOf(printed: Printed | undefined, dir: string): readonly string[] {
  if (printed === undefined) return []
  const lines: string[] = []
  for (const { stream, text } of joined(printed.parts)) {
    const whole = text.replaceAll(dir, '$DIR')
    const parts = whole.split('\n')
    const unfinished = parts.pop() !== ''
    if (unfinished) parts.push(whole.slice(whole.lastIndexOf('\n') + 1))
    lines.push(...parts.map((line) => (stream === 'err' ? `2> ${line}`.trimEnd() : escaped(line))))
    if (unfinished) lines.push('(no end of line)')
  }
  if (printed.exitCode !== 0) lines.push(`exit ${printed.exitCode}`)
  return lines
}

/** Neighbours of one stream are one text: a line may be printed in pieces. */
function joined(parts: Printed['parts']): Printed['parts'] {
  const texts: { stream: 'out' | 'err'; text: string }[] = []
  for (const { stream, text } of parts) {
    const last = texts.at(-1)
    if (last?.stream === stream) last.text += text
    else texts.push({ stream, text })
  }
  return texts
}

/** A line of stdout must not look like a step. */
const escaped = (line: string): string => (/^([#$!\\]|2> |exit \d)/.test(line) ? `\\${line}` : line)

/**
 * What says nothing here and differs with every write and formula elsewhere: uids, revisions, hashes, predicted speeds
 * (the planner's own tests hold those).
 */
function masked(text: string): string {
  const uids = new Map<string, string>()
  return text
    .replaceAll(/\b[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}\b/g, (uid) => {
      if (!uids.has(uid)) uids.set(uid, `(uid ${uids.size + 1})`)
      return uids.get(uid) ?? ''
    })
    .replaceAll(/(?<=mctl-edit-)\w{6}/g, 'XXXXXX')
    .replaceAll(/("?resourceVersion"?: )"\d+"/g, '$1"(revision)"')
    .replaceAll(/\b\d+\.\d{6,}\b/g, '(number)')
    .replaceAll(/\b[0-9a-f]{16}\b/g, '(hash)')
    .replaceAll(/\d+(\.\d+)? tokens\/s/g, 'N tokens/s')
    .replaceAll(/\d+ % (?=slower|faster)/g, 'N % ')
    .replaceAll(/(?<=\(|± )\d+ %/g, 'N %')
    .replaceAll(/(?<=first token after )[\d.]+(?= s at)/g, 'N')
    .replaceAll(/(?<=one stream, )[\d.]+(?= in all)/g, 'N')
    .replaceAll(/(?<=Gi +)\d+\.\d$/gm, 'N')
}
