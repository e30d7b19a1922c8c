/** The fake engine's launch file, and the arguments that tell it to misbehave: an allow-list, read by agent and engine. */
import { OpError } from '../../../src/lib/errors.ts'

export interface FakeConfig {
  readonly servedName: string
  readonly strategy: 'Single' | 'Pipeline' | 'Tensor'
  readonly rank: number
  readonly worldSize: number
  readonly stage: readonly [number, number]
  /** Only ranks of the same group and epoch meet. */
  readonly gang: string
  readonly epoch: number
  readonly hosts: readonly (readonly string[])[]
  readonly port: number
  readonly contextTokens: number
  readonly maxOutputTokens: number
  readonly concurrency: number
  readonly memoryBytes: number
  readonly rendezvousDeadlineSeconds: number
  /** The shardhost. Without it nobody would ever stop the engine. */
  readonly parentPid: number
  readonly args: FakeArgs
}

/**
 * Milliseconds count from the start of loading (slow-load), or (crash-after, hang-after, stuck-after, mute-after) from the first answer at the
 * leader, which is the readiness probe's, and from ready at the other ranks.
 */
export interface FakeArgs {
  readonly tokensPerSecond: number
  readonly slowLoadMs: number
  readonly crashOnStart: boolean
  readonly crashAfterMs?: number
  /** Code of the crashes. */
  readonly exitCode: number
  /** Never gets ready, and does not hear SIGTERM. */
  readonly hang: boolean
  readonly hangAfterMs?: number
  readonly refuseMemory: boolean
  /** Says ready and answers no completion. */
  readonly lieReady: boolean
  /** Beats and polls on, takes requests, and makes no token any more. */
  readonly stuckAfterMs?: number
  /** Beats and polls on, and answers every request with an error. */
  readonly muteAfterMs?: number
  /** Takes ever more memory than was planned, from ready on. */
  readonly eatMibPerSecond?: number
  /** How long it may go without a sign of life, a step, or an answer to its canary; the agent reads these, not the engine. */
  readonly beatSeconds?: number
  readonly stallSeconds?: number
  readonly canaryEverySeconds?: number
  readonly canarySeconds?: number
  /** The misbehaviour is this rank's, or this epoch's, alone. */
  readonly onlyRank?: number
  readonly onlyEpoch?: number
}

const flags = {
  '--crash-on-start': 'crashOnStart',
  '--hang': 'hang',
  '--refuse-memory': 'refuseMemory',
  '--lie-ready': 'lieReady',
} as const
const numbers = {
  '--tokens-per-second': 'tokensPerSecond',
  '--slow-load-ms': 'slowLoadMs',
  '--crash-after-ms': 'crashAfterMs',
  '--hang-after-ms': 'hangAfterMs',
  '--stuck-after-ms': 'stuckAfterMs',
  '--mute-after-ms': 'muteAfterMs',
  '--eat-mib-per-second': 'eatMibPerSecond',
  '--beat-seconds': 'beatSeconds',
  '--stall-seconds': 'stallSeconds',
  '--canary-every-seconds': 'canaryEverySeconds',
  '--canary-seconds': 'canarySeconds',
  '--exit-code': 'exitCode',
  '--only-rank': 'onlyRank',
  '--only-epoch': 'onlyEpoch',
} as const

/** What `spec.engine.args` may hold for this engine, for messages. */
export const fakeArgNames: readonly string[] = [...Object.keys(flags), ...Object.keys(numbers).map((n) => `${n}=N`)]

const goodArgs: FakeArgs = {
  tokensPerSecond: 200,
  slowLoadMs: 0,
  crashOnStart: false,
  exitCode: 1,
  hang: false,
  refuseMemory: false,
  lieReady: false,
}

/** Arguments such as `--crash-after-ms=500`. Invalid names the first that is not in the list. */
export function parseFakeArgs(args: readonly string[]): FakeArgs {
  const parsed: Record<string, number | boolean> = {}
  args.forEach((arg, i) => {
    const [name = '', value] = arg.split('=', 2)
    if (value === undefined && name in flags) parsed[flags[name as keyof typeof flags]] = true
    else if (name in numbers && /^\d{1,9}(\.\d{1,3})?$/.test(value ?? ''))
      parsed[numbers[name as keyof typeof numbers]] = Number(value)
    else
      throw new OpError(
        'Invalid',
        `spec.engine.args[${i}]: Unsupported value: "${arg}": supported values: ${fakeArgNames.join(', ')}`,
      )
  })
  return { ...goodArgs, ...parsed }
}

/** The arguments as this rank obeys them: a well-behaved one keeps only its speed. */
export function argsFor(args: FakeArgs, rank: number, epoch: number): FakeArgs {
  const concerned = (args.onlyRank ?? rank) === rank && (args.onlyEpoch ?? epoch) === epoch
  return concerned ? args : { ...goodArgs, tokensPerSecond: args.tokensPerSecond }
}

/** How long this engine may be silent, where it was told so. A JavaScript process beats unless it is stopped. */
export function livenessOf({ beatSeconds = 30, stallSeconds, canaryEverySeconds, canarySeconds }: FakeArgs) {
  return {
    beatSeconds,
    ...(stallSeconds === undefined ? {} : { stallSeconds }),
    ...(canaryEverySeconds === undefined ? {} : { canaryEverySeconds }),
    ...(canarySeconds === undefined ? {} : { canarySeconds }),
  }
}
