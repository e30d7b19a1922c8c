/** `mctl apply -f`: says what is wanted. Everything is read and checked first; one bad file changes nothing. */
import type { KindName } from '../../api/kinds.ts'
import { kinds, qualifiedName } from '../../api/kinds.ts'
import type { Manifest } from '../../api/meta.ts'
import { DEFAULT_NAMESPACE } from '../../api/meta.ts'
import type { LocatedManifest } from '../../api/yaml.ts'
import { isOpError } from '../../lib/errors.ts'
import type { Client, WriteReply } from '../../rpc/messages.ts'
import type { Define } from '../commandform.ts'
import { examples, fileOption, namespaceOption, serverOption } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError, withClient } from '../context.ts'
import { Failures } from '../errors.ts'
import { readManifests, readValidManifests } from '../files.ts'
import { render, withoutManagers } from '../printers/render.ts'
import { wait } from '../follow/wait.ts'

export interface ApplyFlags {
  readonly server?: string
  readonly namespace?: string
  /** false: it is the context's. */
  readonly namespaceGiven?: boolean
  readonly filename?: readonly string[]
  readonly recursive?: boolean
  readonly dryRun?: string
  readonly forceConflicts?: boolean
  readonly fieldManager?: string
  readonly validate?: string
  readonly output?: string
  readonly wait?: boolean
  readonly timeout?: string
}

const outputs = ['name', 'json', 'yaml']
type FieldValidation = 'Strict' | 'Warn' | 'Ignore'
/** What becomes of unknown fields. */
const validations: Readonly<Record<string, FieldValidation>> = {
  strict: 'Strict',
  true: 'Strict',
  warn: 'Warn',
  ignore: 'Ignore',
  false: 'Ignore',
}

export const defineApply: Define = (command, cli, done) => {
  command
    .argument('[words...]')
    .usage('-f FILE [options]')
    .addOption(serverOption())
    .addOption(fileOption())
    .addOption(namespaceOption())
    .option('-R, --recursive', 'also the folders below')
    .option('--dry-run <none|client|server>', 'only say what would happen', 'none')
    .option('--server-side', 'always on: mctl applies on the server')
    .option('--force-conflicts', 'take over fields that another manager owns')
    .option('--field-manager <name>', 'who owns the fields', 'mctl')
    .option('--validate <strict|warn|ignore>', 'unknown fields are errors, told, or left out in silence', 'strict')
    .option('-o, --output <format>', 'name, json or yaml')
    .option('--wait', 'until every ModelDeployment is Ready')
    .option('--timeout <duration>', 'for --wait', '10m')
    .addHelpText(
      'after',
      examples(
        'mctl apply -f manifests/demo/pipeline.yaml --dry-run=server',
        'mctl apply -f manifests/demo/pipeline.yaml --wait',
      ),
    )
    .action(async (words: string[], flags: ApplyFlags) => done(await apply(cli, words, flags)))
}

export async function apply(cli: Cli, words: readonly string[], flags: ApplyFlags): Promise<number> {
  checkFlags(words, flags)
  const validation = validations[flags.validate ?? 'strict'] ?? 'Strict'
  const read = validation === 'Strict' ? readValidManifests : readManifests
  const located = await read(cli, flags.filename ?? [], flags.recursive === true)
  const wanted = located.map((one) => ({ ...one, manifest: inNamespace(one, flags) }))
  if (flags.dryRun === 'client') {
    for (const { manifest } of wanted) cli.terminal.out(`${nameOf(manifest)} valid (dry run)\n`)
    return 0
  }
  const failures = new Failures(cli)
  await withClient(cli, flags.server, async (client) => {
    for (const { manifest, file } of wanted) {
      const applying = () => send(client, manifest, validation, flags).catch(conflictIn(manifest, file))
      const reply = await failures.attempt(applying, `error when applying "${file}"`)
      if (reply !== undefined) print(cli, reply, flags)
    }
  })
  if (failures.exitCode !== 0 || !flags.wait || flags.dryRun === 'server') return failures.exitCode
  const manifests = wanted.map(({ manifest }) => manifest)
  return waitForReady(cli, manifests, flags)
}

