/** `mctl apply -f`: says what is wanted. Everything is read and checked first; one bad file changes nothing. */
import type { KindName } from '../../api/kinds.ts'
import { qualifiedName } from '../../api/kinds.ts'
import type { Manifest, MctlObject } from '../../api/meta.ts'
import { DEFAULT_NAMESPACE } from '../../api/meta.ts'
import type { LocatedManifest } from '../../api/yaml.ts'
import type { Client, WriteReply } from '../../rpc/messages.ts'
import type { Define } from '../commandform.ts'
import { examples, fileOption, namespaceOption, serverOption } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError, withClient } from '../context.ts'
import { Failures } from '../errors.ts'
import { dryRunOf, dryRunSuffix } from '../flags.ts'
import { unknownForm } from '../printers/output.ts'
import { render, withoutManagers } from '../printers/render.ts'
import { liveOf, sidesOf, unifiedDiff } from './compare.ts'
import type { ManifestFlags } from './manifests.ts'
import { checkFileWords, nameOf, send, wantedIn } from './manifests.ts'
import type { OpenedSet } from './prune.ts'
import { asMember, leftOver, openSet, prune, writeSet } from './prune.ts'

export interface ApplyFlags extends ManifestFlags {
  readonly server?: string
  readonly dryRun?: string
  readonly output?: string
  readonly diff?: boolean
  readonly prune?: boolean
  readonly applyset?: string
  readonly wait?: boolean
  readonly timeout?: string
}

const outputs = ['name', 'json', 'yaml']

export const defineApply: Define = (command, cli, done) => {
  command
    .argument('[words...]')
    .usage('-f FILE [options]')
    .addOption(serverOption())
    .addOption(fileOption())
    .addOption(namespaceOption())
    .option('-R, --recursive', 'also the folders below')
    .option('--dry-run <none|client|server>', 'only say what would happen', 'none')
    .option('--diff', 'show of each object what changes')
    .option('--prune', 'delete what was applied with the same --applyset before, and is no more')
    .option('--applyset <name>', 'the set of objects that are applied together')
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
        'mctl apply -f manifests/demo/pipeline.yaml --diff',
        'mctl apply -f manifests/demo/pipeline.yaml --wait',
      ),
    )
    .action(async (words: string[], flags: ApplyFlags) => done(await apply(cli, words, flags)))
}

export async function apply(cli: Cli, words: readonly string[], flags: ApplyFlags): Promise<number> {
  checkFlags(words, flags)
  const wanted = await wantedIn(cli, flags)
  if (flags.dryRun === 'client') {
    for (const { manifest } of wanted) cli.terminal.out(`${nameOf(manifest)} valid (dry run)\n`)
    return 0
  }
  const exitCode = await withClient(cli, flags.server, (client) =>
    flags.applyset === undefined
      ? applyAll(cli, client, wanted, flags)
      : applySet(cli, client, wanted, { ...flags, applyset: flags.applyset }),
  )
  if (exitCode !== 0 || !flags.wait || flags.dryRun === 'server') return exitCode
  return waitForReady(
    cli,
    wanted.map(({ manifest }) => manifest),
    flags,
  )
}

function checkFlags(words: readonly string[], flags: ApplyFlags): void {
  checkFileWords(words, flags)
  dryRunOf(flags.dryRun)
  if (flags.output !== undefined && !outputs.includes(flags.output)) throw unknownForm(flags.output, outputs)
  if (flags.prune && flags.applyset === undefined)
    throw new CliError(
      '--prune needs --applyset NAME: the name of the set whose objects are applied together, and go when they are applied no more',
    )
}

async function applyAll(
  cli: Cli,
  client: Client,
  wanted: readonly LocatedManifest[],
  flags: ApplyFlags,
  set?: OpenedSet,
): Promise<number> {
  const failures = new Failures(cli)
  const dryRun = flags.dryRun === 'server'
  for (const { manifest, file } of wanted) {
    const applying = async () => {
      const object = set === undefined ? manifest : await asMember(client, set, manifest, flags.forceConflicts === true)
      const live = flags.diff ? await liveOf(client, manifest) : undefined
      return { live, reply: await send(client, object, flags, { dryRun, file }) }
    }
    const applied = await failures.attempt(applying, `error when applying "${file}"`)
    if (applied !== undefined) await print(cli, applied.reply, applied.live, flags)
  }
  return failures.exitCode
}

/** Widened, applied, pruned, narrowed: in this order nothing is lost sight of, wherever it breaks off. */
async function applySet(
  cli: Cli,
  client: Client,
  wanted: readonly LocatedManifest[],
  flags: ApplyFlags & { readonly applyset: string },
): Promise<number> {
  const dryRun = flags.dryRun === 'server'
  const manifests = wanted.map(({ manifest }) => manifest)
  const set = await openSet(client, flags.applyset, flags.namespace)
  if (!dryRun) await writeSet(client, set, manifests, true)
  const exitCode = await applyAll(cli, client, wanted, flags, set)
  if (exitCode !== 0 || !flags.prune) {
    if (flags.prune) cli.terminal.err('nothing was pruned: not everything could be applied\n')
    return exitCode
  }
  const failures = new Failures(cli)
  for (const object of await leftOver(client, set, manifests)) {
    const name = qualifiedName(object.kind as KindName, object.metadata.name)
    const pruned = await failures.attempt(
      () => prune(client, object, dryRun).then(() => true),
      `error when pruning ${name}`,
    )
    if (pruned) cli.terminal.out(`${name}${flags.output === 'name' ? '' : ` pruned${dryRunSuffix(flags.dryRun)}`}\n`)
  }
  if (!dryRun && failures.exitCode === 0) await writeSet(client, set, manifests, false)
  return failures.exitCode
}

async function print(cli: Cli, reply: WriteReply, live: MctlObject | undefined, flags: ApplyFlags): Promise<void> {
  const { object, result } = reply
  const name = qualifiedName(object.kind as KindName, object.metadata.name)
  for (const warning of reply.warnings ?? []) cli.terminal.err(`Warning: ${warning}\n`)
  if (flags.output === 'name') cli.terminal.out(`${name}\n`)
  else if (flags.output !== undefined) cli.terminal.out(render(withoutManagers(object), flags.output))
  else cli.terminal.out(`${name} ${result}${dryRunSuffix(flags.dryRun)}\n`)
  if (flags.diff) cli.terminal.out(await unifiedDiff(sidesOf(live, object)))
}

async function waitForReady(cli: Cli, manifests: readonly Manifest[], flags: ApplyFlags): Promise<number> {
  const { wait } = await import('../follow/wait.ts')
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
