/** `mctl delete`: by name or by file; by default it ends only when the processes behind the objects are gone. */
import { kinds, qualifiedName } from '../../api/kinds.ts'
import { sleep } from '../../lib/clock.ts'
import { OpError, isOpError } from '../../lib/errors.ts'
import type { Client, DeleteRequest, ObjectRef } from '../../rpc/messages.ts'
import type { Define } from '../commandform.ts'
import { asBoolean, examples, fileOption, namespaceOption, serverOption } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError, withClient } from '../context.ts'
import { parseDurationMs } from '../durations.ts'
import { Failures } from '../errors.ts'
import { dryRunOf, dryRunSuffix } from '../flags.ts'
import { refOf, refsOf, targetsFrom } from '../targets.ts'

export interface DeleteFlags {
  readonly server?: string
  readonly namespace?: string
  readonly filename?: readonly string[]
  readonly recursive?: boolean
  readonly all?: boolean
  readonly selector?: string
  readonly fieldSelector?: string
  readonly wait?: boolean
  readonly timeout?: string
  readonly cascade?: string
  readonly gracePeriod?: string
  readonly force?: boolean
  readonly now?: boolean
  readonly interactive?: boolean
  readonly ignoreNotFound?: boolean
  readonly dryRun?: string
  readonly output?: string
}

interface Doomed {
  readonly ref: ObjectRef
  readonly file?: string
}
interface Leaving {
  readonly ref: ObjectRef
  readonly uid: string
}

const POLL_MS = 100
const TELL_AFTER_MS = 1000
const cascades = { background: 'Background', foreground: 'Foreground', orphan: 'Orphan' } as const

export const defineDelete: Define = (command, cli, done) => {
  command
    .argument('[words...]')
    .usage('(TYPE NAME... | TYPE/NAME... | TYPE --all | -f FILE) [options]')
    .addOption(serverOption())
    .addOption(fileOption())
    .addOption(namespaceOption())
    .option('-R, --recursive', 'also the folders below')
    .option('--all', 'all objects of the type')
    .option('-l, --selector <labels>', 'only objects with these labels, e.g. team=a')
    .option('--field-selector <fields>', 'only objects with these fields, e.g. status.phase=Failed')
    .option('--cascade <background|foreground|orphan>', 'what becomes of the objects below', 'background')
    .option('--grace-period <seconds>', 'how long engines may take to end; absent: as long as a planned stop', '-1')
    .option('--now', 'the same as --grace-period=1')
    .option('--force', 'with --grace-period=0, which it stands for: engines are killed at once')
    .option('--wait [true|false]', 'until the processes behind the objects are gone', asBoolean, true)
    .option('--no-wait', 'return at once')
    .option('--timeout <duration>', 'how long to wait; 0: as long as it takes', '0')
    .option('-i, --interactive', 'ask before anything is deleted')
    .option('--ignore-not-found', 'a missing object is no error')
    .option('--dry-run <none|client|server>', 'only say what would happen', 'none')
    .option('-o, --output <format>', 'name')
    .addHelpText(
      'after',
      examples('mctl delete md/smollm2-pipeline', 'mctl delete -f manifests/demo/pipeline.yaml --ignore-not-found'),
    )
    .action(async (words: string[], flags: DeleteFlags) => done(await deleteObjects(cli, words, flags)))
}

export async function deleteObjects(cli: Cli, words: readonly string[], flags: DeleteFlags): Promise<number> {
  const options = optionsOf(flags)
  const timeoutMs = parseDurationMs(flags.timeout ?? '0')
  return withClient(cli, flags.server, async (client) => {
    const failures = new Failures(cli)
    const doomed = await doomedOf(cli, client, words, flags)
    if (flags.interactive && doomed.length > 0 && !(await confirmed(cli, doomed))) return 0
    if (options.graceSeconds === 0 && !flags.dryRun?.match(/client|server/)) cli.terminal.err(FORCE_WARNING)
    const leaving: Leaving[] = []
    for (const { ref, file } of doomed) {
      const during = file === undefined ? undefined : `error when deleting "${file}"`
      const reply = await failures.attempt(() => deleteOne(client, { ref, ...options }, flags), during)
      if (reply === undefined) continue
      cli.terminal.out(deletedText(ref, flags, options.graceSeconds))
      if (reply !== 'told' && !reply.gone && options.dryRun !== true)
        leaving.push({ ref, uid: reply.object.metadata.uid })
    }
    if (flags.wait !== false) {
      const waiter = makeWaiter(cli, client, timeoutMs)
      for (const one of leaving) await failures.attempt(() => waiter(one))
    }
    // kubectl says this of a selection that is empty; names that are missing were told already.
    if (doomed.length === 0 && flags.output === undefined) cli.terminal.err('No resources found\n')
    return failures.exitCode
  })
}

const FORCE_WARNING =
  'warning: Immediate deletion kills engines without draining: requests that they answer break off. What runs on a node ' +
  'that cannot be reached stays until the node is back, or is deleted (`mctl delete node NAME`).\n'