function checkFlags(words: readonly string[], flags: ApplyFlags): void {
  if (words.length > 0)
    throw new CliError(`Unexpected args: [${words.join(' ')}]; files are given with -f, one -f for each`)
  if (flags.filename === undefined)
    throw new CliError('must specify -f FILE (a file, a directory, or - for standard input)')
  if (!['none', 'client', 'server'].includes(flags.dryRun ?? 'none'))
    throw new CliError(`invalid dry-run value (${flags.dryRun}). Must be "none", "server", or "client"`)
  if (!Object.hasOwn(validations, flags.validate ?? 'strict'))
    throw new CliError(
      `invalid - validate option "${flags.validate}"; must be one of: strict (or true), warn, ignore (or false)`,
    )
  if (flags.output !== undefined && !outputs.includes(flags.output))
    throw new CliError(
      `unable to match a printer suitable for the output format "${flags.output}", allowed formats are: ${outputs.join(',')}`,
    )
}

const nameOf = (manifest: Manifest) => qualifiedName(manifest.kind as KindName, manifest.metadata.name)

/** A namespace that was asked for must be the manifest's; that of the context only stands in for a missing one. */
function inNamespace({ manifest, file, lineOf }: LocatedManifest, flags: ApplyFlags): Manifest {
  if (!kinds[manifest.kind as KindName].namespaced) return manifest
  const own = manifest.metadata.namespace
  const { namespace, namespaceGiven = namespace !== undefined } = flags
  if (own !== undefined && namespaceGiven && own !== namespace)
    throw new CliError(
      `${file}:${lineOf('metadata.namespace')}: the namespace from the provided object "${own}" does not match the namespace "${namespace ?? ''}". You must pass '--namespace=${own}' to perform this operation.`,
    )
  return { ...manifest, metadata: { ...manifest.metadata, namespace: own ?? namespace ?? DEFAULT_NAMESPACE } }
}

async function send(
  client: Client,
  object: Manifest,
  fieldValidation: FieldValidation,
  flags: ApplyFlags,
): Promise<WriteReply> {
  return client.apply({
    object,
    force: flags.forceConflicts === true,
    options: {
      dryRun: flags.dryRun === 'server',
      fieldManager: flags.fieldManager ?? 'mctl',
      fieldValidation,
    },
  })
}

/** The store says who holds which fields; a person needs to know of what, and what to do. */
const conflictIn =
  ({ kind, metadata }: Manifest, file: string) =>
  (error: unknown): never => {
    if (!isOpError(error, 'Conflict') || !error.message.startsWith('Apply failed with')) throw error
    throw new CliError(`${error.message}
Other managers hold these fields of the ${kind} "${metadata.name}" of ${file} with another value. You can
* take them over: apply again with --force-conflicts;
* leave them to the others: remove the fields from your manifest;
* share them: write the value that they have now.`)
  }

function print(cli: Cli, reply: WriteReply, flags: ApplyFlags): void {
  const { object, result } = reply
  const name = qualifiedName(object.kind as KindName, object.metadata.name)
  for (const warning of reply.warnings ?? []) cli.terminal.err(`Warning: ${warning}\n`)
  if (flags.output === 'name') cli.terminal.out(`${name}\n`)
  else if (flags.output !== undefined) cli.terminal.out(render(withoutManagers(object), flags.output))
  else cli.terminal.out(`${name} ${result}${flags.dryRun === 'server' ? ' (server dry run)' : ''}\n`)
}

async function waitForReady(cli: Cli, manifests: readonly Manifest[], flags: ApplyFlags): Promise<number> {
  const codes: number[] = []
  for (const { kind, metadata } of manifests) {
    if (kind !== 'ModelDeployment') continue
    const code = await wait(cli, [`modeldeployment/${metadata.name}`], {
      for: 'condition=Ready',
      timeout: flags.timeout ?? '10m',
      namespace: metadata.namespace ?? DEFAULT_NAMESPACE,
      hopeless: ['LoadFailed'],
      ...(flags.server === undefined ? {} : { server: flags.server }),
    })
    codes.push(code)
  }
  return Math.max(0, ...codes)
}
