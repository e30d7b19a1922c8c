/** `mctl delete`: by name or by file; by default it ends only when the processes behind the objects are gone. */
import { kinds, qualifiedName } from '../../api/kinds.ts'
import { sleep } from '../../lib/clock.ts'
import { OpError, isOpError } from '../../lib/errors.ts'
import type { Client, DeleteRequest, ObjectRef } from '../../rpc/messages.ts'
import type { Define } from '../commandform.ts'
import { examples, fileOption, namespaceOption, serverOption } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError, withClient } from '../context.ts'
import { parseDurationMs } from '../durations.ts'
import { Failures } from '../errors.ts'
import { readManifests } from '../files.ts'
import { kindOf, refOf, refsOf } from '../targets.ts'

export interface DeleteFlags {
  readonly server?: string
  readonly namespace?: string
  readonly filename?: readonly string[]
  readonly recursive?: boolean
  readonly all?: boolean
  readonly selector?: string
  readonly wait?: boolean
  readonly timeout?: string
  readonly cascade?: string
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
    .option('--no-wait', 'return at once')
    .option('--timeout <duration>', 'how long to wait; 0: as long as it takes', '0')
    .option('--cascade <background|foreground|orphan>', 'what becomes of the objects below', 'background')
    .option('--ignore-not-found', 'a missing object is no error')
    .option('--dry-run <none|server>', 'only say what would happen', 'none')
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
    const leaving: Leaving[] = []
    for (const { ref, file } of doomed) {
      const during = file === undefined ? undefined : `error when deleting "${file}"`
      const reply = await failures.attempt(() => deleteOne(client, { ref, ...options }, flags), during)
      if (reply === undefined) continue
      cli.terminal.out(deletedText(ref, flags))
      if (!reply.gone && options.dryRun !== true) leaving.push({ ref, uid: reply.object.metadata.uid })
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

function optionsOf(flags: DeleteFlags): Pick<DeleteRequest, 'propagation' | 'dryRun'> {
  const propagation = cascades[(flags.cascade ?? 'background') as keyof typeof cascades]
  if (propagation === undefined)
    throw new CliError(`invalid cascade value (${flags.cascade}). Must be "background", "foreground", or "orphan"`)
  const dryRun = flags.dryRun ?? 'none'
  if (dryRun !== 'none' && dryRun !== 'server')
    throw new CliError(`invalid dry-run value (${dryRun}). Must be "none" or "server"`)
  if (flags.output !== undefined && flags.output !== 'name')
    throw new CliError(`unexpected -o output mode: ${flags.output}. We only support '-o name'`)
  return { propagation, dryRun: dryRun === 'server' }
}

const deleteOne = (client: Client, request: DeleteRequest, flags: DeleteFlags) =>
  client.delete(request).catch((error: unknown) => {
    if (flags.ignoreNotFound && isOpError(error, 'NotFound')) return undefined
    throw error
  })

function deletedText(ref: ObjectRef, flags: DeleteFlags): string {
  const name = qualifiedName(ref.kind, ref.name)
  if (flags.output === 'name') return `${name}\n`
  const where = kinds[ref.kind].namespaced ? ` from ${ref.namespace} namespace` : ''
  return `${name.replace('/', ' "')}" deleted${where}${flags.dryRun === 'server' ? ' (server dry run)' : ''}\n`
}

async function doomedOf(
  cli: Cli,
  client: Client,
  words: readonly string[],
  flags: DeleteFlags,
): Promise<readonly Doomed[]> {
  if (flags.filename === undefined) return (await refsOf(client, words, 'delete', flags)).map((ref) => ({ ref }))
  if (words.length > 0 || flags.all || flags.selector !== undefined)
    throw new CliError('when files are given with -f, neither names nor --all nor a selector may be')
  const located = await readManifests(cli, flags.filename, flags.recursive === true)
  return located.map(({ manifest: { kind, metadata }, file }) => ({
    ref: refOf(kindOf(kind), metadata.name, metadata.namespace ?? flags.namespace),
    file,
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
