/**
 * A story as data: what people and fate do to a cluster, one command after the other. It is made from a seed alone and
 * knows nothing of the cluster, so that a story that once failed can be told again to any later version, or a shorter one.
 */
import type { Remains } from '../support/simdisk.ts'
import { SeededRandom } from '../support/virtualclock.ts'
import type { CommitPoint } from '../../src/store/sqlite.ts'
import type { Direction } from '../../src/rpc/network.ts'

export const nodes = ['mini-1', 'mini-2', 'mini-3'] as const
type NodeName = (typeof nodes)[number]
export const names = ['alpha', 'beta', 'gamma'] as const

export interface Wish {
  readonly model: 'small' | 'large'
  readonly replicas: number
  readonly parallelism: { readonly strategy: 'Data' | 'Tensor' | 'Pipeline'; readonly degree?: number }
  readonly contextTokens: number
  readonly nodeLossSeconds: number
  /** Absent: the default. */
  readonly update?: UpdateWish
}

export type UpdateWish =
  | { readonly strategy: 'RollingUpdate'; readonly maxUnavailable: number; readonly maxSurge: number }
  | { readonly strategy: 'Recreate' }

/** `pick` chooses among what is there: 0 the first, just below 1 the last. Faults with `forMs` end by themselves. */
export interface CommandArgs {
  apply: { readonly name: string; readonly wish: Wish }
  scale: { readonly name: string; readonly replicas: number }
  remove: { readonly name: string }
  pause: { readonly name: string; readonly on: boolean }
  restart: { readonly name: string }
  /** Back to the template before. */
  undo: { readonly name: string }
  cordon: { readonly node: NodeName; readonly on: boolean }
  drain: { readonly node: NodeName; readonly force: boolean }
  deleteNode: { readonly node: NodeName }
  killRank: { readonly pick: number }
  killHost: { readonly pick: number }
  stopRank: { readonly pick: number; readonly forMs: number }
  killAgent: { readonly node: NodeName; readonly awayMs: number }
  pauseAgent: { readonly node: NodeName; readonly forMs: number }
  sleep: { readonly node: NodeName; readonly forMs: number }
  reboot: { readonly node: NodeName; readonly awayMs: number }
  killServer: { readonly awayMs: number; readonly remains: Remains }
  pauseServer: { readonly forMs: number }
  crashAt: CrashArgs
  backUp: object
  compact: { readonly share: number }
  fillDisk: { readonly forMs: number }
  slowDisk: { readonly commitMs: number; readonly forMs: number }
  breakDisk: object
  cut: { readonly node: NodeName | 'gateway'; readonly direction?: Direction; readonly forMs: number }
  reset: { readonly node: NodeName }
  /** All links, until the next such command. */
  network: { readonly delayMs: number; readonly resetChance: number; readonly duplicateChance: number }
  /** All engines, until the next such command. */
  engines: {
    readonly slowness: number
    readonly hangChance: number
    readonly lateExitMs: number
    readonly lostExitChance: number
  }
  jumpClock: { readonly of: NodeName | 'server'; readonly byMs: number }
  killGateway: { readonly awayMs: number }
}
interface CrashArgs {
  readonly point: CommitPoint
  readonly commits: number
  readonly remains: Remains
  readonly awayMs: number
}
export type CommandKind = keyof CommandArgs
export type Command = {
  /** `thenMs`: time goes on for so long afterwards. */
  [K in CommandKind]: { readonly do: K; readonly thenMs: number } & CommandArgs[K]
}[CommandKind]

export interface Story {
  readonly seed: number
  readonly commands: readonly Command[]
}

const shapes = [
  { parallelism: { strategy: 'Data' }, replicas: 2 },
  { parallelism: { strategy: 'Data' }, replicas: 3 },
  { parallelism: { strategy: 'Tensor', degree: 2 }, replicas: 1 },
  { parallelism: { strategy: 'Pipeline', degree: 3 }, replicas: 1 },
  { parallelism: { strategy: 'Pipeline', degree: 2 }, replicas: 2 },
] as const satisfies readonly Pick<Wish, 'parallelism' | 'replicas'>[]

