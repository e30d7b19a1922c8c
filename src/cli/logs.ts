/** `mctl logs`: the engine's log of a shard, or of every shard of a group or deployment, over the agent's session. */
import type { Shard } from '../api/shard.ts'
import type { Client } from '../rpc/messages.ts'
import type { Cli, Target } from './context.ts'
import { CliError, refOf, targetsOf, withClient } from './context.ts'

export interface LogsFlags {
  readonly server?: string
  readonly namespace?: string
  readonly follow?: boolean
  readonly tail?: string
  readonly previous?: boolean
  readonly prefix?: boolean
}

export async function logs(cli: Cli, words: readonly string[], flags: LogsFlags): Promise<number> {
  const tail = flags.tail === undefined || flags.tail === '-1' ? undefined : Number(flags.tail)
  if (tail !== undefined && (!Number.isInteger(tail) || tail < 0))
    throw new CliError(`--tail must be greater than or equal to -1, not "${flags.tail}"`)
  // A word alone names a shard, as it names a pod in kubectl.
  const [target] = targetsOf(words.length === 1 && !words[0]?.includes('/') ? ['shard', ...words] : words)
  return withClient(cli, flags.server, async (client) => {
    const shards = await shardsOf(client, target, flags)
    const prefix = flags.prefix === true || shards.length > 1
    await Promise.all(shards.map((shard) => copy(cli, client, shard, { prefix, tail, flags })))
    return 0
  })
}

async function shardsOf(
  client: Client,
  target: Target | undefined,
  flags: LogsFlags,
): Promise<readonly { namespace: string; name: string }[]> {
  if (target?.name === undefined)
    throw new CliError('expected the name of a shard, or TYPE/NAME with a shardgroup or modeldeployment')
  const ref = refOf(target.kind, target.name, flags.namespace)
  if (target.kind === 'Shard') return [ref]
  const field = { ShardGroup: 'spec.group', ModelDeployment: 'spec.deployment' }[target.kind as string]
  if (field === undefined) throw new CliError(`cannot get the logs from ${target.kind}: only shards write logs`)
  await client.get({ ref })
  const { items } = await client.list({
    kind: 'Shard',
    namespace: ref.namespace,
    fieldSelector: `${field}=${target.name}`,
  })
  if (items.length === 0)
    throw new CliError(
      `${target.kind} "${target.name}" has no shards now: \`mctl describe ${target.kind.toLowerCase()} ${target.name}\` says why`,
    )
  return (items as readonly Shard[]).map((shard) => ({ namespace: ref.namespace, name: shard.metadata.name }))
}

interface CopyOptions {
  readonly prefix: boolean
  readonly tail: number | undefined
  readonly flags: LogsFlags
}

async function copy(
  cli: Cli,
  client: Client,
  shard: { namespace: string; name: string },
  options: CopyOptions,
): Promise<void> {
  const { follow, previous } = options.flags
  const request = {
    namespace: shard.namespace,
    shard: shard.name,
    ...(follow ? { follow } : {}),
    ...(previous ? { previous } : {}),
    ...(options.tail === undefined ? {} : { tail: options.tail }),
  }
  const mark = options.prefix ? `[${shard.name}] ` : ''
  for await (const chunk of client.logs(request, { signal: cli.signal })) {
    const text = chunk.text.endsWith('\n') ? chunk.text : `${chunk.text}\n`
    cli.terminal.out(mark === '' ? text : text.replace(/^(?=.)/gm, mark))
  }
}
