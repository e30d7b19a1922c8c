/** `mctl logs`: the engine's log of a shard, or of every shard of a group or deployment, over the agent's session. */
import type { Shard } from '../../api/shard.ts'
import type { Client, LogTimes } from '../../rpc/messages.ts'
import { kinds } from '../../api/kinds.ts'
import { DEFAULT_NAMESPACE } from '../../api/meta.ts'
import { isOpError } from '../../lib/errors.ts'
import type { Define } from '../commandform.ts'
import { examples, namespaceOption, serverOption } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError, withClient } from '../context.ts'
import { parseDurationMs } from '../durations.ts'
import { Failures } from '../errors.ts'
import { positiveInteger } from '../flags.ts'
import { selectionOf } from '../get/flags.ts'
import type { Target } from '../targets.ts'
import { refOf, targetsOf } from '../targets.ts'

export interface LogsFlags {
  readonly server?: string
  readonly namespace?: string
  readonly follow?: boolean
  readonly tail?: string
  readonly previous?: boolean
  readonly prefix?: boolean
  readonly allShards?: boolean
  readonly selector?: string
  readonly maxLogRequests?: string
  readonly limitBytes?: string
  readonly ignoreErrors?: boolean
  readonly since?: string
  readonly sinceTime?: string
  readonly timestamps?: boolean
}

export const defineLogs: Define = (command, cli, done) => {
  command
    .argument('[words...]')
    .usage('(SHARD | TYPE/NAME | -l LABELS) [options]')
    .addOption(serverOption())
    .addOption(namespaceOption())
    .option('-f, --follow', 'go on with each new line')
    .option('--tail <lines>', 'only so many lines from the end')
    .option('--since <duration>', 'only lines of the last while, e.g. 30s, 5m, 2h')
    .option('--since-time <time>', 'only lines since then (RFC 3339), e.g. 2026-01-31T07:00:00Z')
    .option('--timestamps', 'begin each line with its time')
    .option('-p, --previous', 'of the run before this one')
    .option('--prefix', 'begin each line with its shard; always so for several')
    .option('--all-shards', 'of every rank of a group or deployment (always so)')
    .option('-l, --selector <labels>', 'of the shards with these labels, the last 10 lines of each')
    .option('--max-log-requests <n>', 'with -f: so many logs at once', '5')
    .option('--limit-bytes <n>', 'no more than so many bytes of each log')
    .option('--ignore-errors', 'a log that cannot be read is told, and no error')
    .addHelpText(
      'after',
      examples(
        'mctl logs smollm2-pipeline-0-e1-0 --tail 20',
        'mctl logs md/smollm2-pipeline -f',
        'mctl logs md/smollm2-pipeline --since 5m --timestamps',
      ),
    )
    .action(async (words: string[], flags: LogsFlags) => done(await logs(cli, words, flags)))
}

export async function logs(cli: Cli, words: readonly string[], flags: LogsFlags): Promise<number> {
  const tail = tailOf(flags.tail ?? (flags.selector === undefined ? undefined : '10'))
  const times = timesOf(flags)
  const limitBytes = flags.limitBytes === undefined ? undefined : positiveInteger('--limit-bytes', flags.limitBytes)
  const atOnce = positiveInteger('--max-log-requests', flags.maxLogRequests ?? '5')
  const target = flags.selector === undefined ? targetOf(words) : selectorTarget(words)
  return withClient(cli, flags.server, async (client) => {
    const shards = target === undefined ? await labelled(client, flags) : await shardsOf(client, target, flags)
    if (flags.follow && shards.length > atOnce)
      throw new CliError(
        `you are attempting to follow ${shards.length} log streams, but maximum allowed concurrency is ${atOnce}, use --max-log-requests to increase the limit`,
      )
    const prefix = flags.prefix === true || shards.length > 1
    const failures = new Failures(cli)
    const copyOne = (shard: ShardRef) => {
      const during = shards.length > 1 ? `log of ${shard.name}` : undefined
      return failures.attempt(() => copy(cli, client, shard, { prefix, tail, times, limitBytes, flags }), during)
    }
    // A log that goes on is read beside the others; logs that end come one after the other, so that they can be read.
    if (flags.follow) await Promise.all(shards.map(copyOne))
    else for (const shard of shards) await copyOne(shard)
    return flags.ignoreErrors ? 0 : failures.exitCode
  })
}

function tailOf(text: string | undefined): number | undefined {
  if (text === undefined || text === '-1') return undefined
  const tail = Number(text)
  if (text.trim() === '' || !Number.isInteger(tail) || tail < 0)
    throw new CliError(`--tail must be greater than or equal to -1, not "${text}"`)
  return tail
}

