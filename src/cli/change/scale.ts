/** `mctl scale`: another number of replicas. Scaling is no update: what runs is not touched. */
import type { MctlObject } from '../../api/meta.ts'
import type { ModelDeployment } from '../../api/modeldeployment.ts'
import { sleep } from '../../lib/clock.ts'
import { OpError } from '../../lib/errors.ts'
import type { Client, ObjectRef } from '../../rpc/messages.ts'
import type { Define } from '../commandform.ts'
import { examples, fileOption, namespaceOption, serverOption } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError, withClient } from '../context.ts'
import { parseDurationMs } from '../durations.ts'
import { Failures } from '../errors.ts'
import type { ObjectFlags } from './objects.ts'
import { refsOf } from '../targets.ts'
import { change, deploymentAt, dryRunOf, say } from './objects.ts'

export interface ScaleFlags extends ObjectFlags {
  readonly replicas?: string
  readonly currentReplicas?: string
  readonly resourceVersion?: string
  readonly timeout?: string
}

const POLL_MS = 200

export const defineScale: Define = (command, cli, done) => {
  command
    .argument('[words...]')
    .usage('(TYPE NAME... | TYPE/NAME... | -f FILE) --replicas=COUNT [options]')
    .addOption(serverOption())
    .addOption(namespaceOption())
    .addOption(fileOption())
    .option('-R, --recursive', 'also the folders below')
    .option('--replicas <count>', 'how many replicas there shall be; required')
    .option('--current-replicas <count>', 'only if there are so many now')
    .option('--resource-version <version>', 'only if this is the version of the object')
    .option('--all', 'all objects of the type')
    .option('-l, --selector <labels>', 'only objects with these labels, e.g. team=a')
    .option('--timeout <duration>', 'wait until so many replicas exist, at most so long; 0: do not wait', '0')
    .option('--dry-run <none|client|server>', 'only say what would happen', 'none')
    .addHelpText('after', examples('mctl scale md/smollm2-pipeline --replicas=1'))
    .action(async (words: string[], flags: ScaleFlags) => done(await scale(cli, words, flags)))
}

export async function scale(cli: Cli, words: readonly string[], flags: ScaleFlags): Promise<number> {
  const replicas = count(flags.replicas)
  if (replicas === undefined)
    throw new CliError('The --replicas=COUNT flag is required, and COUNT must be greater than or equal to 0')
  const current = flags.currentReplicas === undefined ? undefined : count(flags.currentReplicas)
  if (flags.currentReplicas !== undefined && current === undefined && flags.currentReplicas !== '-1')
    throw new CliError('The --current-replicas must specify an integer of -1 or greater')
  const dryRun = dryRunOf(flags)
  const timeoutMs = parseDurationMs(flags.timeout ?? '0')
  return withClient(cli, flags.server, async (client) => {
    const refs = await refsOf(cli, client, words, 'scale', flags)
    if (refs.length === 0) throw new CliError('no objects passed to scale')
    if (refs.length > 1 && flags.resourceVersion !== undefined)
      throw new CliError('cannot use --resource-version with multiple resources')
    const failures = new Failures(cli)
    for (const ref of refs)
      await failures.attempt(async () => {
        const deployment = await deploymentAt(client, ref, (kind, name) => `cannot scale ${kind} "${name}"`)
        checkExpected(deployment, current, flags.resourceVersion)
        const exact = current !== undefined || flags.resourceVersion !== undefined
        const written = await change(client, ref, deployment, { patch: { spec: { replicas } }, dryRun, exact })
        say(cli, ref, 'scaled', dryRun)
        if (timeoutMs > 0 && dryRun === 'none') await untilThere(cli, client, ref, written, { replicas, timeoutMs })
      })
    return failures.exitCode
  })
}

function count(text: string | undefined): number | undefined {
  const value = Number(text)
  return text !== undefined && text !== '' && Number.isInteger(value) && value >= 0 ? value : undefined
}

function checkExpected(
  { spec, metadata }: ModelDeployment,
  replicas: number | undefined,
  resourceVersion: string | undefined,
): void {
  if (replicas !== undefined && spec.replicas !== replicas)
    throw new CliError(`Expected replicas to be ${replicas}, was ${spec.replicas}`)
  if (resourceVersion !== undefined && metadata.resourceVersion !== resourceVersion)
    throw new CliError(`Expected resource version to be ${resourceVersion}, was ${metadata.resourceVersion}`)
}

interface Awaited {
  readonly replicas: number
  readonly timeoutMs: number
}

async function untilThere(
  cli: Cli,
  client: Client,
  ref: ObjectRef,
  { metadata }: MctlObject,
  { replicas, timeoutMs }: Awaited,
): Promise<void> {
  const untilMs = cli.clock.monotonicMs() + timeoutMs
  for (;;) {
    const { object } = await client.get({ ref })
    const { status } = object as ModelDeployment
    if ((status?.observedGeneration ?? 0) >= metadata.generation && status?.replicas === replicas) return
    if (cli.signal.aborted) throw new OpError('Cancelled', `wait until ${ref.name} is scaled: interrupted`)
    if (cli.clock.monotonicMs() >= untilMs)
      throw new CliError(
        `timed out waiting for "${ref.name}" to be synced: ${status?.replicas ?? 0} of ${replicas} replicas exist`,
      )
    await sleep(cli.clock, POLL_MS, cli.signal)
  }
}