const updates = [
  { strategy: 'RollingUpdate', maxUnavailable: 1, maxSurge: 1 },
  { strategy: 'RollingUpdate', maxUnavailable: 0, maxSurge: 1 },
  { strategy: 'RollingUpdate', maxUnavailable: 0, maxSurge: 2 },
  { strategy: 'RollingUpdate', maxUnavailable: 2, maxSurge: 0 },
  { strategy: 'Recreate' },
] as const satisfies readonly UpdateWish[]

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS

/** The same story for the same seed, for as long as this file stays as it is. */
export function storyOf(seed: number, length?: number): Story {
  const random = new SeededRandom(seed * 2_654_435_761)
  const count = length ?? 6 + random.below(14)
  const first = [draw('apply', random), draw('apply', random)]
  const rest = Array.from({ length: count }, () => draw(kindIn(random), random))
  return { seed, commands: [...first, ...rest].flatMap((command) => [command, ...secondThoughts(command, random)]) }
}

/** People stop what they have just begun: most of what a pause can do wrong lies in the seconds after a change. */
function secondThoughts(command: Command, random: SeededRandom): readonly Command[] {
  if (command.do !== 'apply' || random.next() > 0.15) return []
  return [{ do: 'pause', name: command.name, on: true, thenMs: thenMsIn(random) }]
}

/** How often each comes, beside the others. */
const weights: Readonly<Record<CommandKind, number>> = {
  apply: 12,
  scale: 4,
  remove: 3,
  pause: 3,
  restart: 2,
  undo: 3,
  cordon: 3,
  drain: 5,
  deleteNode: 3,
  killRank: 8,
  killHost: 2,
  stopRank: 2,
  killAgent: 5,
  pauseAgent: 3,
  sleep: 2,
  reboot: 2,
  killServer: 4,
  pauseServer: 2,
  crashAt: 10,
  backUp: 2,
  compact: 3,
  fillDisk: 4,
  slowDisk: 1,
  breakDisk: 1,
  cut: 6,
  reset: 2,
  network: 4,
  engines: 4,
  jumpClock: 2,
  killGateway: 1,
}
const kinds = Object.keys(weights) as CommandKind[]
const allWeights = Object.values(weights).reduce((sum, weight) => sum + weight, 0)

function kindIn(random: SeededRandom): CommandKind {
  let at = random.below(allWeights)
  for (const kind of kinds) {
    at -= weights[kind]
    if (at < 0) return kind
  }
  return 'killRank'
}

type Draws = { readonly [K in CommandKind]: (random: SeededRandom) => CommandArgs[K] }