/** CliError for what is no duration, no time, or both. */
function timesOf({ since, sinceTime, timestamps }: LogsFlags): LogTimes {
  if (since !== undefined && sinceTime !== undefined)
    throw new CliError('at most one of --since and --since-time may be used')
  const sinceAgoMs = since === undefined ? undefined : parseDurationMs(since)
  if (sinceAgoMs !== undefined && sinceAgoMs <= 0)
    throw new CliError(`--since must be greater than 0, not "${since}"; use for example 30s, 5m or 1h30m`)
  const sinceTimeMs = sinceTime === undefined ? undefined : timeOf(sinceTime)
  return {
    ...(sinceAgoMs === undefined ? {} : { sinceAgoMs }),
    ...(sinceTimeMs === undefined ? {} : { sinceTimeMs }),
    ...(timestamps === true ? { timestamps } : {}),
  }
}

function timeOf(text: string): number {
  const ms = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(text) ? Date.parse(text) : NaN
  if (Number.isNaN(ms))
    throw new CliError(`--since-time must be a time as RFC 3339 writes it, such as 2026-01-31T07:00:00Z, not "${text}"`)
  return ms
}

/** A word alone names a shard, as it names a pod in kubectl. */
function targetOf(words: readonly string[]): Target {
  const [target, ...others] =
    words.length === 0
      ? []
      : targetsOf(words.length === 1 && !words[0]?.includes('/') ? ['shard', ...words] : words, 'logs')
  if (target?.name === undefined)
    throw new CliError(
      "expected 'logs [-f] [-p] (SHARD | TYPE/NAME)'.\nSHARD or TYPE/NAME is a required argument for the logs command\nSee 'mctl logs --help' for help and examples",
    )
  if (others.length > 0) throw new CliError('only one SHARD or TYPE/NAME is allowed')
  return target
}

function selectorTarget(words: readonly string[]): undefined {
  if (words.length > 0) throw new CliError('only a selector (-l) or a SHARD or TYPE/NAME is allowed')
  return undefined
}

async function labelled(client: Client, flags: LogsFlags): Promise<readonly ShardRef[]> {
  const { items } = await client.list(selectionOf('Shard', flags))
  if (items.length === 0) throw new CliError(`No resources found in ${flags.namespace ?? DEFAULT_NAMESPACE} namespace.`)
  return items.map(({ metadata }) => ({ namespace: metadata.namespace ?? DEFAULT_NAMESPACE, name: metadata.name }))
}

interface ShardRef {
  readonly namespace: string
  readonly name: string
}

async function shardsOf(client: Client, target: Target, flags: LogsFlags): Promise<readonly ShardRef[]> {
  const ref = refOf(target.kind, target.name ?? '', flags.namespace)
  if (target.kind === 'Shard') return [ref]
  const field = { ShardGroup: 'spec.group', ModelDeployment: 'spec.deployment' }[target.kind as string]
  if (field === undefined)
    throw new CliError(
      `cannot get the logs of a ${kinds[target.kind].singular}: give a shard, a shardgroup or a modeldeployment`,
    )
  await client.get({ ref })
  const { items } = await client.list({
    kind: 'Shard',
    namespace: ref.namespace,
    fieldSelector: `${field}=${ref.name}`,
  })
  if (items.length === 0)
    throw new CliError(
      `${kinds[target.kind].singular} "${ref.name}" has no shards now: \`mctl describe ${kinds[target.kind].singular} ${ref.name}\` says why`,
    )
  return (items as readonly Shard[]).map((shard) => ({ namespace: ref.namespace, name: shard.metadata.name }))
}

interface CopyOptions {
  readonly prefix: boolean
  readonly tail: number | undefined
  readonly times: LogTimes
  readonly limitBytes: number | undefined
  readonly flags: LogsFlags
}

async function copy(cli: Cli, client: Client, shard: ShardRef, options: CopyOptions): Promise<void> {
  const { follow, previous } = options.flags
  const request = {
    namespace: shard.namespace,
    shard: shard.name,
    ...(follow ? { follow } : {}),
    ...(previous ? { previous } : {}),
    ...(options.tail === undefined ? {} : { tail: options.tail }),
    ...options.times,
  }
  const mark = options.prefix ? `[${shard.name}] ` : ''
  let left = options.limitBytes
  try {
    for await (const chunk of client.logs(request, { signal: cli.signal })) {
      const whole = chunk.text.endsWith('\n') ? chunk.text : `${chunk.text}\n`
      const text = left === undefined ? whole : Buffer.from(whole).subarray(0, left).toString()
      cli.terminal.out(mark === '' ? text : text.replace(/^(?=.)/gm, mark))
      if (left !== undefined && (left -= Buffer.byteLength(whole)) <= 0) break
    }
  } catch (error) {
    // Ctrl-C is how `-f` ends.
    if (!(cli.signal.aborted && isOpError(error, 'Cancelled'))) throw error
  }
}
