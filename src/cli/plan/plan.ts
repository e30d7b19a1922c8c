/** `mctl plan -f FILE` or `mctl plan md/NAME`: would it fit, where, how fast, and why not otherwise; nothing is written, with --nodes no server is asked. */
import { applyDefaults } from '../../api/default.ts'
import type { Model } from '../../api/model.ts'
import type { ModelDeployment } from '../../api/modeldeployment.ts'
import type { Node } from '../../api/node.ts'
import { kinds } from '../../api/kinds.ts'
import type { Manifest, MctlObject } from '../../api/meta.ts'
import type { PlanReport } from '../../planner/report.ts'
import { planReport } from '../../planner/report.ts'
import { Option } from 'commander'
import type { Define } from '../commandform.ts'
import { collect, examples, fileOption, namespaceOption, serverOption } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError, withClient } from '../context.ts'
import { readValidManifests } from '../files.ts'
import { render } from '../printers/render.ts'
import { refsOf, targetsOf } from '../targets.ts'
import { printPlan } from './print.ts'

export interface PlanFlags {
  readonly server?: string
  readonly namespace?: string
  readonly filename?: readonly string[]
  readonly nodes?: readonly string[]
  readonly independent?: boolean
  readonly recursive?: boolean
  readonly output?: string
}

export const definePlan: Define = (command, cli, done) => {
  command
    .argument('[words...]')
    .usage('(-f FILE | md/NAME...) [options]')
    .addOption(serverOption())
    .addOption(namespaceOption())
    .addOption(fileOption())
    .addOption(
      new Option('--nodes <path>', 'plan offline on the Nodes of this file; no server is asked').argParser(collect),
    )
    .option('-R, --recursive', 'also the folders below')
    .option('--independent', 'plan each deployment as if it were alone')
    .option('-o, --output <format>', 'wide, json or yaml')
    .addHelpText(
      'after',
      examples(
        'mctl plan -f manifests/experiments/qwen-32b.yaml --nodes manifests/experiments/nodes.yaml',
        'mctl plan md/smollm2-pipeline',
      ),
    )
    .action(async (words: string[], flags: PlanFlags) => done(await plan(cli, words, flags)))
}

export async function plan(cli: Cli, words: readonly string[], flags: PlanFlags): Promise<number> {
  if (flags.output !== undefined && !['json', 'yaml', 'wide'].includes(flags.output))
    throw new CliError(
      `unable to match a printer suitable for the output format "${flags.output}", allowed formats are: json,yaml,wide`,
    )
  const manifests = flags.filename === undefined ? await standing(cli, words, flags) : await inFiles(cli, words, flags)
  const report =
    flags.nodes === undefined
      ? await planOnServer(cli, manifests, flags)
      : await planOffline(cli, manifests, flags, flags.nodes)
  if (flags.output === 'json' || flags.output === 'yaml') cli.terminal.out(render(report, flags.output))
  else printPlan(cli.terminal, report, flags.output === 'wide')
  return report.items.every((item) => item.schedulable) ? 0 : 1
}

async function inFiles(cli: Cli, words: readonly string[], flags: PlanFlags): Promise<readonly Manifest[]> {
  if (words.length > 0) throw new CliError('when files are given with -f, names may not be')
  const { filename = [] } = flags
  const manifests = (await readValidManifests(cli, filename, flags.recursive === true)).map((m) =>
    applyDefaults(m.manifest),
  )
  if (!manifests.some((m) => m.kind === 'ModelDeployment'))
    throw new CliError(`${filename.join(', ')} holds no ModelDeployment`)
  return manifests
}

/** Deployments as they stand, planned anew: for one that finds no place, what each node lacks and what would fit. */
async function standing(cli: Cli, words: readonly string[], flags: PlanFlags): Promise<readonly Manifest[]> {
  if (words.length === 0) throw new CliError('must specify -f FILE with the ModelDeployments to plan, or md/NAME')
  if (flags.nodes !== undefined)
    throw new CliError('--nodes plans offline, without the cluster: give the ModelDeployments with -f, too')
  const targets = targetsOf(words, 'plan')
  const other = targets.find(({ kind }) => kind !== 'ModelDeployment')
  if (other !== undefined) throw new CliError(`a ${kinds[other.kind].singular} is not planned: give md/NAME`)
  return withClient(cli, flags.server, async (client) => {
    const refs = await refsOf(cli, client, words, 'plan', flags)
    const replies = await Promise.all(refs.map((ref) => client.get({ ref })))
    return replies.map(({ object }) => {
      const { apiVersion, kind, metadata, spec } = object as MctlObject & { readonly spec: unknown }
      const { name, namespace, labels } = metadata
      return { apiVersion, kind, metadata: { name, namespace, labels }, spec } as Manifest
    })
  })
}

const planOnServer = (cli: Cli, objects: readonly Manifest[], flags: PlanFlags): Promise<PlanReport> =>
  withClient(
    cli,
    flags.server,
    async (client) => (await client.plan({ objects, independent: flags.independent === true })).report as PlanReport,
  )

/** From manifests alone: thin Nodes and shape-only Models are enough, and either file may hold the Models. */
async function planOffline(
  cli: Cli,
  manifests: readonly Manifest[],
  flags: PlanFlags,
  nodeFiles: readonly string[],
): Promise<PlanReport> {
  const beside = (await readValidManifests(cli, nodeFiles, flags.recursive === true)).map((m) =>
    applyDefaults(m.manifest),
  )
  const all = withoutRepeats([...manifests, ...beside])
  // Schema-valid and defaulted, so they have the shape of their kinds; server-made metadata is not looked at offline.
  const ofKind = <T>(kind: string) => all.filter((m) => m.kind === kind) as unknown as readonly T[]
  const nodes = ofKind<Node>('Node')
  if (nodes.length === 0) cli.terminal.err(`Warning: ${nodeFiles.join(', ')} holds no Node\n`)
  return planReport({
    nodes,
    models: ofKind<Model>('Model'),
    deployments: ofKind<ModelDeployment>('ModelDeployment'),
    independent: flags.independent === true,
  })
}

/** A folder given with -f may hold the nodes file, too: the same object twice is one; two different ones are a mistake. */
function withoutRepeats(manifests: readonly Manifest[]): readonly Manifest[] {
  const byKey = new Map<string, Manifest>()
  for (const manifest of manifests) {
    const key = `${manifest.kind} "${manifest.metadata.name}"`
    const first = byKey.get(key)
    if (first !== undefined && JSON.stringify(first) !== JSON.stringify(manifest))
      throw new CliError(`${key} is given twice with different content`)
    byKey.set(key, manifest)
  }
  return [...byKey.values()]
}