function optionsOf(flags: DeleteFlags): Pick<DeleteRequest, 'propagation' | 'dryRun' | 'graceSeconds'> {
  const propagation = cascades[(flags.cascade ?? 'background') as keyof typeof cascades]
  if (propagation === undefined)
    throw new CliError(`invalid cascade value (${flags.cascade}). Must be "background", "foreground", or "orphan"`)
  const dryRun = dryRunOf(flags.dryRun)
  if (flags.output !== undefined && flags.output !== 'name')
    throw new CliError(`unexpected -o output mode: ${flags.output}. We only support '-o name'`)
  const graceSeconds = graceOf(flags)
  return { propagation, dryRun: dryRun !== 'none', ...(graceSeconds === undefined ? {} : { graceSeconds }) }
}

/** kubectl's rules: --now is 1, --force is 0; 0 needs --force, since what is lost then is lost. */
function graceOf({ gracePeriod = '-1', now, force }: DeleteFlags): number | undefined {
  const seconds = Number(gracePeriod)
  if (gracePeriod.trim() === '' || !Number.isInteger(seconds) || seconds < -1)
    throw new CliError(`--grace-period must be a whole number of seconds, not "${gracePeriod}"`)
  if (now && seconds >= 0) throw new CliError('--now and --grace-period cannot be specified together')
  if (now) return 1
  if (force && seconds > 0) throw new CliError('--force and --grace-period greater than 0 cannot be specified together')
  if (force) return 0
  if (seconds === 0)
    throw new CliError('--grace-period=0 kills engines at once: give --force as well, or --now for a second of grace')
  return seconds < 0 ? undefined : seconds
}

async function confirmed(cli: Cli, doomed: readonly Doomed[]): Promise<boolean> {
  const lines = doomed.map(({ ref }) => `${qualifiedName(ref.kind, ref.name)}\n`)
  cli.terminal.out(`You are about to delete the following ${doomed.length} resource(s):\n${lines.join('')}`)
  const answer = await cli.terminal.question('Do you want to continue? (y/N): ')
  const isYes = /^y(es)?$/i.test(answer?.trim() ?? '')
  if (!isYes) cli.terminal.out('deletion is cancelled\n')
  return isYes
}

async function deleteOne(client: Client, request: DeleteRequest, flags: DeleteFlags) {
  try {
    if (flags.dryRun !== 'client') return await client.delete(request)
    // Only whether it is there: what the server would say against it is for --dry-run=server.
    await client.get({ ref: request.ref })
    return 'told'
  } catch (error) {
    if (flags.ignoreNotFound && isOpError(error, 'NotFound')) return undefined
    throw error
  }
}

function deletedText(ref: ObjectRef, flags: DeleteFlags, graceSeconds: number | undefined): string {
  const name = qualifiedName(ref.kind, ref.name)
  if (flags.output === 'name') return `${name}\n`
  const where = kinds[ref.kind].namespaced ? ` from ${ref.namespace} namespace` : ''
  const how = graceSeconds === 0 ? 'force deleted' : 'deleted'
  return `${name.replace('/', ' "')}" ${how}${where}${dryRunSuffix(flags.dryRun)}\n`
}

async function doomedOf(
  cli: Cli,
  client: Client,
  words: readonly string[],
  flags: DeleteFlags,
): Promise<readonly Doomed[]> {
  if (flags.filename === undefined) return (await refsOf(cli, client, words, 'delete', flags)).map((ref) => ({ ref }))
  const targets = await targetsFrom(cli, words, 'delete', flags)
  return targets.map(({ kind, name = '', namespace, file }) => ({
    ref: refOf(kind, name, namespace),
    ...(file === undefined ? {} : { file }),
  }))
}

/** Waits until an object is gone; says on stderr what it waits for when that takes longer than a glance. One timeout for all. */
function makeWaiter(cli: Cli, client: Client, timeoutMs: number): (leaving: Leaving) => Promise<void> {
  const startMs = cli.clock.monotonicMs()
  return async ({ ref, uid }) => {
    let told = false
    while (await isThere(client, ref, uid)) {
      const waitedMs = cli.clock.monotonicMs() - startMs
      if (timeoutMs > 0 && waitedMs > timeoutMs)
        throw new CliError(`timed out waiting for the condition on ${kinds[ref.kind].plural}/${ref.name}`)
      if (cli.signal.aborted) throw new OpError('Cancelled', `wait until ${ref.name} is gone: interrupted`)
      if (waitedMs > TELL_AFTER_MS && !told)
        cli.terminal.err(`waiting until the processes of ${ref.name} have stopped\n`)
      told ||= waitedMs > TELL_AFTER_MS
      await sleep(cli.clock, POLL_MS, cli.signal)
    }
  }
}

/** Another object under the same name is not the one that was deleted. */
const isThere = (client: Client, ref: ObjectRef, uid: string): Promise<boolean> =>
  client.get({ ref }).then(
    ({ object }) => object.metadata.uid === uid,
    (error: unknown) => {
      if (isOpError(error, 'NotFound')) return false
      throw error
    },
  )