const draws: Draws = {
  apply: (random) => ({ name: pick(random, names), wish: wishIn(random) }),
  scale: (random) => ({ name: pick(random, names), replicas: random.below(4) }),
  remove: (random) => ({ name: pick(random, names) }),
  pause: (random) => ({ name: pick(random, names), on: random.next() < 0.5 }),
  restart: (random) => ({ name: pick(random, names) }),
  undo: (random) => ({ name: pick(random, names) }),
  cordon: (random) => ({ node: pick(random, nodes), on: random.next() < 0.3 }),
  drain: (random) => ({ node: pick(random, nodes), force: random.next() < 0.4 }),
  deleteNode: (random) => ({ node: pick(random, nodes) }),
  killRank: (random) => ({ pick: random.next() }),
  killHost: (random) => ({ pick: random.next() }),
  stopRank: (random) => ({ pick: random.next(), forMs: span(random, 3 * MINUTE_MS) }),
  killAgent: (random) => ({ node: pick(random, nodes), awayMs: span(random, 3 * MINUTE_MS) }),
  pauseAgent: (random) => ({ node: pick(random, nodes), forMs: span(random, 3 * MINUTE_MS) }),
  sleep: (random) => ({ node: pick(random, nodes), forMs: span(random, 4 * MINUTE_MS) }),
  reboot: (random) => ({ node: pick(random, nodes), awayMs: span(random, 2 * MINUTE_MS) }),
  killServer: (random) => ({ awayMs: span(random, MINUTE_MS), remains: remainsIn(random) }),
  pauseServer: (random) => ({ forMs: span(random, MINUTE_MS) }),
  crashAt: (random) => ({
    point: pick(random, ['BeforeCommit', 'AfterCommit'] as const),
    commits: 1 + random.below(pick(random, [1, 4, 30])),
    remains: random.next() < 0.5 ? 'Whole' : 'Torn',
    awayMs: span(random, MINUTE_MS),
  }),
  backUp: () => ({}),
  compact: (random) => ({ share: random.next() }),
  fillDisk: (random) => ({ forMs: span(random, MINUTE_MS) }),
  slowDisk: (random) => ({ commitMs: 20 + random.below(1_500), forMs: span(random, MINUTE_MS) }),
  breakDisk: () => ({}),
  cut: (random) => ({
    node: random.next() < 0.15 ? 'gateway' : pick(random, nodes),
    ...(random.next() < 0.4 ? { direction: pick(random, ['up', 'down'] as const) } : {}),
    forMs: span(random, 3 * MINUTE_MS),
  }),
  reset: (random) => ({ node: pick(random, nodes) }),
  network: (random) => ({
    delayMs: pick(random, [0, 20, 400, 3_000]),
    resetChance: pick(random, [0, 0, 0.02, 0.1]),
    duplicateChance: pick(random, [0, 0, 0.2]),
  }),
  engines: (random) => ({
    slowness: pick(random, [1, 1, 5, 20]),
    hangChance: pick(random, [0, 0, 0.1]),
    lateExitMs: pick(random, [0, 0, 2_000, 20_000]),
    lostExitChance: pick(random, [0, 0, 0.3]),
  }),
  jumpClock: (random) => ({
    of: random.next() < 0.5 ? 'server' : pick(random, nodes),
    byMs: (random.next() < 0.5 ? 1 : -1) * span(random, 2 * HOUR_MS),
  }),
  killGateway: (random) => ({ awayMs: span(random, MINUTE_MS) }),
}

function draw<K extends CommandKind>(kind: K, random: SeededRandom): Command {
  const drawArgs: (random: SeededRandom) => CommandArgs[K] = draws[kind]
  return { do: kind, ...drawArgs(random), thenMs: thenMsIn(random) } as unknown as Command
}

/** Often too short for anything to settle; now and then long enough for silence to be noticed, and for a node to be lost. */
const thenMsIn = (random: SeededRandom): number =>
  random.next() < 0.15 ? MINUTE_MS / 2 + random.below(2 * MINUTE_MS) : span(random, 25_000)

/** Mostly short, sometimes long: races are won and lost in ms, verdicts fall in minutes. */
const span = (random: SeededRandom, maxMs: number): number => Math.ceil(maxMs * random.next() ** 3)

function wishIn(random: SeededRandom): Wish {
  return {
    ...pick<(typeof shapes)[number]>(random, shapes),
    model: pick(random, ['small', 'large', 'large'] as const),
    contextTokens: pick(random, [128, 256]),
    nodeLossSeconds: pick(random, [30, 120]),
    ...(random.next() < 0.3 ? {} : { update: pick<UpdateWish>(random, updates) }),
  }
}

/** Half of all crashes lose nothing; disks that lie are rarer than disks that do not. */
const remainsIn = (random: SeededRandom): Remains =>
  pick(random, ['Whole', 'Whole', 'Whole', 'Torn', 'Torn', 'Truncated', 'Flipped', 'Backup', 'Backup'] as const)

const pick = <T>(random: SeededRandom, items: readonly [T, ...T[]]): T => items[random.below(items.length)] ?? items[0]
