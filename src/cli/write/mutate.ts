/** What label, annotate, taint and patch share: which objects, one patch for each, a sentence that says what became of it. */
import type { Command } from 'commander'
import { qualifiedName } from '../../api/kinds.ts'
import type { MctlObject } from '../../api/meta.ts'
import { isOpError } from '../../lib/errors.ts'
import type { Client, ObjectRef, WriteReply } from '../../rpc/messages.ts'
import { fileOption } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError, withClient } from '../context.ts'
import { Failures } from '../errors.ts'
import { dryRunOf, dryRunSuffix } from '../flags.ts'
import { outputOf } from '../printers/output.ts'
import { withoutManagers } from '../printers/render.ts'
import type { TargetFlags } from '../targets.ts'
import { refsOf } from '../targets.ts'

export interface MutateFlags extends TargetFlags {
  readonly server?: string
  readonly all?: boolean
  readonly selector?: string
  readonly fieldSelector?: string
  readonly dryRun?: string
  readonly output?: string
  readonly fieldManager?: string
  readonly resourceVersion?: string
}

/** Which of a kind's objects. */
export const addSelection = (command: Command): Command =>
  command
    .option('--all', 'all objects of the type')
    .option('-l, --selector <labels>', 'only objects with these labels')
    .option('--field-selector <fields>', 'only objects with these fields')
    .option('--resource-version <version>', 'only if the object still stands at this version')

/** How a change is made, and how it is told. */
export const addWriting = (command: Command): Command =>
  command
    .option('--dry-run <none|client|server>', 'only say what would happen', 'none')
    .option('--field-manager <name>', 'who owns the fields', 'mctl')
    .option('-o, --output <format>', 'yaml, json or name')

export const addFiles = (command: Command): Command =>
  command.addOption(fileOption()).option('-R, --recursive', 'also the folders below')

/** One object's change; absent patch: nothing is to be sent. */
export interface Change {
  readonly type: 'merge' | 'json'
  readonly patch?: unknown
  /** Only on the object as it was read: for lists, which a patch replaces whole. */
  readonly asRead?: boolean
  /** `labeled`, given whether the object changed. */
  readonly sentence: (changed: boolean) => string
}

/** Changes every object that the words, files or flags name. `needsObject`: the change looks at the object first. */
export async function mutate(
  cli: Cli,
  verb: string,
  words: readonly string[],
  flags: MutateFlags,
  changeOf: (object: MctlObject) => Change,
): Promise<number> {
  dryRunOf(flags.dryRun)
  const output = await outputOf(cli, flags.output)
  return withClient(cli, flags.server, async (client) => {
    const refs = await refsOf(cli, client, words, verb, flags)
    if (refs.length === 0) throw new CliError('no objects passed to ' + verb)
    if (refs.length > 1 && flags.resourceVersion !== undefined)
      throw new CliError('--resource-version may only be used with a single resource')
    const failures = new Failures(cli)
    for (const ref of refs)
      await failures.attempt(async () => {
        const { object, sentence } = await mutateOne(client, ref, flags, changeOf)
        if (output.form === 'Name') cli.terminal.out(`${qualifiedName(ref.kind, ref.name)}\n`)
        else if (output.form === 'Text') cli.terminal.out(output.print(withoutManagers(object)))
        else cli.terminal.out(`${qualifiedName(ref.kind, ref.name)} ${sentence}${dryRunSuffix(flags.dryRun)}\n`)
      })
    return failures.exitCode
  })
}

const TRIES = 5

type Mutated = { readonly object: MctlObject; readonly sentence: string }

/** Reads and writes again when somebody else wrote in between, unless a version was asked for. */
async function mutateOne(
  client: Client,
  ref: ObjectRef,
  flags: MutateFlags,
  changeOf: (object: MctlObject) => Change,
): Promise<Mutated> {
  for (let tried = 1; ; tried++)
    try {
      return await tryOnce(client, ref, flags, changeOf)
    } catch (error) {
      if (!isOpError(error, 'Conflict') || flags.resourceVersion !== undefined || tried >= TRIES) throw error
    }
}

async function tryOnce(
  client: Client,
  ref: ObjectRef,
  flags: MutateFlags,
  changeOf: (object: MctlObject) => Change,
): Promise<Mutated> {
  const { object } = await client.get({ ref })
  const { patch, type, asRead, sentence } = changeOf(object)
  if (patch === undefined) return { object, sentence: sentence(false) }
  if (flags.dryRun === 'client') return { object, sentence: sentence(true) }
  const { uid } = object.metadata
  const resourceVersion = flags.resourceVersion ?? (asRead ? object.metadata.resourceVersion : undefined)
  const reply: WriteReply = await client.patch({
    ref,
    type,
    patch,
    options: { fieldManager: flags.fieldManager ?? 'mctl', dryRun: flags.dryRun === 'server' },
    preconditions: { uid, ...(resourceVersion === undefined ? {} : { resourceVersion }) },
  })
  return { object: reply.object, sentence: sentence(reply.result !== 'unchanged') }
}
