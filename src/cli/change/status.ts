/** `mctl rollout status`: kubectl's sentences, in its order, one line for each change of what is waited for. */
import { findCondition } from '../../api/conditions.ts'
import type { ModelDeployment } from '../../api/modeldeployment.ts'
import { sleep } from '../../lib/clock.ts'
import { OpError, isOpError } from '../../lib/errors.ts'
import type { Client, ObjectRef } from '../../rpc/messages.ts'
import type { Cli } from '../context.ts'
import { CliError, withClient } from '../context.ts'
import { parseDurationMs } from '../durations.ts'
import { Failures } from '../errors.ts'
import { clauses } from '../describe/text.ts'
import { positiveInteger } from '../flags.ts'
import type { ObjectFlags } from './objects.ts'
import { refsOf } from '../targets.ts'
import { deploymentAt } from './objects.ts'

export interface StatusFlags extends ObjectFlags {
  readonly watch: string | boolean
  readonly revision?: string
  readonly timeout?: string
}

const POLL_MS = 200

export async function status(cli: Cli, words: readonly string[], flags: StatusFlags): Promise<number> {
  const watch = flagValue('-w, --watch', flags.watch)
  const timeoutMs = parseDurationMs(flags.timeout ?? '0')
  const revision = flags.revision === undefined ? undefined : positiveInteger('--revision', flags.revision)
  return withClient(cli, flags.server, async (client) => {
    const failures = new Failures(cli)
    for (const ref of await refsOf(cli, client, words, 'rollout status', flags))
      await failures.attempt(() => follow(cli, client, ref, { watch, timeoutMs, revision }))
    return failures.exitCode
  })
}

function flagValue(flag: string, value: string | boolean): boolean {
  if (value === true || value === 'true') return true
  if (value === false || value === 'false') return false
  throw new CliError(`invalid argument "${value}" for "${flag}" flag: must be true or false`)
}

interface How {
  readonly watch: boolean
  /** 0: as long as it takes. */
  readonly timeoutMs: number
  readonly revision: number | undefined
}

async function follow(cli: Cli, client: Client, ref: ObjectRef, how: How): Promise<void> {
  const startMs = cli.clock.monotonicMs()
  let told = ''
  for (let first = true; ; first = false) {
    const deployment = await read(client, ref, first)
    if (how.revision !== undefined && deployment.status?.currentRevision !== how.revision)
      throw new CliError(
        `desired revision (${how.revision}) is different from the running revision (${deployment.status?.currentRevision ?? 0})`,
      )
    const { text, done } = rolloutStatus(deployment)
    if (text !== told) cli.terminal.out(`${text}\n`)
    told = text
    if (done || !how.watch) return
    if (cli.signal.aborted) throw new OpError('Cancelled', `watch the rollout of ${ref.name}: interrupted`)
    if (how.timeoutMs > 0 && cli.clock.monotonicMs() - startMs >= how.timeoutMs)
      throw new CliError(`timed out waiting for the condition${why(deployment)}`)
    await sleep(cli.clock, POLL_MS, cli.signal)
  }
}

/** Gone in the middle of it is another thing than never there. */
async function read(client: Client, ref: ObjectRef, first: boolean): Promise<ModelDeployment> {
  try {
    const refusal = (kind: string) => `no status viewer has been implemented for "${kind}"`
    return await deploymentAt(client, ref, refusal)
  } catch (error) {
    if (!first && isOpError(error, 'NotFound')) throw new CliError('object has been deleted')
    throw error
  }
}

/** The sentence that holds now. CliError when the deployment made no progress within its deadline. */
export function rolloutStatus(deployment: ModelDeployment): { readonly text: string; readonly done: boolean } {
  const { metadata, spec, status: now } = deployment
  const { name } = metadata
  const waiting = (what: string) => ({
    text: `Waiting for deployment "${name}" rollout to finish: ${what}...`,
    done: false,
  })
  if ((now?.observedGeneration ?? 0) < metadata.generation)
    return { text: 'Waiting for deployment spec update to be observed...', done: false }
  if (findCondition(now?.conditions, 'Progressing')?.reason === 'ProgressDeadlineExceeded')
    throw new CliError(`deployment "${name}" exceeded its progress deadline${why(deployment)}`)
  const { replicas = 0, updatedReplicas = 0, readyReplicas = 0 } = now ?? {}
  if (updatedReplicas < spec.replicas)
    return waiting(`${updatedReplicas} out of ${spec.replicas} new replicas have been updated`)
  if (replicas > updatedReplicas) return waiting(`${replicas - updatedReplicas} old replicas are pending termination`)
  if (readyReplicas < updatedReplicas)
    return waiting(`${readyReplicas} of ${updatedReplicas} updated replicas are available`)
  return { text: `deployment "${name}" successfully rolled out`, done: true }
}

/** What the deployment says of it, on lines of their own; what one condition has said, no other repeats. */
function why({ status: now }: ModelDeployment): string {
  const told: string[] = []
  const lines: string[] = []
  for (const type of ['Progressing', 'Scheduled', 'Ready'] as const) {
    const condition = findCondition(now?.conditions, type)
    if (condition === undefined || (type !== 'Progressing' && condition.status === 'True')) continue
    if (told.some((earlier) => condition.message.includes(earlier))) continue
    told.push(condition.message)
    const [first = '', ...others] = clauses(condition.message)
    lines.push(`  ${type}=${condition.status}: ${condition.reason}: ${first}`, ...others.map((text) => `    ${text}`))
  }
  return lines.map((line) => `\n${line}`).join('')
}
