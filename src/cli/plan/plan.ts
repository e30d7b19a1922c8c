/** `mctl plan -f FILE`: would it fit, where, how fast, and why not otherwise; nothing is written, with --nodes no server is asked. */
import { applyDefaults } from '../../api/default.ts'
import type { Model } from '../../api/model.ts'
import type { ModelDeployment } from '../../api/modeldeployment.ts'
import type { Node } from '../../api/node.ts'
import type { Manifest } from '../../api/meta.ts'
import type { PlanReport } from '../../planner/report.ts'
import { planReport } from '../../planner/report.ts'
import { Option } from 'commander'
import type { Define } from '../commandform.ts'
import { collect, examples, fileOption, serverOption } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError, withClient } from '../context.ts'
import { readValidManifests } from '../files.ts'
import { render } from '../printers/render.ts'
import { printPlan } from './print.ts'

export interface PlanFlags {
  readonly server?: string
  readonly filename?: readonly string[]
  readonly nodes?: readonly string[]
  readonly independent?: boolean
  readonly recursive?: boolean
  readonly output?: string
}

export const definePlan: Define = (command, cli, done) => {
  command
    .addOption(serverOption())
    .addOption(fileOption())
    .addOption(
      new Option('--nodes <path>', 'plan offline on the Nodes of this file; no server is asked').argParser(collect),
    )
    .option('-R, --recursive', 'also the folders below')
    .option('--independent', 'plan each deployment as if it were alone')
    .option('-o, --output <format>', 'wide, json or yaml')
    .addHelpText(
      'after',
      examples('mctl plan -f manifests/experiments/qwen-32b.yaml --nodes manifests/experiments/nodes.yaml'),
    )
    .action(async (flags: PlanFlags) => done(await plan(cli, flags)))
}

export async function plan(cli: Cli, flags: PlanFlags): Promise<number> {
  if (flags.filename === undefined) throw new CliError('must specify -f FILE with the ModelDeployments to plan')
  if (flags.output !== undefined && !['json', 'yaml', 'wide'].includes(flags.output))
    throw new CliError(
      `unable to match a printer suitable for the output format "${flags.output}", allowed formats are: json,yaml,wide`,
    )
  const manifests = (await readValidManifests(cli, flags.filename, flags.recursive === true)).map((m) =>
    applyDefaults(m.manifest),
  )
  if (!manifests.some((m) => m.kind === 'ModelDeployment'))
    throw new CliError(`${flags.filename.join(', ')} holds no ModelDeployment`)
  const report =
    flags.nodes === undefined
      ? await planOnServer(cli, manifests, flags)
      : await planOffline(cli, manifests, flags, flags.nodes)
  if (flags.output === 'json' || flags.output === 'yaml') cli.terminal.out(render(report, flags.output))
  else printPlan(cli.terminal, report, flags.output === 'wide')
  return report.items.every((item) => item.schedulable) ? 0 : 1
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
